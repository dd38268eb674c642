"""The space of real-time segmenters: texts, faults, counts, samples, neighbours."""

from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from proxygraph.errors import ConfigError
from segspace.rtseg.arch import OPS, PRESETS, Arch, Layer, Preset
from segspace.rtseg.blocks import BLOCKS
from segspace.rtseg.program import program
from segspace.rtseg.space import Space

SEEDS = st.integers(0, 2**32)
SPACES = st.sampled_from([Space(preset) for preset in PRESETS.values()])
TINY = Space.preset("tiny")


def small(widths: tuple[int, ...], layers: int, longest: int) -> Space:
    return Space(Preset("small", widths, (8, 8, 8), 8, layers, longest))


@given(SPACES, SEEDS, st.booleans())
def test_text_round_trip(space: Space, seed: int, diverse: bool) -> None:
    rng = np.random.default_rng(seed)
    arch = space.diverse(rng) if diverse else space.sample(rng)
    assert Arch.parse(str(arch)) == arch
    assert hash(Arch.parse(str(arch))) == hash(arch)
    deep, detail = arch.scales
    assert 8 <= detail < deep <= 32


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "expected rtseg:PRESET:TRUNK-DEEP-DETAIL"),
        ("rtseg:tiny:c2-C2", "expected rtseg:PRESET"),
        ("rtseg:tiny:c2-C2-i1\n", "expected rtseg:PRESET"),
        ("rtseg:huge:c2-C2-0", "no preset 'huge'; known: tiny, base"),
        ("rtseg:tiny:c-C2-0", "trunk 'c': expected pairs of a letter and a digit"),
        ("rtseg:tiny:c2-C2-0c1", "detail '0c1': expected pairs"),
        (
            "rtseg:tiny:q2-C2-0",
            "layer q2 of trunk: expected a letter of s, c, d, z, y, i and a width from 0 to 4",
        ),
        ("rtseg:tiny:c2-C5-0", "layer C5 of deep: expected"),
        ("rtseg:tiny:0-c2-0", "deep ends at 1/8: expected coarser than detail, 1/8"),
        ("rtseg:tiny:C2-C2-C2", "deep ends at 1/32: expected coarser than detail, 1/32"),
        ("rtseg:tiny:C2-C2C2-0", "deep ends at 1/64, the coarsest scale is 1/32"),
        ("rtseg:tiny:c1s1-C2-0", "layer s1 of trunk (position 1) is an identity: leave it out"),
        ("rtseg:tiny:0-s2C2-0", "layer s2 of deep (position 0) is an identity"),
        ("rtseg:tiny:c1c1c1c1c1c1c1-C2-0", "trunk has 7 layers, the preset allows 6"),
        ("rtseg:tiny:c1c1c1c1c1-C2c1c1c1c1-c1c1c1", "13 layers, the preset allows 12"),
    ],
)
def test_faults_are_named(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        Arch.parse(text)
    assert fault in str(error.value)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": "Tiny"}, "lower-case"),
        ({"widths": (16, 8)}, "ascending"),
        ({"widths": (8, 12)}, "multiples of 8"),
        ({"head": 0}, "multiples of 8"),
        ({"stem": (8, 8, 24)}, "last width 24 is not one of"),
        ({"longest": 4}, "longest"),
    ],
)
def test_bad_presets_are_refused(change: dict[str, object], fault: str) -> None:
    good = {"name": "p", "widths": (8, 16), "stem": (8, 8, 16), "head": 8, "layers": 3, "longest": 2}
    Preset(**good)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=fault):
        Preset(**{**good, **change})  # type: ignore[arg-type]


def test_every_operator_has_a_block() -> None:
    assert set(OPS.values()) <= set(BLOCKS)
    with pytest.raises(ConfigError, match="no preset 'huge'"):
        Space.preset("huge")


def test_identities_are_left_out() -> None:
    plain = Arch.parse("rtseg:tiny:c1-C3-0")
    (c1,), (c3,), () = plain.paths
    s1, s3 = Layer("s", 1), Layer("s", 3)
    # the stem ends in 24 channels, width number 2
    assert Arch.of(plain.preset, [[Layer("s", 2), c1, s1], [s1, s1, c3, s3], [s1]]) == plain
    assert len(program(plain, (64, 64), 5).steps) == 3 + 2 + 4


@pytest.mark.parametrize(("widths", "layers", "longest"), [((8,), 2, 2), ((8, 16), 2, 1), ((8, 16), 2, 2)])
def test_count_by_trying_everything(widths: tuple[int, ...], layers: int, longest: int) -> None:
    space = small(widths, layers, longest)
    every = [Layer(*choice) for choice in product(OPS, range(len(widths)), (False, True))]
    valid = set()
    for n in range(layers + 1):
        for a, b in combinations_with_replacement(range(n + 1), 2):
            for chosen in product(every, repeat=n):
                try:
                    valid.add(Arch(space.settings, chosen[:a], chosen[a:b], chosen[b:]))
                except ConfigError:
                    continue
    assert space.count() == len(valid)
    assert set(space.archs()) == valid


def test_count_is_that_of_the_enumeration() -> None:
    space = small((8,), 4, 3)
    archs = list(space.archs())
    assert len(set(map(str, archs))) == len(archs) == space.count()


def test_samples_are_uniform() -> None:
    space = small((8,), 2, 2)
    number = {arch: i for i, arch in enumerate(space.archs())}
    rng = np.random.default_rng(0)
    drawn = np.bincount([number[space.sample(rng)] for _ in range(20 * len(number))], minlength=len(number))
    assert chisquare(drawn).pvalue > 1e-3


def test_neighbours_lead_everywhere() -> None:
    space = small((8, 16), 2, 2)
    every = set(space.archs())
    reached = {min(every, key=str)}
    front = list(reached)
    while front:
        new = {b for a in front for b in space.neighbours(a)} - reached
        assert new <= every
        reached |= new
        front = list(new)
    assert reached == every


@settings(max_examples=25)
@given(SPACES, SEEDS)
def test_neighbours_are_valid_and_distinct(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arch = space.diverse(rng)
    near = space.neighbours(arch)
    assert len(set(near)) == len(near)
    assert arch not in near
    assert all(Arch.parse(str(other)) == other for other in near)
    assert space.mutate(arch, rng) in near


@pytest.mark.parametrize(
    ("edit", "neighbour"),
    [
        ("operator", "c1-C3z0-i4"),
        ("width", "c1-D3z1-i4"),
        ("a layer less", "c1-z0D3-i4"),
        ("a layer more", "c1-D3d3z0-i4"),
        ("a halving more", "c1-D3Z0-i4"),
        ("a halving handed on", "c1-d3Z0-i4"),
        ("the trunk's end moved", "0-c1D3z0-c1i4"),
    ],
)
def test_kinds_of_neighbours(edit: str, neighbour: str) -> None:
    other = Arch.parse(f"rtseg:tiny:{neighbour}")
    base = "c1-z1z0D3-i4" if edit == "a layer less" else "c1-D3z0-i4"
    arch = Arch.parse(f"rtseg:tiny:{base}")
    assert other in TINY.neighbours(arch)
    if edit != "a layer less":
        assert arch in TINY.neighbours(other)


def test_stratified_samples_spread_over_cost_and_layers() -> None:
    rng = np.random.default_rng(3)
    archs = TINY.stratified(60, rng, size=(120, 160), classes=11, macs=(5e6, 35e6))
    macs = np.array([program(arch, (120, 160), 11).macs for arch in archs])
    assert len(set(archs)) == 60
    assert macs.min() >= 5e6
    assert macs.max() <= 35e6
    counts, _ = np.histogram(np.log(macs), bins=5, range=(np.log(5e6), np.log(35e6)))
    assert counts.min() >= 6  # uniform: 12
    cheap = sorted({archs[i].n_layers for i in np.argsort(macs)[:30]})
    assert len(cheap) >= 8
    assert archs != TINY.stratified(60, rng, macs=(5e6, 35e6))
    again = TINY.stratified(60, np.random.default_rng(3), size=(120, 160), classes=11, macs=(5e6, 35e6))
    assert archs == again


def test_stratified_samples_that_cannot_be_had() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match=r"0 networks drawn within MACs .*, 5 wanted"):
        TINY.stratified(5, rng, macs=(1e12, 2e12))
    with pytest.raises(ConfigError, match="n = 0"):
        TINY.stratified(0, rng)


def test_crossover_continues_one_parent_by_the_other() -> None:
    """Every child is a network of the space, its layers are the parents', and both parents show."""
    space, rng = Space.preset("tiny"), np.random.default_rng(3)
    mixed = 0
    for _ in range(60):
        one, other = space.diverse(rng), space.diverse(rng)
        child = space.crossover(one, other, rng)
        assert Arch.parse(str(child)) == child
        for path, a, b in zip(child.paths, one.paths, other.paths, strict=True):
            assert set(path) <= {*a, *b}
            assert len(path) <= max(len(a), len(b))
        mixed += child not in (one, other)
    assert mixed > 40
    same = space.diverse(rng)
    assert space.crossover(same, same, rng) == same

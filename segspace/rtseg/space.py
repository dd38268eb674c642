"""The networks of a preset as a set: how many there are, which lie next to each other, and how to draw some.

Networks are grouped by `Shape`: how many layers each path has and how often it halves the resolution. The
number of networks of a shape is a closed form, hence exact counts and exactly uniform samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise, product
from math import comb, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import ConfigError
from segspace.rtseg.arch import MOST_HALVINGS, OPS, PRESETS, Arch, Layer, Preset, fault_of, without_identities
from segspace.rtseg.program import program


class Shape(NamedTuple):
    """Layers and halvings of trunk, deep and detail."""

    lengths: tuple[int, int, int]
    halvings: tuple[int, int, int]


@dataclass(frozen=True)
class Space:
    """All networks of a preset.

    Attributes
    ----------
    settings : Preset
        Widths, stem, head and how many layers there may be.

    Examples
    --------
    >>> space = Space.preset("tiny")
    >>> str(space.sample(np.random.default_rng(0))).startswith("rtseg:tiny:")
    True
    """

    settings: Preset

    @classmethod
    def preset(cls, name: str) -> Space:
        """Return a space by the name of its preset.

        Raises
        ------
        ConfigError
            If there is no such preset.
        """
        if name not in PRESETS:
            raise ConfigError(f"rtseg: no preset {name!r}; known: {', '.join(PRESETS)}")
        return cls(PRESETS[name])

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Every shape that some network has."""
        return tuple(_shapes(self.settings))

    def count(self, shape: Shape | None = None) -> int:
        """Return the exact number of networks, of one shape if it is given."""
        if shape is None:
            return sum(self.count(s) for s in self.shapes)
        # any layer may halve with any operator and width; one that does not is one of all but the identity
        halving = len(OPS) * len(self.settings.widths)
        n_layers, n_halvings = sum(shape.lengths), sum(shape.halvings)
        places = prod(comb(n, d) for n, d in zip(*shape, strict=True))
        keeping: int = (halving - 1) ** (n_layers - n_halvings)
        return places * int(halving**n_halvings) * keeping

    def archs(self) -> Iterator[Arch]:
        """Yield every network once; meant for small presets."""
        for shape in self.shapes:
            marks = product(*(_marks(n, d) for n, d in zip(*shape, strict=True)))
            for paths in marks:
                flat = [down for path in paths for down in path]
                choices = (
                    [Layer(op, w, down) for op, w in product(OPS, range(len(self.settings.widths)))]
                    for down in flat
                )
                for layers in product(*choices):
                    split = _split(layers, shape.lengths)
                    if not fault_of(self.settings, split):
                        yield Arch(self.settings, *split)

    def sample(self, rng: np.random.Generator) -> Arch:
        """Return one network, each with the same probability.

        Nearly all networks have as many layers as the preset allows, and so have nearly all samples; see
        `diverse` and `stratified` for small and large ones alike.
        """
        return self._of_shape(self.shapes[int(rng.choice(len(self.shapes), p=self._weights))], rng)

    def diverse(self, rng: np.random.Generator) -> Arch:
        """Return one network: the number of layers, then the shape, then the layers, each uniformly."""
        n_layers = sorted(self._by_layers)
        shapes = self._by_layers[n_layers[int(rng.integers(len(n_layers)))]]
        return self._of_shape(shapes[int(rng.integers(len(shapes)))], rng)

    def stratified(
        self,
        n: int,
        rng: np.random.Generator,
        *,
        size: tuple[int, int] = (120, 160),
        classes: int = 11,
        strata: int = 10,
        macs: tuple[float, float] = (0, float("inf")),
    ) -> list[Arch]:
        """Return distinct networks spread evenly over cost, and over the number of layers at equal cost.

        A pool of `diverse` networks is cut into strata of equal width in log MACs, from its 1st to its 99th
        percentile; every stratum gives the same number, and gives them from few layers to many.

        Parameters
        ----------
        n : int
            Number of networks.
        rng : Generator
            Draws the pool and the choice from it.
        size : (int, int)
            Height and width of the image for which MACs count.
        classes : int
            Number of classes.
        strata : int
            Number of strata; fewer if `n` is smaller.
        macs : (float, float)
            Least and most MACs.

        Returns
        -------
        list of Arch
            In random order, so that every beginning of it is spread as well.

        Raises
        ------
        ConfigError
            If a number is out of range, or the space has not got that many networks of that cost.
        """
        if n < 1 or strata < 1:
            raise ConfigError(f"stratified sample: n = {n}, strata = {strata}: expected at least 1")
        pool: dict[Arch, int] = {}
        for _ in range(max(1000, 20 * n)):
            arch = self.diverse(rng)
            cost = program(arch, size, classes).macs
            if macs[0] <= cost <= macs[1]:
                pool[arch] = cost
        if len(pool) < n:
            raise ConfigError(f"stratified sample: {len(pool)} networks drawn within MACs {macs}, {n} wanted")
        archs = list(pool)
        logs = np.log(np.array([pool[arch] for arch in archs], np.float64))
        low, high = np.quantile(logs, (0.01, 0.99))
        stratum = np.searchsorted(np.linspace(low, high, min(strata, n) + 1)[1:-1], logs)
        chosen = _spread(stratum, np.array([arch.n_layers for arch in archs], np.int64), n, rng)
        return [archs[i] for i in chosen]

    def neighbours(self, arch: Arch) -> list[Arch]:
        """Return the distinct networks one edit away, `arch` not among them, in a fixed order.

        Edits: another operator for a layer; the next smaller or larger width; a layer more, of any operator
        and the width before it (of a skip, any width); a layer less; a halving given to or taken from a
        layer, or handed to the next or the last one of its path; the last layer of the trunk moved to the
        front of both branches' private layers, or the reverse for branches that begin alike. Skips that
        become identities are left out.
        """
        found: dict[Arch, None] = {}
        for edited in _edits(self.settings, arch):
            paths = without_identities(self.settings, edited)
            if not fault_of(self.settings, paths):
                found[Arch(self.settings, *paths)] = None
        found.pop(arch, None)
        return list(found)

    def mutate(self, arch: Arch, rng: np.random.Generator) -> Arch:
        """Return a neighbour, each with the same probability; `arch` itself if it has none."""
        neighbours = self.neighbours(arch)
        return neighbours[int(rng.integers(len(neighbours)))] if neighbours else arch

    def crossover(self, one: Arch, other: Arch, rng: np.random.Generator) -> Arch:
        """Return a network that continues each path of one parent, from some layer on, as the other does.

        Which parent begins is drawn for every path, as is the layer, so that whole paths are inherited too.
        Skips that become identities are left out. `one` if no network of the space came out in eight draws.
        """
        for _ in range(8):
            paths = []
            for pair in zip(one.paths, other.paths, strict=True):
                first, second = pair if rng.random() < 0.5 else pair[::-1]
                cut = int(rng.integers(max(map(len, pair)) + 1))
                paths.append(first[:cut] + second[cut:])
            child = without_identities(self.settings, paths)
            if not fault_of(self.settings, child):
                return Arch(self.settings, *child)
        return one

    @cached_property
    def _weights(self) -> list[float]:
        total = self.count()
        return [self.count(shape) / total for shape in self.shapes]  # exact integers until here

    @cached_property
    def _by_layers(self) -> dict[int, list[Shape]]:
        groups: dict[int, list[Shape]] = {}
        for shape in self.shapes:
            groups.setdefault(sum(shape.lengths), []).append(shape)
        return groups

    def _of_shape(self, shape: Shape, rng: np.random.Generator) -> Arch:
        """Return a network of this shape, each with the same probability."""
        widths = self.settings.widths
        first = widths.index(self.settings.stem[-1])
        paths: list[tuple[Layer, ...]] = []
        for n, halvings in zip(*shape, strict=True):
            before, path = first, list[Layer]()
            downs = set(rng.choice(n, halvings, replace=False).tolist()) if n else set()
            for i in range(n):
                options = [Layer(op, w, i in downs) for op, w in product(OPS, range(len(widths)))]
                if i not in downs:
                    options.remove(Layer("s", before))
                path.append(options[int(rng.integers(len(options)))])
                before = path[-1].width
            if not paths:
                first = before
            paths.append(tuple(path))
        return Arch(self.settings, *paths)


def _shapes(preset: Preset) -> Iterator[Shape]:
    most = MOST_HALVINGS["deep"]
    n = range(preset.longest + 1)
    for lengths in product(n, n, n):
        if sum(lengths) > preset.layers:
            continue
        trunk, deep, detail = (range(min(length, most) + 1) for length in lengths)
        for halvings in product(trunk, deep, detail):
            if halvings[0] + halvings[1] <= most and halvings[2] < halvings[1]:
                yield Shape(lengths, halvings)


def _marks(n: int, halvings: int) -> list[tuple[bool, ...]]:
    """Return every way to place halvings in a path of n layers."""
    return [tuple(i in chosen for i in range(n)) for chosen in combinations(range(n), halvings)]


def _split(layers: Sequence[Layer], lengths: Sequence[int]) -> list[tuple[Layer, ...]]:
    ends = np.cumsum([0, *lengths]).tolist()
    return [tuple(layers[a:b]) for a, b in pairwise(ends)]


def _spread(
    stratum: NDArray[np.intp], n_layers: NDArray[np.int64], n: int, rng: np.random.Generator
) -> list[int]:
    """Return n places, equally many of each stratum as far as it has them, evenly over n_layers inside."""
    left = {s: rng.permutation(np.flatnonzero(stratum == s)) for s in np.unique(stratum)}
    quota = dict.fromkeys(left, 0)
    while sum(quota.values()) < n:
        open_strata = [s for s in left if quota[s] < len(left[s])]
        for s in rng.permutation(open_strata)[: n - sum(quota.values())].tolist():
            quota[s] += 1
    chosen: list[int] = []
    for s, places in left.items():
        ordered = places[np.argsort(n_layers[places], kind="stable")]
        steps = (np.arange(quota[s]) + 0.5) * len(ordered) / max(1, quota[s])
        chosen += ordered[steps.astype(int)].tolist()
    return [chosen[i] for i in rng.permutation(len(chosen)).tolist()]


def _edits(preset: Preset, arch: Arch) -> Iterator[list[list[Layer]]]:
    """Yield the paths of all edits, valid or not."""
    stem = preset.widths.index(preset.stem[-1])
    for p, path in enumerate(arch.paths):

        def edited(new: Sequence[Layer], p: int = p) -> list[list[Layer]]:
            return [list(new) if q == p else list(old) for q, old in enumerate(arch.paths)]

        for new in _layer_edits(path):
            yield edited(new)
        first = stem if p == 0 or not arch.trunk else arch.trunk[-1].width
        for i in range(len(path) + 1):
            before = path[i - 1].width if i else first
            more = [Layer(op, before) for op in OPS] + [Layer("s", w) for w in range(len(preset.widths))]
            for layer, down in product(more, (False, True)):
                yield edited([*path[:i], layer._replace(down=down), *path[i:]])
    trunk, deep, detail = map(list, arch.paths)
    if trunk:
        yield [trunk[:-1], [trunk[-1], *deep], [trunk[-1], *detail]]
    if deep and detail and deep[0] == detail[0]:
        yield [[*trunk, deep[0]], deep[1:], detail[1:]]


def _layer_edits(path: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Yield the path with one layer changed or dropped, or a halving moved by one."""
    for i, layer in enumerate(path):
        before, after = list(path[:i]), list(path[i + 1 :])
        yield before + after
        for op in OPS:
            yield [*before, layer._replace(op=op), *after]
        for width in (layer.width - 1, layer.width + 1):
            yield [*before, layer._replace(width=width), *after]
        yield [*before, layer._replace(down=not layer.down), *after]
        if after and layer.down != after[0].down:
            swapped = [layer._replace(down=after[0].down), after[0]._replace(down=layer.down)]
            yield [*before, *swapped, *after[1:]]

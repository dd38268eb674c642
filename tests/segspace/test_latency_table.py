"""The table adds up, every operator has a key of its own, and nothing is guessed."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxygraph.errors import ConfigError
from segspace.latency import LatencyTable, Record, Setting
from segspace.latency import build as building
from segspace.latency.build import add_networks, add_pieces, open_table, pieces_of
from segspace.latency.check import check
from segspace.latency.context import Carrier
from segspace.latency.table import FORMAT, network_key
from segspace.rtseg.arch import Arch
from segspace.rtseg.blocks import BLOCKS
from segspace.rtseg.network import build
from segspace.rtseg.pieces import Piece
from segspace.rtseg.program import program
from segspace.rtseg.space import Space
from tests.segspace.latency_fakes import BUSY, OVERHEAD, QUIET, FakeRuntime, FakeTime


def built(path: Path, runtime: FakeRuntime, pieces: Iterable[Piece], **options: Any) -> LatencyTable:
    """The table at a path with pieces measured that it has not got."""
    return add_pieces(open_table(path, runtime), path, runtime, pieces, **options)  # type: ignore[arg-type]


SIZE, CLASSES = (37, 50), 5
SPACE = Space.preset("tiny")
SETTING = Setting("fake", "1", "paper", 1, "float32", "nchw", 1, "cpu")
# every operator, with and without stride, both branches
EVERY_OP = [
    Arch.parse(f"rtseg:tiny:{path}")
    for path in ("s1c2-C3d3-s1", "z1-Z2y3-y1i1", "i2-I3i3-d4", "0-D1Y2-c2z2", "0-S1-0", "y2-C1-s4")
]
ARCHS = [*EVERY_OP, *(SPACE.diverse(np.random.default_rng(k)) for k in range(4))]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    time = FakeTime()
    monkeypatch.setattr(FakeRuntime, "time", time)
    monkeypatch.setattr(FakeRuntime, "sessions", 0)
    monkeypatch.setattr(building, "reference_kernel", time.reference_kernel)
    return time


def steps(archs: list[Arch]) -> list[Piece]:
    return [step.piece for arch in archs for step in program(arch, SIZE, CLASSES).steps]


def random_table(archs: list[Arch], seed: int = 0) -> LatencyTable:
    rng = np.random.default_rng(seed)
    records = {
        p.text(): Record(*rng.uniform(0.1, 1, 4).tolist(), 9, 1.0) for p in dict.fromkeys(steps(archs))
    }
    return LatencyTable(SETTING, records)


def filled(path: Path, calibrate: int = 5) -> LatencyTable:
    runtime = FakeRuntime()
    table = add_pieces(open_table(path, runtime), path, runtime, steps(ARCHS), rounds=3, load=lambda: QUIET)
    return add_networks(table, path, runtime, ARCHS[:calibrate], SIZE, CLASSES, rounds=3, load=lambda: QUIET)


def test_pieces_add_up_to_the_network(tmp_path: Path, clock: FakeTime) -> None:
    table = filled(tmp_path / "t.json")
    runtime = FakeRuntime()
    for arch in ARCHS:
        session = runtime.session(
            build(arch, CLASSES, seed=0), (program(arch, SIZE, CLASSES).steps[0].piece.inputs())
        )
        start = clock()
        session.run()
        whole = 1e3 * (clock() - start)
        sums = table.predict(arch, SIZE, CLASSES, calibrated=False)
        assert sums == pytest.approx(whole - 1e3 * OVERHEAD, abs=1e-3)
        assert table.predict(arch, SIZE, CLASSES) == pytest.approx(whole, abs=1e-3)
    line = table.calibration(SIZE, CLASSES)
    assert line.slope == pytest.approx(1, abs=1e-3)
    assert line.offset == pytest.approx(1e3 * OVERHEAD, abs=2e-3)


def test_what_takes_the_output_hardly_counts(
    tmp_path: Path, clock: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = filled(tmp_path / "plain.json")
    monkeypatch.setattr(FakeRuntime, "own_layout", True)
    sunk = filled(tmp_path / "sunk.json")
    for key, record in plain.pieces.items():
        # in a sink each input or output has one convolution, 5 µs, of two positions
        assert sunk.pieces[key].p10 == pytest.approx(record.p10, abs=9e-3)


def test_a_check_against_unseen_networks(tmp_path: Path, clock: FakeTime) -> None:
    table = filled(tmp_path / "t.json")
    clock.pace = 1.25  # the machine is slower now: the error is 20 %, the order as before
    report = check(table, FakeRuntime(), ARCHS[5:], SIZE, CLASSES, rounds=3)
    assert report.pace == pytest.approx(1.25)
    for one in report.agreement:
        assert one.mape == pytest.approx(20, abs=0.2)
        assert (one.n, one.tau_b, one.rho) == (5, 1.0, pytest.approx(1.0))
    json.dumps(report.as_dict())
    with pytest.raises(ConfigError, match="calibrated with it"):
        check(table, FakeRuntime(), ARCHS[4:], SIZE, CLASSES, rounds=3)
    with pytest.raises(ConfigError, match=r"another setting.*threads 1 is now 2"):
        check(table, FakeRuntime(2), ARCHS[5:], SIZE, CLASSES, rounds=3)


def test_every_operator_has_its_own_key() -> None:
    table = random_table(EVERY_OP)
    seen: dict[str, set[str]] = {op: set() for op in BLOCKS}
    for arch in EVERY_OP:
        network = build(arch, CLASSES, seed=0)
        for step, share in zip(
            program(arch, SIZE, CLASSES).steps, table.shares(arch, SIZE, CLASSES), strict=True
        ):
            piece = Piece.parse(share.key)
            assert piece == step.piece
            # what is measured under this key is what the network runs there
            measured = Carrier(piece, loaded=True, sinks=False).copies
            assert measured is not None
            runs = network.get_submodule(step.name)
            assert repr(measured[0]) == repr(runs)
            assert share.ms == table.pieces[share.key].p10
            seen[piece.op].add(share.key)
    assert all(seen.values()), seen
    assert sum(map(len, seen.values())) == len(set().union(*seen.values())) == len(table.pieces)


def test_one_key_moves_only_the_networks_that_have_it() -> None:
    table = random_table(ARCHS)
    for key, record in table.pieces.items():
        slower = Record(record.median, record.p10 + 1, record.p90, record.min, record.n, record.reference)
        moved = table.adding(pieces={key: slower})
        for arch in ARCHS:
            uses = Counter(step.piece.text() for step in program(arch, SIZE, CLASSES).steps)[key]
            before, after = (t.predict(arch, SIZE, CLASSES, calibrated=False) for t in (table, moved))
            assert after - before == pytest.approx(uses, abs=1e-9)


def test_the_pieces_of_a_space_are_all_there() -> None:
    pieces = set(pieces_of(SPACE, SIZE, CLASSES))
    rng = np.random.default_rng(7)
    for _ in range(100):
        assert pieces.issuperset(steps([SPACE.sample(rng)]))


def test_nothing_is_guessed() -> None:
    table = random_table(ARCHS)
    arch, other = ARCHS[0], Arch.parse("rtseg:tiny:0-I4I4-0")
    with pytest.raises(
        ConfigError, match=r"no ir:24>96:s2:5x7 for fake 1 on paper.*latency build.*measure-missing"
    ):
        table.predict(other, SIZE, CLASSES)
    with pytest.raises(ConfigError, match="the table has no conv3x3:3>8:s2:38x50"):
        table.predict(arch, (38, 50), CLASSES)
    with pytest.raises(ConfigError, match="a calibration needs 4"):
        table.predict(arch, SIZE, CLASSES)


records = st.builds(
    Record, *[st.floats(-1, 1e4).map(lambda v: round(v, 6))] * 4, st.integers(1, 99), st.floats(0.1, 9)
)


@settings(max_examples=20)
@given(st.dictionaries(st.sampled_from([p.text() for p in steps(ARCHS)]), records), st.data())
def test_a_file_keeps_everything(
    tmp_path_factory: pytest.TempPathFactory, pieces: dict[str, Record], data: st.DataObject
) -> None:
    networks = data.draw(st.dictionaries(st.sampled_from([f"{a}@37x50:5" for a in ARCHS]), records))
    path = tmp_path_factory.mktemp("table") / "deep" / "t.json"
    table = LatencyTable(SETTING, pieces, networks)
    table.save(path)
    assert LatencyTable.load(path) == table
    assert [str(a) for a in LatencyTable.load(path).measured(SIZE, CLASSES)] == [
        key.partition("@")[0] for key in sorted(networks)
    ]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": "other"}', f'{{"format": "{FORMAT}", "setting": {{}}}}'],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"t\.json"):
        LatencyTable.load(path)
    with pytest.raises(ConfigError, match="no such table"):
        LatencyTable.load(tmp_path / "absent.json")


def test_a_table_of_another_kernel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    random_table(ARCHS).save(path)
    path.write_text(path.read_text().replace(FORMAT, "segspace latency table 1"))
    with pytest.raises(ConfigError, match=r"'segspace latency table 1'.*measure again into another --table"):
        open_table(path, FakeRuntime())


def test_a_line_that_does_not_rise_is_refused() -> None:
    table = random_table(ARCHS)
    sums = {arch: table.predict(arch, SIZE, CLASSES, calibrated=False) for arch in ARCHS}
    falling = {network_key(a, SIZE, CLASSES): Record(*[1e3 / s] * 4, 9, 1.0) for a, s in sums.items()}
    with pytest.raises(ConfigError, match=r"too alike.*latency build .*--size 37x50 .*--networks 20"):
        table.adding(networks=falling).calibration(SIZE, CLASSES)
    one = {network_key(a, SIZE, CLASSES): Record(*[5.0] * 4, 9, 1.0) for a in ARCHS}
    with pytest.raises(ConfigError, match="too alike"):
        table.adding(networks=one).predict(ARCHS[0], SIZE, CLASSES)


def test_a_build_goes_on_where_it_was_interrupted(
    tmp_path: Path, clock: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "TOGETHER", 8)
    path, runtime = tmp_path / "t.json", FakeRuntime()
    pieces = list(dict.fromkeys(steps(EVERY_OP)))
    loads = iter([QUIET, QUIET])  # the third group never starts

    def interrupted() -> object:
        try:
            return next(loads)
        except StopIteration:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        add_pieces(open_table(path, runtime), path, runtime, pieces, rounds=2, load=interrupted)  # type: ignore[arg-type]
    kept = LatencyTable.load(path)
    assert len(kept.pieces) == 16
    clock.pace = 2.0
    whole = built(path, runtime, pieces, rounds=2, load=lambda: QUIET)
    assert set(whole.pieces) == {piece.text() for piece in pieces}
    assert all(whole.pieces[key] == record for key, record in kept.pieces.items())
    assert LatencyTable.load(path) == whole
    sessions = FakeRuntime.sessions
    assert built(path, runtime, pieces, rounds=2, load=lambda: BUSY) == whole
    assert FakeRuntime.sessions == sessions
    clock.pace = 1.0  # what was measured at half the speed is measured again, the rest is not
    fresh = built(path, runtime, pieces, rounds=3, refresh=True, load=lambda: QUIET)
    assert {key for key, record in fresh.pieces.items() if record.n == 3} == set(whole.pieces) - set(
        kept.pieces
    )


def test_a_busy_machine_is_refused_or_warned_about(tmp_path: Path, clock: FakeTime) -> None:
    path, runtime, warnings = tmp_path / "t.json", FakeRuntime(), list[str]()
    with pytest.raises(ConfigError, match=r"busy \(others use 1\.50 cores.*--busy-ok"):
        built(path, runtime, steps(EVERY_OP), rounds=2, load=lambda: BUSY)
    assert not path.exists()
    table = built(
        path, runtime, steps(EVERY_OP[:1]), rounds=2, load=lambda: BUSY, busy_ok=True, warn=warnings.append
    )
    assert table.pieces
    assert len(warnings) == 1
    with pytest.raises(ConfigError, match=r"another setting: threads 1 is now 2"):
        open_table(path, FakeRuntime(2))

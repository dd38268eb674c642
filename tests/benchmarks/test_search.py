"""The benchmark of searches: choices, regret, noise, pools, what is left out of them, what it costs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import choosers, choosing, pages, search, search_plots, segmenter_plots, winner_plots
from benchmarks.choosing import Pool
from proxygraph.errors import ConfigError
from proxygraph.infix import parse
from proxygraph.problem import Problem
from proxygraph.run import csv_text
from proxygraph.table import StatTable
from segspace.measured import Row, header, write_rows
from segspace.search.space import SearchSpace
from segspace.search.study import Rules
from segspace.transnas101 import Arch, all_archs

RNG = np.random.default_rng(0)
values = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.5, np.nan, np.inf]), min_size=2, max_size=8)


def silent(what: str, done: int, total: int) -> None:
    pass


def table_of(names: Any, **columns: Any) -> StatTable:
    """Return a table of statistics of the row axis."""
    return StatTable(
        tuple(names), {name: np.asarray(x, float) for name, x in columns.items()}, {}, {}, {}, {}
    )


def pool_of(target: Any, first: Any = None, **more: Any) -> Pool:
    n = len(target)
    names = tuple(str(Arch.parse(str(arch))) for arch in all_archs()[1 : 4 * n : 4])[:n]
    target = np.asarray(target, float)
    about: dict[str, Any] = {
        "archs": names,
        "groups": names,
        "target": target,
        "first": target if first is None else np.asarray(first, float),
        "trainings": np.ones(n, np.int64),
        "seconds": np.full(n, 100.0),
        "macs": np.arange(n, dtype=float),
    }
    return Pool(**(about | more))


# ---- choices -----------------------------------------------------------------------------------------------


@given(values, st.integers(0, 9))
def test_a_search_keeps_the_first_of_the_best_scores_it_has_seen(scores: list[float], seed: int) -> None:
    order = choosing.orders(len(scores), 3, seed)
    found = choosing.chosen(np.array(scores), order)
    for one, kept in zip(order.tolist(), found.tolist(), strict=True):
        assert sorted(one) == list(range(len(scores)))
        for n in range(1, len(scores) + 1):
            seen = [i for i in one[:n] if np.isfinite(scores[i])]
            expected = max(seen, key=lambda i: scores[i]) if seen else one[0]
            assert kept[n - 1] == expected


def test_regret_and_percentile() -> None:
    pool = pool_of([10.0, 40.0, 30.0, 30.0, 20.0])
    every = np.arange(5)
    assert pool.regret(every).tolist() == [30, 0, 10, 10, 20]
    assert pool.percentile(every).tolist() == [0, 100, 62.5, 62.5, 25]
    part = pool.take(np.array([4, 2]))
    assert (part.archs, part.regret(np.array([0])).tolist()) == ((pool.archs[4], pool.archs[2]), [10])


def test_how_many_trainings_reach_a_regret() -> None:
    regrets = np.array([[9.0, 5, 0], [7, 3, 1], [8, 1, 1]])
    assert [choosing.matching(regrets, level) for level in (8, 3, 1, 0.5)] == [1, 2, 3, None]


def test_intervals_hold_what_they_are_of() -> None:
    target = RNG.normal(size=60)
    pool = pool_of(target)
    low, high = choosing.pool_interval(pool, target)
    assert (low, high) == (0, 0)  # a perfect score has no regret in any resample
    low, high = choosing.pool_interval(pool, target + RNG.normal(size=60))
    assert 0 <= low < high
    drawn = RNG.normal(size=200)
    low, high = choosing.median_interval(drawn)
    assert low < np.median(drawn) < high


@pytest.mark.parametrize("seeds", [1, 4])
def test_noise_gives_perfect_knowledge_a_regret(seeds: int) -> None:
    pool = pool_of(RNG.normal(40, 3, size=100), trainings=np.full(100, seeds))
    none, some = choosing.noise_of(pool, 0.0), choosing.noise_of(pool, 2.0)
    assert none.oracle.max() == none.measured.max() == 0
    assert some.oracle.min() >= 0
    assert 0 < some.oracle.mean() < 2 * 2.0 / np.sqrt(seeds)
    assert some.measured.mean() > 0
    hopeless = choosing.noise_of(pool, 100.0)  # nothing is left of the differences
    assert hopeless.measured.max() < 1e-9


# ---- the table as a space ----------------------------------------------------------------------------------


def test_a_table_is_a_space_of_its_networks() -> None:
    archs = all_archs()
    some = [archs[i] for i in RNG.choice(len(archs), 60, replace=False)]
    names = tuple(map(str, some))
    pool = pool_of(RNG.normal(size=60), archs=names, groups=names, macs=np.arange(60.0))
    space: SearchSpace = choosing.Tabular(pool)

    def distance(a: str, b: str) -> int:
        return sum(x != y for x, y in zip(Arch.parse(a).ops, Arch.parse(b).ops, strict=True))

    for k in range(40):
        rng = np.random.default_rng(k)
        one, other = space.sample(rng), space.sample(rng)
        near = space.mutate(one, rng)
        assert {one, other, near, space.crossover(one, other, rng)} <= set(names)
        assert distance(one, near) == min(distance(one, name) for name in names if name != one)
        assert space.crossover(one, one, rng) == one
        assert space.cost(one) == names.index(one)


@pytest.mark.parametrize("sampler", ["random", "evolution", "nsga2"])
def test_samplers_look_at_each_network_once(sampler: str) -> None:
    archs = [str(arch) for arch in all_archs()[::40]]
    scores = np.array([sum(Arch.parse(name).ops) for name in archs], float)
    pool = pool_of(scores, archs=tuple(archs), groups=tuple(archs), macs=np.ones(len(archs)))
    found = choosing.looked_at(pool, scores, Rules(sampler, 6, np.inf, 1), 40)
    assert len(found) == len(set(found.tolist())) == 40
    assert found.tolist() == choosing.looked_at(pool, scores, Rules(sampler, 6, np.inf, 1), 40).tolist()
    if sampler == "evolution":  # later networks score higher than the first ones
        assert scores[found[20:]].mean() > scores[found[:6]].mean()


# ---- what a run has seen -----------------------------------------------------------------------------------


def run_folder(folder: Path, parts: dict[str, str], total: int | None = None, name: str = "x") -> Path:
    """Write what a run of evolve leaves that is read here."""
    dag = parse("macs_total", table_of("x", macs_total=[1.0]).leaves)
    rival = {"name": "snip", "train": {"invalid": 0, "spearman": 0.5}}
    result = {
        "best": {"graph": dag.to_json(), "key": dag.key},
        "problem": {
            "name": name,
            "rows": {"train": len(parts) if total is None else total, "validation": 0, "test": 0},
        },
        "baselines": [rival, {"name": "zen", "train": {"invalid": 3, "spearman": 0.9}}],
    }
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(result))
    lines = [{"row": name, "part": part, "target": "0"} for name, part in parts.items()]
    (folder / "scores.csv").write_text(csv_text(lines))
    return folder


def test_networks_whose_labels_a_run_has_seen_are_left_out(tmp_path: Path) -> None:
    pool = pool_of(np.arange(6.0), groups=("a", "b", "a", "c", "d", "e"))
    parts = dict(zip(pool.archs, ["train", "test", "test", "validation", "test", "test"], strict=True))
    problem = Problem(
        "camvid", table_of("abcdefghij", macs_total=range(10)), np.arange(10.0), "miou", tuple("x" * 10)
    )
    found = choosers.discovered(str(run_folder(tmp_path / "run", parts)), problem)
    assert (found.name, found.rival, len(found.seen)) == ("run", "snip", 2)
    assert choosers.unseen(pool, found.seen).tolist() == [1, 4, 5]  # 2 equals 0, which was trained on
    assert choosers.unseen(pool, frozenset()).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ConfigError, match=r"names 6 of 9 networks"):
        choosers.discovered(str(run_folder(tmp_path / "thinned", parts, 9)), problem)
    text = choosers.discovered("2 * macs_total", problem)
    assert (text.name, text.seen, text.rival) == ("2 * macs_total", frozenset(), "")


def test_formulas_of_one_name_are_refused(tmp_path: Path) -> None:
    problem = Problem(
        "camvid", table_of("abcdefghij", macs_total=range(10)), np.arange(10.0), "miou", tuple("x" * 10)
    )
    runs = []
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        runs.append(str(run_folder(tmp_path / folder / "run", {"a": "train"})))
    assert [one.name for one in choosers.all_discovered([runs[0], "macs_total"], problem)] == [
        "run",
        "macs_total",
    ]
    with pytest.raises(ConfigError, match="another one is called 'run', too"):
        choosers.all_discovered(runs, problem)
    named = str(run_folder(tmp_path / "other" / "zen", {"a": "train"}))
    with pytest.raises(ConfigError, match="a hand-made proxy is called 'zen', too"):
        choosers.all_discovered([named], problem)


def test_what_is_wrong_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none.csv")
    monkeypatch.setattr("sys.argv", ["search.py", "--transnas101", missing, "--quick"])
    with pytest.raises(SystemExit) as ended:
        search.main()
    assert ended.value.code == 2
    assert missing in capsys.readouterr().err


def test_runs_on_several_problems(tmp_path: Path) -> None:
    parts = {
        "transnas101:64-41414-1_02_103": "train",
        "camvid:rtseg:tiny:c0-C0-0": "validation",
        "camvid:b": "test",
    }
    run = run_folder(tmp_path / "run", parts, name="transnas101+camvid")
    problem = Problem(
        "camvid", table_of("abcdefghij", macs_total=range(10)), np.arange(10.0), "miou", tuple("x" * 10)
    )
    assert choosers.discovered(str(run), problem).seen == {"64-41414-1_02_103", "rtseg:tiny:c0-C0-0"}
    baselines = [
        {"name": "snip", "train": {"invalid": 0, "spearman": 0.9, "spearman in camvid": 0.1}},
        {"name": "zen", "train": {"invalid": 0, "spearman": 0.2, "spearman in camvid": 0.5}},
    ]
    assert [choosers._rival(baselines, name) for name in ("camvid", "other")] == ["zen", "snip"]


# ---- what it costs -----------------------------------------------------------------------------------------


def arena(n: int = 30) -> search.Arena:
    pool = pool_of(np.linspace(10, 40, n), trainings=np.ones(n, np.int64))
    return search.Arena.of("camvid", "all", pool, 200)


def test_random_search_at_equal_cost() -> None:
    one = arena()
    perfect = choosers.Method("perfect", "handmade", one.pool.target, seconds=10.0, start=50.0)
    rows = {row["n_rows"]: row for row in search.method_rows(one, perfect, one.order, "random")}
    whole, third = rows[30], rows[10]
    assert (whole["cost_seconds"], whole["trainings"]) == (350, 3.5)
    assert (whole["median"], whole["percentile"], whole["low"], whole["high"]) == (0, 100, 0, 0)
    trained = {row["n_rows"]: row for row in search.random_rows(one)}
    assert trained[0]["cost_seconds"] == 0
    assert trained[5]["cost_seconds"] == 500
    assert whole["random_median"] == np.median(one.trained[:, 2])  # three trainings and a half
    assert trained[2]["median"] > whole["random_median"] > trained[5]["median"]
    assert third["median"] == trained[10]["median"] > 0  # it keeps what training would keep, only sooner
    assert (
        third["worth"] <= 10 < whole["worth"] < 20
    )  # half of the searches find the best in half of the pool
    cheap = choosers.Method("cheap", "handmade", -one.pool.target, seconds=0.1)
    last = search.method_rows(one, cheap, one.order, "random")[-1]
    assert last["trainings"] < 1  # nothing can be trained for it: a random pick
    assert last["random_median"] == trained[0]["median"] == pytest.approx(15)
    assert (last["median"], last["worth"]) == (pytest.approx(30), 1)


def test_random_search_chooses_by_one_training_and_is_judged_by_the_mean() -> None:
    pool = pool_of([1.0, 2.0, 3.0], first=[9.0, 2.0, 3.0])
    row = search.random_rows(search.Arena.of("camvid", "all", pool, 50))[-1]
    assert (row["n_rows"], row["median"], row["p90"]) == (3, 2, 2)


def test_no_label_reaches_a_choice_that_is_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(map(str, all_archs()[5:35]))
    columns = {"macs_total": RNG.uniform(1, 2, 30), "params": RNG.uniform(1, 2, 30)}
    table = table_of(names, **columns)
    monkeypatch.setattr(choosers, "scoring_seconds", lambda problem, dags, *_: dict.fromkeys(dags, 1.0))
    chosen, choices = choosing.chosen, list[Any]()

    def watched(scores: Any, order: Any) -> Any:
        found = chosen(scores, order)
        if any(scores is method.scores for method in methods.values()):
            choices.append((order.tolist(), found.tolist()))
        return found

    monkeypatch.setattr(search, "chosen", watched)
    runs = []
    for sign in (1, -1):
        problem = Problem("transnas101", table, sign * np.arange(30.0), "miou", names)
        methods = choosers.methods_of(problem, [], 1, silent)
        one = search.Arena.of("transnas101", "all", choosers.transnas101_pool(problem), 5)
        choices.clear()
        for method in methods.values():
            search.method_rows(one, method, one.order, "random")
            search.sampled_rows(one, method, 2, 10)
        runs.append(list(choices))
    assert len(runs[0]) == 3 * len(methods) >= 6
    assert runs[0] == runs[1]


# ---- camvid ------------------------------------------------------------------------------------------------

CLASSES = ("road", "sky")


def measured(arch: str, seed: int, miou: float, seconds: float) -> Row:
    return Row(arch, seed, miou, 50.0, seconds, 1, 1, (miou, miou))


def test_pool_of_measured_networks() -> None:
    table = table_of("abcdefghijk", macs_total=np.arange(11.0))
    rows = [measured(name, 0, 30.0 + k, 100.0) for k, name in enumerate("abcdefghijk")]
    rows.append(measured("c", 1, 36.0, 200.0))
    target = np.array([30.0 + k + 2 * (name == "c") for k, name in enumerate("abcdefghijk")])
    pool = choosers.camvid_pool(Problem("camvid", table, target, "miou", table.rows), rows[::-1])
    assert (pool.first[2], pool.target[2], pool.trainings[2], pool.seconds[2]) == (32, 34, 2, 150)
    assert pool.trainings.sum() == 12


def test_one_shot_scores_and_the_cost_of_the_supernet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of([1.0, 2.0, 3.0])
    rows = [measured(name, 0, miou, 3.0) for name, miou in zip(pool.archs, (5, 9, 7), strict=True)]
    write_rows(tmp_path / "oneshot.csv", rows[:2], CLASSES)
    assert (tmp_path / "oneshot.csv").read_text().startswith(",".join(header(CLASSES)))
    monkeypatch.setattr(choosers, "supernet_seconds", lambda folder: 1000.0)
    with pytest.raises(ConfigError, match=r"1 networks have no one-shot score.*oneshot rank"):
        choosers.oneshot(tmp_path, pool, CLASSES)
    write_rows(tmp_path / "oneshot.csv", rows[::-1], CLASSES)
    method = choosers.oneshot(tmp_path, pool, CLASSES)
    assert method.scores.tolist() == [5, 9, 7]
    assert method.cost(2) == 1006


def test_seconds_of_sittings_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    spent = SimpleNamespace(cpu_seconds=0.0)
    monkeypatch.setattr(choosers, "read_header", lambda folder: spent)
    lines = [json.dumps({"seconds": s}) for s in (10, 20, 30, 8, 16, 5)]
    (tmp_path / "journal.jsonl").write_text("\n".join(lines) + "\n")
    assert choosers.supernet_seconds(tmp_path) == 30 + 16 + 5
    spent.cpu_seconds = 7.0
    assert choosers.supernet_seconds(tmp_path) == 7


# ---- the command and the pages -----------------------------------------------------------------------------


def test_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert search.options_of(["--camvid"]).camvid == ""
    assert search.options_of(["--camvid"]).json == search.RESULTS / "search.json"
    assert search.options_of(["--camvid", "there", "--quick"]).json is None
    for wrong in ([], ["--transnas101", "x", "--supernet", "y"]):
        with pytest.raises(SystemExit):
            search.options_of(wrong)
    assert "--supernet ranks the networks of --camvid" in capsys.readouterr().err


def test_tables_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = arena()
    methods = [
        choosers.Method("snip", "handmade", one.pool.target + RNG.normal(scale=9, size=30), 1.0),
        choosers.Method("sum(a|b)", "formula", one.pool.target, 1.0),
        choosers.Method("one-shot", "oneshot", one.pool.target, 1.0, 900.0),
    ]
    rows = search.random_rows(one) + search.noise_rows(one, 1.0)
    for method in methods:
        rows += search.method_rows(one, method, one.order, "random")
        rows += search.method_rows(one, method, one.order[:4, :20], "evolution")
    own = search.Arena.of("camvid", "run-7", one.pool, 20)
    rows += search.random_rows(own) + search.method_rows(own, methods[1], own.order, "random")
    rows += search.method_rows(own, methods[0], own.order, "random")
    light = search.Arena.of("camvid", search.LIGHTER, one.pool, 20)
    rows += search.random_rows(light) + search.method_rows(light, methods[0], light.order, "random")
    assert [r["n_rows"] for r in rows if r["pool"] == search.LIGHTER and r["engine"] == "snip"] == [30]
    json.dumps(rows, allow_nan=False)
    names = ("search camvid", "search formulas camvid", "search samplers camvid", "search transnas101")
    page = "".join(f"<!-- table {name} -->\nold\n<!-- end -->\n" for name in names)
    (tmp_path / "segmenter-search.md").write_text(page)
    for module in (search_plots, segmenter_plots, winner_plots):
        monkeypatch.setattr(module, "DOCS", tmp_path)
    monkeypatch.setattr(winner_plots, "rows_of", lambda _: [])
    monkeypatch.setattr(search_plots, "rows_of", lambda name: rows if name == "search" else [])
    monkeypatch.setattr(segmenter_plots, "latency_picture", lambda: None)
    segmenter_plots.main([])
    text = (tmp_path / "segmenter-search.md").read_text()
    assert text.count("old") == 1  # of transnas101 there is no result
    assert "| `sum(a\\|b)` | 0.00 (0.00–0.00) | 100.0 | 30 |" in text
    assert "| run-7 | snip (best on its training rows) | 30 |" in text
    assert "noise: perfect knowledge" in text
    assert "| random pick | " in text
    assert "| snip | 20 | " in text
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["search_camvid.svg"]
    assert (
        pages.filled("<!-- table segmenters -->\nkept\n<!-- end -->", search_plots.tables()).count("kept")
        == 1
    )


def test_a_whole_quick_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of ten networks made up, scoring timed on one that is built."""
    names = [str(arch) for arch in all_archs()[100:1100:100]]
    table = table_of(names, macs_total=RNG.uniform(1, 2, 10), params=RNG.uniform(size=10))
    problem = Problem("transnas101", table, RNG.uniform(20, 40, 10), "seg_valid_miou", tuple(names))
    asked = []

    def loaded(source: str, target: None, report: Any) -> Problem:
        asked.append(source)
        return problem

    monkeypatch.setattr(search, "load_problem", loaded)
    parts = {name: "train" if k == 0 else "test" for k, name in enumerate(names)}
    monkeypatch.setattr(search, "MIN_ROWS", 5)
    words = ["search.py", "--quick", "--transnas101", "m.csv", "--json", str(tmp_path / "s.json")]
    run = run_folder(tmp_path / "run", parts)
    monkeypatch.setattr("sys.argv", [*words, "--formulas", str(run), "params / macs_total"])
    search.main()
    assert asked == ["transnas101:m.csv?sample=20"]
    rows = json.loads((tmp_path / "s.json").read_text())["rows"]
    found = {(row["pool"], row["engine"], row["sampler"]) for row in rows}
    for sampler in ("random", "evolution", "nsga2"):
        assert ("all", "params / macs_total", sampler) in found
        assert ("run", "run", sampler) in found
    assert not any(pool == "all" and engine == "run" for pool, engine, _ in found)
    assert {row["networks"] for row in rows if row["pool"] == "run"} == {9}
    assert all(row["cost_seconds"] > 0 for row in rows if row["kind"] in ("handmade", "formula"))
    with (tmp_path / "run" / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 10

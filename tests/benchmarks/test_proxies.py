"""The benchmark of proxies: agreement of scores and results, the protocol's runs, the models beside them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from benchmarks import apart, discovery, handmade, pages, proxies
from proxygraph.dag import Dag
from proxygraph.errors import ConfigError
from proxygraph.infix import parse
from proxygraph.problem import Problem
from proxygraph.table import StatTable
from proxygraph.zoo import ZOO

RNG = np.random.default_rng(0)


def silent(what: str, done: int, total: int) -> None:
    pass


# ---- hand-made proxies -------------------------------------------------------------------------------------


def test_the_best_with_ties_shared_out() -> None:
    np.testing.assert_allclose(handmade.in_top(np.array([5.0, 1.0, 3.0, 4.0]), 2), [1, 0, 0, 1])
    np.testing.assert_allclose(handmade.in_top(np.array([5.0, 3.0, 3.0, 3.0]), 2), [1, 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(handmade.in_top(np.array([np.nan, 1.0, np.inf, 2.0]), 3), [0.5, 1, 0.5, 1])
    target = np.arange(30.0)
    assert handmade.top_overlap(target, target) == 1
    assert handmade.top_overlap(-target, target) == 0
    assert handmade.top_overlap(np.zeros(30), target) == pytest.approx(0.1)


def test_measures_are_those_of_scipy_on_the_rows_that_are_defined() -> None:
    target = RNG.normal(size=40)
    scores = target + RNG.normal(size=40)
    scores[[3, 7]] = np.nan, np.inf
    ok = np.isfinite(scores)
    draws = RNG.integers(0, 40, size=(100, 40))
    found = {one.name: one for one in handmade.measures(scores, target, draws)}
    assert found["Spearman"].value == pytest.approx(spearmanr(scores[ok], target[ok]).statistic)
    assert found["Kendall"].value == pytest.approx(kendalltau(scores[ok], target[ok]).statistic)
    filled = np.where(ok, scores, -100.0)
    assert found["Spearman, undefined last"].value == pytest.approx(spearmanr(filled, target).statistic)
    rows = draws[5][ok[draws[5]]]
    assert found["Spearman"].resampled[5] == pytest.approx(spearmanr(scores[rows], target[rows]).statistic)


def test_intervals_hold_the_value_and_say_how_many_are_undefined() -> None:
    target = np.arange(50.0)
    scores = {"good": target + RNG.normal(scale=20, size=50), "flat": np.ones(50)}
    scores["good"][0] = np.nan
    rows = handmade.agreement_rows("p", "segmentation", scores, target, resamples=100)
    assert {row["engine"] for row in rows if row["unit"] == "Spearman"} == {"good"}  # flat orders nothing
    for row in (row for row in rows if row["engine"] == "good"):
        assert row["low"] < row["value"] < row["high"]
        assert row["invalid"] == 1
        assert row["low"] <= row["p10"] <= row["median"] <= row["p90"] <= row["high"]


def test_ranks_added_as_az_nas_does() -> None:
    a, b = np.array([1.0, 2.0, 2.0, np.nan]), np.array([3.0, 1.0, 2.0, 4.0])
    expected = [math.log(1 / 3) + math.log(3 / 3), math.log(2.5 / 3) + math.log(1 / 3)]
    expected += [math.log(2.5 / 3) + math.log(2 / 3), math.nan]
    np.testing.assert_allclose(handmade.added_ranks([a, b]), expected)


def test_agreement_with_published_scores(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("arch,params,flops\na,1,9\nb,2,8\nc,3,7\nd,4,6\n")
    table = StatTable.from_columns(["x", "c", "b", "a"], {"z": [0.0, 1.0, 2.0, 3.0]})
    scores = {"params": np.array([9.0, 30, 20, 10]), "macs": np.array([9.0, 30, 20, 10])}
    rows = {row["engine"]: row for row in handmade.published_rows(path, table, scores)}
    assert rows["params"]["value"] == pytest.approx(1)
    assert rows["macs"]["value"] == pytest.approx(-1)
    assert rows["params"]["n_rows"] == 3


def test_names_of_published_proxies_are_ours() -> None:
    assert set(handmade.SAME_AS_PUBLISHED) <= set(ZOO)
    assert set(handmade.AZ_NAS) <= set(ZOO)


# ---- the protocol ------------------------------------------------------------------------------------------


def small_problem(n: int = 60) -> Problem:
    """Networks of two layers with three weights each; the target is their size, and noise."""
    rng = np.random.default_rng(1)
    columns = {
        "w": rng.normal(size=n * 6),
        "gs": rng.normal(size=n * 6) * 10.0 ** rng.integers(0, 60, n * 6),  # as large as synflow's
        "macs": rng.uniform(1, 2, size=n * 2),
        "jacov": np.where(np.arange(n) % 7 == 0, np.nan, rng.normal(size=n)),
    }
    offsets = {"layer": np.arange(n + 1) * 2, "element": np.arange(2 * n + 1) * 3}
    target = columns["macs"].reshape(n, 2).sum(1) + rng.normal(scale=0.1, size=n)
    rows = tuple(str(i) for i in range(n))
    table = StatTable(rows, columns, {}, offsets, {}, {})
    return Problem("small", table, target, "miou", rows)


def test_aggregates_are_plain_numbers_of_the_columns() -> None:
    problem = small_problem()
    names = list(discovery.aggregates(problem.table))
    some = np.array([5, 2, 7])
    found = dict(zip(names, discovery.features(problem.table, some).T, strict=True))
    macs = problem.table.columns["macs"].reshape(-1, 2)[some]
    w = problem.table.columns["w"].reshape(-1, 2, 3)[some]
    np.testing.assert_allclose(found["max(macs)"], macs.max(1))
    np.testing.assert_allclose(found["sum(mean(abs(w)))"], np.abs(w).mean(2).sum(1))
    np.testing.assert_allclose(found["std(std(w))"], w.std(2).std(1))
    assert np.isnan(found["jacov"]).tolist() == [False, False, True]  # row 7 has none


def test_baselines_learn_from_train_and_validation_only() -> None:
    problem = small_problem()
    split = problem.split(0, 20)
    first = discovery.learnt(problem, split, 0)
    target = problem.target.copy()
    target[split.test] = 0.0  # what they predict must not depend on it
    hidden = Problem("small", problem.table, target, "miou", problem.groups)
    second = discovery.learnt(hidden, split, 0)
    assert set(first) == {"forest", "linear"}
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
        assert spearmanr(first[name], problem.target[split.test]).statistic > 0.5


def test_what_is_told_of_test_rows() -> None:
    told = discovery.tested(np.array([1.0, 5.0, np.nan, 3.0]), np.array([10.0, 20.0, 40.0, 30.0]))
    assert told == {
        "spearman": pytest.approx(0.5),
        "kendall": pytest.approx(1 / 3),
        "invalid": 1,
        "regret": 20.0,
        "better": 0.5,
    }
    assert discovery.tested(np.array([2.0, 2.0]), np.array([1.0, 3.0]))["spearman"] is None


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Instead of a search: a result file, and the commands that were run."""
    commands: list[list[str]] = []

    def entry(text: str, problem: Problem) -> dict[str, Any]:
        dag = parse(text, problem.table.leaves)
        report = {"spearman": 0.9, "kendall": 0.7, "n": 20, "invalid": 0}
        parts = dict.fromkeys(("train", "validation", "test"), report)
        return {"infix": text, "latex": text, "size": dag.size, "graph": dag.to_json(), **parts}

    def searched(source: str, options: list[str], out: Path) -> float:
        commands.append(options)
        problem = Problem.load(source)
        best = entry("sum(macs)", problem)
        result = {
            "problem": {"rows": {"train": 20, "validation": 20, "test": 20}},
            "best": best,
            "front": [entry("sum(sum(w))", problem), best],
            "baselines": [{"name": "l2_norm", **entry("sum(l2(w))", problem)}],
            "search": {"evaluated": 7},
        }
        out.mkdir(parents=True)
        (out / "result.json").write_text(json.dumps(result))
        return 12.0

    monkeypatch.setattr(discovery, "searched", searched)
    return commands


def protocol(tmp_path: Path, **more: Any) -> SimpleNamespace:
    source = tmp_path / "small.safetensors"
    if not source.is_file():
        small_problem().save(source)
    about = {"source": str(source), "labels": [15, 20], "seeds": [0, 1], "evaluations": 2000, "threads": 1}
    about |= {"work": tmp_path / "work", "variant": "default", "options": "--max-size 9", "quick": False}
    return SimpleNamespace(**(about | more))


def test_every_run_is_made_once(tmp_path: Path, no_search: list[list[str]]) -> None:
    rows = discovery.rows(protocol(tmp_path), silent)
    assert [(command[1], command[3]) for command in no_search] == [("10", "5")] * 2 + [("13", "7")] * 2
    assert no_search[0][-2:] == ["--max-size", "9"]
    assert {(row["engine"], row["labels"]) for row in rows} == {
        (engine, n) for engine in discovery.ENGINES for n in (15, 20)
    }
    for row in rows:
        assert row["unit"] == discovery.UNIT
        assert len(row["spearman"]) == 2
    best = next(row for row in rows if row["engine"] == "formula")
    assert best["mean"] > 0.8  # of a formula that is the target but for noise
    again = discovery.rows(protocol(tmp_path), silent)
    assert len(no_search) == 4
    assert again == rows
    more = discovery.rows(protocol(tmp_path, seeds=[0, 1, 2]), silent)
    assert len(no_search) == 6
    assert more[0]["seeds"] == [0, 1, 2]
    with pytest.raises(
        ConfigError, match="was run with the options '--max-size 9'; choose another --variant"
    ):
        discovery.rows(protocol(tmp_path, options=""), silent)


def test_the_result_has_every_problem_and_only_what_was_asked_for(
    tmp_path: Path, no_search: list[list[str]]
) -> None:
    problem = small_problem()
    paths = {}
    for name, offset in (("one", 0.0), ("two", 0.0), ("two", 1.0)):  # the data of the second one changes
        paths[name, offset] = tmp_path / f"{name}{offset:g}.safetensors"
        target = problem.target + offset
        Problem(name, problem.table, target, "miou", problem.groups).save(paths[name, offset])
    for path in paths.values():
        rows = discovery.rows(protocol(tmp_path, source=str(path)), silent)
    assert {row["problem"] for row in rows} == {"one", "two"}
    assert {row["data"] for row in rows if row["problem"] == "two"} == {Problem.load(path).digest}
    assert {(row["variant"], row["options"]) for row in rows} == {("default", "--max-size 9")}
    discovery.rows(protocol(tmp_path, source=str(path), evaluations=1000, seeds=[7], labels=[16]), silent)
    assert discovery.rows(protocol(tmp_path, source=str(path)), silent) == rows
    quick = protocol(tmp_path, source=str(path), quick=True, options="", labels=None, seeds=None)
    discovery.rows(quick, silent)
    assert len(list((tmp_path / "work" / "quick").iterdir())) == 1
    assert discovery.rows(protocol(tmp_path, source=str(path)), silent) == rows
    runs = discovery.runs_of(tmp_path / "work" / "default")
    assert len(runs) == 13
    assert len(discovery.of_rows(runs, rows)) == 8


def test_seconds_of_a_search_that_went_on_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(discovery.subprocess, "run", run)
    seconds = discovery.searched("x", [], tmp_path)
    assert seconds is not None
    assert seconds >= 0
    (tmp_path / "config.json").write_text("{}")
    assert discovery.searched("x", [], tmp_path) is None
    assert ["--resume" in command for command in commands] == [False, True]


def test_the_hand_made_proxy_to_beat() -> None:
    def entry(name: str, invalid: int, rho: float | None) -> dict[str, Any]:
        return {"name": name, "train": {"invalid": invalid, "spearman": rho}}

    baselines = [entry("low", 0, -0.5), entry("zero", 0, 0.0), entry("flat", 0, None), entry("part", 1, 0.9)]
    assert discovery.best_known(baselines)["name"] == "zero"
    assert discovery.best_known(baselines[2:])["name"] == "flat"


def test_the_good_formulas_of_runs() -> None:
    table = small_problem().table
    one = {"graph": parse("sum(macs)", table.leaves).to_json(), "validation": {"spearman": 0.80}}
    two = {"graph": parse("sum(l2(w))", table.leaves).to_json(), "validation": {"spearman": 0.70}}
    run = {"formula": {"validation": {"spearman": 0.81}}, "front": [one, two]}
    assert [list(dag.leaves) for dag in discovery.used([run])] == [["macs"]]
    assert all(isinstance(dag, Dag) for dag in discovery.used([run], slack=1.0))


def test_networks_to_decide_on_are_none_of_those_reported_on() -> None:
    from segspace.problems import sampled
    from segspace.transnas101 import Arch, all_archs

    names = sorted(str(arch) for arch in all_archs())[::2]
    reported = {Arch.parse(name).live() for name in sampled(names)}
    apart_names = apart.names_apart(names, 300)
    assert len(set(apart_names)) == 300
    assert not reported & {Arch.parse(name).live() for name in apart_names}


# ---- the command and the page ------------------------------------------------------------------------------


def test_options() -> None:
    options = proxies.options_of(["discover", "streetscenes", "--labels", "50"])
    assert options.json.name == "discover.json"
    assert proxies.options_of(["handmade", "x.csv", "--quick"]).json is None
    assert proxies.options_of(["handmade", "x.csv"]).json.name == "handmade.json"
    assert proxies.options_of(["discover", "streetscenes", "--variant", "small"]).json is None
    options = proxies.options_of(["plots", "--work", "there", "--variant", "small"])
    assert (options.work, options.variant) == (Path("there"), "small")


def test_tables_are_filled_and_others_left() -> None:
    page = "a\n<!-- table one -->\nold\n<!-- end -->\nb\n<!-- table two -->\nkept\n<!-- end -->\n"
    assert pages.filled(page, {"one": lambda: "fresh"}) == page.replace("old", "fresh")


def test_pictures_and_page(
    tmp_path: Path, no_search: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import proxy_plots

    found = discovery.rows(protocol(tmp_path), silent)
    best = next(row for row in found if row["engine"] == "formula")
    best["spearman"][0] = best["kendall"][0] = None  # as of a formula that is constant on the test rows
    best["cpu_seconds"][1], best["mean"] = None, best["spearman"][1]
    target = np.arange(50.0)
    scores = {name: target + RNG.normal(scale=20, size=50) for name in ("snip", "jacov")}
    rows = [
        row
        for task in proxy_plots.TASKS
        for row in handmade.agreement_rows("transnas101", task, scores, target, 20)
    ]
    (tmp_path / "proxies.md").write_text(
        "<!-- table handmade transnas101 -->\n<!-- end -->\n<!-- table discovery -->\n<!-- end -->\n"
        "<!-- table formulas -->\n<!-- end -->\n"
    )
    monkeypatch.setattr(proxy_plots, "DOCS", tmp_path)
    monkeypatch.setattr(pages, "rows_of", {"handmade": rows, "discover": found}.get)
    proxy_plots.main(tmp_path / "work")
    page = (tmp_path / "proxies.md").read_text()
    assert "| snip | 50 |" in page
    assert "`sum(macs)`" in page
    assert " | 2 (1 undefined) | " in page
    assert "| 0.900 | – | – | 0.2 |" in page
    assert re.search(r"\| 0\.900 \| 0\.\d+ \| [+-]0\.\d+ \| – \|", page)
    assert {path.stem for path in (tmp_path / "images").iterdir()} == {
        "proxies_tasks",
        *(f"discovery_{what}_small" for what in ("labels", "front", "scatter", "uses")),
    }

"""The report as a file: whole, accessible, escaped, honest about what a run lacks; bad input is refused."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from proxygraph.dag import Dag, Node
from proxygraph.errors import BackendUnavailable, ConfigError
from proxygraph.infix import parse, text
from proxygraph.latex import latex
from proxygraph.leaves import Leaf
from tests.report.making import NETWORK_FORMULAS, columns, make_run, networks
from tests.report.pages import Page, check_for_screen_readers, check_needs_nothing_else, check_references

pytest.importorskip("jinja2", reason="jinja2 is not installed")
pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")

from proxygraph.report.__main__ import report
from proxygraph.report.graphs import graph
from proxygraph.report.plots import Choice, front_plot, scatter, sparkline
from proxygraph.report.runs import read_run
from proxygraph.report.svg import Scale, apart, number, tick_text
from proxygraph.report.view import far_sentence

EVIL = """</script><img src=x onerror="alert(1)">'{{ 7*7 }}&"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "nets", networks(), NETWORK_FORMULAS, best=2)
    make_run(
        folder / "table", columns(["a", "b", "c c"]), ["a * b", "a * b / `c c`", "2.0000001 * a * b / `c c`"]
    )
    return folder


@pytest.fixture(scope="module", params=["nets", "table", "both"])
def page(request, runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "page.html"
    report([runs / "nets", runs / "table"] if request.param == "both" else [runs / request.param], out)
    html = out.read_text(encoding="utf-8")
    return html, Page(html)


def test_the_page_needs_nothing_else(page):
    check_needs_nothing_else(*page)
    assert not page[1].with_attribute("src")


def test_the_page_is_light(page):
    assert len(page[0].encode()) < 500_000


def test_names_and_references(page):
    check_references(page[1])


def test_screen_readers_find_their_way(page):
    check_for_screen_readers(page[1])


def test_every_formula_is_there_in_every_form(runs, tmp_path):
    report([runs / "nets"], tmp_path / "p.html")
    parsed = Page(html := (tmp_path / "p.html").read_text(encoding="utf-8"))
    run = read_run(runs / "nets")
    copies = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])
    assert len(run.baselines) > 5
    assert [one.name for one in run.formulas] == [
        *(f"size {one.dag.size}" for one in run.front),
        *(one.name for one in run.baselines),
    ]
    assert len(parsed.all("article")) == len(copies) == len(run.formulas)
    for k, one in enumerate(run.formulas):
        kinds = copies[f"r0-f{k}"]
        assert kinds["LaTeX"] == latex(one.dag)
        assert kinds["text"] == text(one.dag)
        assert ("Python" in kinds) == one.front
        if one.front:
            compile(kinds["Python"], "formula.py", "exec")
    assert sum("data-best" in a for a in parsed.all("article")) == 1
    nodes = [a for a in parsed.all("g") if a.get("class", "").startswith("node ")]
    assert len(nodes) == sum(len(one.dag) for one in run.formulas)
    assert f"A formula of {run.best.dag.size} nodes ranks 10 unseen networks by miou" in html
    for part in ("structural", "algebraic", "rank"):
        assert f"by the {part} tier" in html
    assert "max depth" in html
    assert run.result["environment"]["python"] in html


def test_scatter_plots_have_a_mark_for_every_row(runs, tmp_path):
    report([runs / "table"], tmp_path / "p.html")
    html = (tmp_path / "p.html").read_text(encoding="utf-8")
    scores = read_run(runs / "table").scores
    for part in ("train", "validation", "test"):
        paths = re.findall(rf'<path d="([^"]*)" class="rows {part}"></path>', html)
        assert len(paths) == 3
        assert {path.count("M") for path in paths} == {scores.parts.count(part)}
    table = re.search(r'<table class="rows">.*?</table>', html, re.S)[0]
    assert table.count("<tr>") == 1 + len(scores.rows)


def test_names_of_a_table_are_text(tmp_path):
    problem = columns([EVIL, "b", "c"], name=EVIL, target=EVIL)
    leaves = {EVIL: Leaf(EVIL, "row"), "b": Leaf("b", "row")}
    evil = Dag([Node("leaf", EVIL), Node("leaf", "b"), Node("op", "mul", (0, 1))], leaves)
    make_run(tmp_path / "run", problem, [evil])
    report([tmp_path / "run"], None)
    parsed = Page(html := (tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert not parsed.all("img")
    assert len(parsed.all("script")) == 2
    assert parsed.text_of("h1") == [EVIL]
    assert "{{ 7*7 }}" in html
    data = re.search(r'id="data">(.*?)</script>', html, re.S)[1]
    assert EVIL in json.loads(data)["r0-f0"]["text"]


def test_several_runs_stand_in_one_table(runs, tmp_path):
    report([runs / "nets", runs / "table"], tmp_path / "p.html")
    parsed = Page((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert [a["data-run"] for a in parsed.all("a") if "data-run" in a] == ["r0", "r1"]
    assert [a["id"] for a in parsed.all("section") if a.get("class") == "run"] == ["r0", "r1"]
    assert parsed.text_of("nav")[0].count("→") == 2


def test_a_run_without_scores_says_so(runs, tmp_path):
    shutil.copytree(runs / "nets", tmp_path / "old")
    (tmp_path / "old" / "scores.csv").unlink()
    (tmp_path / "old" / "journal.jsonl").unlink()
    report([tmp_path / "old"], None)
    html = (tmp_path / "old" / "report.html").read_text(encoding="utf-8")
    assert "there is no scatter plot" in html
    assert "no journal" in html
    assert 'class="plot scatter"' not in html


def damage(name, change):
    def apply(folder):
        path = folder / name
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

    return apply


def edited(change):
    def apply(text):
        data = json.loads(text)
        change(data)
        return json.dumps(data)

    return damage("result.json", apply)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: shutil.rmtree(folder), "no such folder"),
        (lambda folder: (folder / "config.json").unlink(), "not the folder of a run"),
        (lambda folder: (folder / "result.json").unlink(), "not finished"),
        (damage("result.json", lambda text: text[:1000]), "result.json: cannot be read"),
        (damage("result.json", lambda text: "[]"), "expected a JSON object"),
        (edited(lambda data: data.pop("front")), "'front'"),
        (edited(lambda data: data["search"].pop("duplicates")), "'duplicates'"),
        (edited(lambda data: data["front"][0].update(key="0")), "do not match"),
        (edited(lambda data: data["best"].update(key="0")), "not on the front"),
        (edited(lambda data: data["front"][0]["test"].update(spearman="x")), "could not convert"),
        (edited(lambda data: data.update(objective="luck")), "no objective named 'luck'"),
        (damage("journal.jsonl", lambda text: "{\n" + text), "journal.jsonl: line 1 is damaged"),
        (damage("scores.csv", lambda text: text.replace("row,part", "row,what")), "scores.csv: damaged"),
        (damage("scores.csv", lambda text: text.replace("snip", "x")), "scores.csv: damaged"),
    ],
)
def test_bad_runs_are_refused_and_the_old_page_stays(runs, tmp_path, spoil, words):
    shutil.copytree(runs / "nets", folder := tmp_path / "run")
    out = tmp_path / "page.html"
    out.write_text("old", encoding="utf-8")
    spoil(folder)
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        report([runs / "table", folder], out)
    assert str(folder) in str(caught.value)
    assert out.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["page.html"]


def test_a_journal_cut_short_by_a_crash_is_read(runs, tmp_path):
    shutil.copytree(runs / "nets", folder := tmp_path / "run")
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"generation": 4, "sec')
    assert len(read_run(folder).journal) == 3


@pytest.mark.parametrize(("out", "words"), [("page.pdf", "ends in .html"), ("none/page.html", "no folder")])
def test_a_place_that_cannot_be_written_is_refused(runs, tmp_path, out, words):
    with pytest.raises(ConfigError, match=words):
        report([runs / "table"], tmp_path / out)
    assert not [*tmp_path.iterdir()]


def test_missing_packages_are_named(runs, tmp_path, monkeypatch):
    from proxygraph.report import page

    monkeypatch.setattr(page, "find_spec", lambda name: None if name == "jinja2" else "there")
    with pytest.raises(
        BackendUnavailable, match=re.escape("need jinja2, not installed: pip install 'proxygraph[report]'")
    ):
        report([runs / "table"], tmp_path / "p.html")


def test_the_command(runs, tmp_path):
    def call(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "proxygraph.report", *map(str, args)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    done = call(runs / "nets", runs / "table")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("report: report.html (")
    assert (tmp_path / "report.html").is_file()
    done = call(tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_numbers_and_ticks():
    assert number(-0.5) == "−0.500"
    assert (number(9999.6, 0), number(-1848205.78)) == ("10,000", "−1.85e6")
    assert number(None) == number(float("nan")) == "–"
    assert Scale(0.0, 1.0, 0, 100).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert Scale(0.3, 0.001, 0, 100, log=True).ticks() == pytest.approx([0.1, 0.01, 0.001][::-1])
    assert Scale(0.02, 0.3, 0, 100, log=True).ticks() == pytest.approx([0.02, 0.05, 0.1, 0.2])
    assert Scale(10.0, 1000.0, 0, 100, log=True)(100.0) == pytest.approx(50.0)
    assert tick_text(-0.5, [-1.0, -0.5, 0.0]) == "−0.5"
    assert tick_text(2e7, [0.0, 1e7, 2e7]) == "2e7"
    assert apart([10.0, 11.0, 50.0], 10.0, 0.0, 100.0) == pytest.approx([5.5, 15.5, 50.0])


@pytest.mark.parametrize(
    "values",
    [[1 - 2**-53, 1.0, 1.0], [-1e308, 1e308], [1.7e308, 1.0], [3.0, 3.0 + 1e-15], [0.0, 0.0], [5e-324, 0.0]],
)
def test_values_at_the_edge_of_what_floats_tell_apart_have_a_place(values):
    scale = Scale.around(values, 0.0, 100.0)
    assert all(0 <= scale(v) <= 100 for v in values)
    assert 1 <= len(ticks := scale.ticks()) <= 7
    assert len({tick_text(v, ticks) for v in ticks}) == len(ticks)
    assert "nan" not in str(sparkline([1, 2], [values[0]] * 2, values[0], values[0], 2))
    logarithmic = Scale.around([abs(v) or 5e-324 for v in values], 0.0, 100.0, log=True)
    assert all(0 <= logarithmic(abs(v) or 5e-324) <= 100 for v in values)
    assert logarithmic.ticks()


def test_crosses_that_are_not_drawn_are_counted_by_reason():
    def choice(id, validation, x=3.0):
        return Choice(id, id, x, {"train": validation, "validation": validation, "test": validation})

    front = [choice("f0", 0.8, 1.0), choice("f1", 0.9)]
    others = [choice("near", 0.85), choice("low", -0.9), choice("undefined", None)]
    drawn, below = front_plot(front, others, x_label="nodes", y_label="rho", name="n")
    assert below == 1
    assert re.findall(r'data-mark="(\w+)"', drawn) == ["near"]
    assert far_sentence(1, 0) == "1 of them lies below the plot."
    assert far_sentence(2, 1) == "2 of them lie below the plot, 1 of them has no validation score."
    assert far_sentence(0, 2) == "2 of them have no validation score."
    assert far_sentence(0, 0) == ""


@pytest.mark.parametrize(
    "formula", ["(a+b)*((a-b)*(c+exp(b)*a))", "a - b", "exp(a) / a", "(a - b) / (b - a)"]
)
def test_the_numbers_of_two_arguments_stand_on_either_side(formula):
    dag = parse(formula, {name: Leaf(name, axis="row") for name in "abc"})
    numbers = re.findall(r'<text x="(\S+)" y="(\S+)" class="slot middle">([12])</text>', graph(dag, "g"))
    ordered = [node for node in dag if node.kind == "op" and node.name in ("sub", "div")]
    assert len(numbers) == 2 * len(ordered)
    assert len({(x, y) for x, y, _ in numbers}) == len(numbers)


def test_a_few_wild_scores_do_not_squeeze_the_others():
    target = [float(k) for k in range(40)]
    values = [*target[:-1], 1e9]
    marks = {"id": "a", "x_label": "score", "y_label": "y", "name": "n", "parts": ["train"] * 40}
    assert "as ranks" in scatter(values, target, fit=False, **marks)
    assert "as ranks" not in scatter(target, target, fit=False, **marks)
    drawn = re.findall(r"M(\S+) (\S+?)h0", scatter(values, target, fit=True, **marks))
    across = sorted(float(x) for x, _ in drawn)
    assert across[-1] <= 440.0
    assert across[20] - across[0] > 60.0

"""The report of a search as a file: whole, accessible, honest about what is missing; bad input is refused."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from proxygraph.errors import BackendUnavailable, ConfigError
from segspace.drawing import coloured
from segspace.rtseg.arch import Arch
from segspace.rtseg.program import program
from segspace.rtseg.space import Space
from segspace.search.results import read_results
from segspace.search.study import Candidate
from tests.report.making_study import (
    CLASSES,
    PALETTE,
    SIZE,
    candidates,
    label_maps,
    make_measured,
    make_study,
    make_trained,
)
from tests.report.pages import Page, check_for_screen_readers, check_needs_nothing_else, check_references

pytest.importorskip("jinja2", reason="jinja2 is not installed")
pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")

from segspace.report.__main__ import report
from segspace.report.archs import _HEIGHT, _WIDTH, arch_svg, draw, drawing, node_of, write_png
from segspace.report.figures import score_text

EVIL = """</script><img src=x onerror="alert(1)">'{{ 7*7 }}&"""


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """A study with everything, one of an older version with nothing beside it, one without any score."""
    folder = tmp_path_factory.mktemp("studies")
    found = candidates(20)
    make_study(folder / "full", found)
    results = read_results(folder / "full")
    measured = {one.arch: 1.25 * one.cost for one in results.front} | {"enet": 3.0}
    make_measured(folder / "full" / "measured.json", measured)
    make_trained(folder / "found", results.front[-1].arch)
    make_trained(folder / "enet", "enet", pictures=0)
    make_study(folder / "old", found, budget=None, old=True)
    make_study(folder / "none", [Candidate(k, one.arch, None, one.cost, 1, 1) for k, one in enumerate(found)])
    return folder


@pytest.fixture(scope="module", params=["full", "old", "none"])
def page(request, studies, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "page.html"
    full = request.param == "full"
    report(studies / request.param, trained=[studies / "found", studies / "enet"] if full else None, out=out)
    html = out.read_text(encoding="utf-8")
    return html, Page(html)


def written(study, tmp_path, **options):
    report(study, out=tmp_path / "p.html", **options)
    html = (tmp_path / "p.html").read_text(encoding="utf-8")
    return html, Page(html)


def test_the_page_needs_nothing_else(page):
    check_needs_nothing_else(*page)
    (policy,) = (a["content"] for a in page[1].all("meta") if "http-equiv" in a)
    assert policy.endswith("img-src data:")
    assert len(page[0].encode()) < 400_000


def test_names_and_references(page):
    check_references(page[1])


def test_screen_readers_find_their_way(page):
    check_for_screen_readers(page[1])
    # all networks are on the page without scripts: regions need names that tell them apart
    names = [a["aria-label"] for _, a in page[1].elements if a.get("role") == "region"]
    assert len(names) == len(set(names))
    assert all(a["alt"] for a in page[1].all("img"))


def test_every_network_of_the_front_is_drawn_whole(studies, tmp_path):
    html, parsed = written(studies / "full", tmp_path, trained=[studies / "enet"])
    results = read_results(studies / "full")
    with (studies / "full" / "front.csv").open(encoding="utf-8", newline="") as file:
        assert [one.arch for one in results.front] == [row["arch"] for row in csv.DictReader(file)]
    articles = re.findall(r"<article.*?</article>", html, re.S)
    assert len(articles) == len(results.front) + 1
    copies = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])
    for k, (one, article) in enumerate(zip(results.front, articles, strict=False)):
        drawn, table = article.split("Network as a table</summary>")
        steps = program(Arch.parse(one.arch), SIZE, CLASSES).steps
        boxes = set(re.findall(r'<g data-node="([^"]+)"', drawn))
        assert boxes == {node_of(step) for step in steps}
        assert set(re.findall(r'<tr data-node="([^"]+)"', table)) == boxes
        assert re.findall(r'<th scope="row">([^<]+)</th>', table) == [step.name for step in steps]
        shares = [float(v) for v in re.findall(r'<td class="n">([\d.]+)</td></tr>', table)]
        assert sum(shares) == pytest.approx(100, abs=0.05 * len(steps))
        assert copies[f"r0-n{k}"]["text"] == one.arch
        assert f"segspace.train {one.arch} --size 64x96" in copies[f"r0-n{k}"]["command to train"]
    assert "only networks of the space rtseg are drawn" in articles[-1]
    best = [a["id"] for a in parsed.all("article") if "data-best" in a]
    assert best == [f"r0-n{len(results.front) - 1}"]


def copies_of(html):
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])


def test_every_network_has_a_folder_of_its_own_and_is_exported_from_where_it_was_trained(studies, tmp_path):
    front = read_results(studies / "full").front
    html, parsed = written(studies / "full", tmp_path, trained=[studies / "found", studies / "enet"])
    copies = copies_of(html)
    outs = [one["command to train"].partition(" --out ")[2] for one in copies.values()]
    assert outs == [f"runs/found-{k}" for k in range(1, len(front) + 2)]
    exports = {id: one["command to export"] for id, one in copies.items() if "command to export" in one}
    assert exports == {
        f"r0-n{len(front) - 1 + k}": f"python -m segspace.export {run} --size 64x96 --onnx {run}/network.onnx"
        for k, run in enumerate((studies / "found", studies / "enet"))
    }
    buttons = [a["data-of"] for a in parsed.all("button") if a.get("data-copy") == "command to export"]
    assert buttons == list(exports)


def test_an_evaluation_names_the_training_it_is_of(studies, tmp_path):
    run = make_trained(tmp_path / "run", "enet")
    found = json.loads((run / "evaluation-val/evaluation.json").read_text(encoding="utf-8"))

    def exported(folder, checkpoint):
        (folder / "evaluation.json").write_text(json.dumps(found | {"checkpoint": checkpoint}))
        html, _ = written(studies / "full", tmp_path, trained=[folder])
        return [*copies_of(html).values()][-1].get("command to export", "").split(" ")[3:4]

    assert exported(run / "evaluation-val", "moved/since") == [str(run)]
    shutil.copytree(run / "evaluation-val", tmp_path / "apart")
    assert exported(tmp_path / "apart", str(run)) == [str(run)]
    assert exported(tmp_path / "apart", "not/there") == []


def stepped(run, split, step, miou):
    """Judge a run on a split at a step."""
    folder = run / f"evaluation-{split}"
    folder.mkdir(exist_ok=True)
    found = json.loads((run / "result.json").read_text(encoding="utf-8"))
    found |= {"miou": miou, "checkpoint": str(run), "step": step}
    (folder / "evaluation.json").write_text(json.dumps(found), encoding="utf-8")


def test_an_evaluation_before_the_end_of_training_says_so_and_hides_no_result(studies, tmp_path):
    run = make_trained(tmp_path / "run", "enet", pictures=0)

    def told():
        html, _ = written(studies / "full", tmp_path, trained=[run])
        return re.search(r"<h4[^>]*>Trained: mIoU ([^(]+) \(", html)[1], html

    stepped(run, "val", [1, 20], 10.5)
    assert told()[0] == "45.25 %"  # result.json is newer
    stepped(run, "test", [20, 20], 46.5)
    assert told()[0] == "46.50 %"
    stepped(run, "test", [7, 20], 12.5)
    (run / "result.json").rename(tmp_path / "result.json")
    words, html = told()
    assert words == "12.50 % after step 7 of 20"
    assert f"<td>{run}, after step 7 of 20</td>" in html
    assert "<dt>mIoU, after step 7 of 20</dt>" in html
    (tmp_path / "result.json").rename(run / "result.json")
    stepped(run, "test", "no step", 12.5)
    with pytest.raises(ConfigError, match="damaged"):
        told()


def test_a_size_that_is_not_that_of_the_search_is_said(studies, tmp_path):
    run = make_trained(tmp_path / "run", "enet", pictures=0)
    assert "seen at" not in written(studies / "full", tmp_path, trained=[run])[0]
    resized(run / "result.json")
    html, _ = written(studies / "full", tmp_path, trained=[run])
    assert f"<td>{run}, seen at 32×48</td>" in html
    assert "2 pictures; seen at 32×48, latency is of another size</p>" in html


def test_the_command_that_makes_pictures_names_the_run_and_not_the_evaluation(studies, tmp_path):
    run = make_trained(tmp_path / "run", "enet", pictures=0)
    stepped(run, "val", [20, 20], 46.5)

    def command(folder):
        html, _ = written(studies / "full", tmp_path, trained=[folder])
        assert "Example predictions are not there" in html
        return re.findall(r"segspace.evaluate ([^<]+)</code>", html)

    assert command(run / "evaluation-val") == [f"{run} --data streetscenes:64x96"]
    shutil.copytree(run / "evaluation-val", tmp_path / "apart")
    assert command(tmp_path / "apart") == [f"{run} --data streetscenes:64x96"]
    shutil.rmtree(run)
    assert command(tmp_path / "apart") == []


def test_dots_of_candidates_are_in_the_order_of_their_table(studies, tmp_path):
    html, _ = written(studies / "full", tmp_path)
    scored = [one for one in read_results(studies / "full").candidates if one.score is not None]
    (dots,) = re.findall(r'<path d="([^"]*)" class="cloud">', html.split("<figcaption>")[0])
    places = [(float(x), float(y)) for x, y in re.findall(r"M(\S+) (\S+?)h0", dots)]
    assert len(places) == len(scored) == 18
    assert np.argsort([x for x, _ in places]).tolist() == np.argsort([one.cost for one in scored]).tolist()
    assert np.argsort([-y for _, y in places]).tolist() == np.argsort([one.score for one in scored]).tolist()
    table = re.search(r'id="r0-candidates">.*?</table>', html, re.S)[0]
    named = re.findall(r'<th scope="row">(?:<a[^>]*>)?([^<]+)<', table)
    assert named == [one.arch for one in scored]


def test_of_very_many_candidates_some_are_drawn(studies, tmp_path, monkeypatch):
    monkeypatch.setattr("segspace.report.view.MOST_ROWS", 5)
    html, _ = written(studies / "full", tmp_path)
    assert "Table of 5 of 18 networks with a score" in html
    assert html.split('class="cloud"')[0].rpartition('d="')[2].count("M") == 5
    assert re.search(r'id="r0-candidates">.*?</table>', html, re.S)[0].count("<tr") == 1 + 5


def test_what_is_missing_is_said_with_its_command(studies, tmp_path):
    html, _ = written(studies / "old", tmp_path)
    assert f"python -m segspace.latency measure --study {studies / 'old'}" in html
    assert "python -m segspace.train ARCH --size 64x96 --out runs/found" in html
    assert f"python -m segspace.report {studies / 'old'} --trained RUN" in html
    assert "the share of the multiply-accumulates" in html
    html, _ = written(studies / "full", tmp_path, trained=[studies / "found", studies / "enet"])
    assert "latency measure --study" not in html
    assert "--trained RUN" not in html
    assert "the share of the predicted latency" in html
    commands = re.findall(r'<code class="command">([^<]*)', html)
    assert commands == [f"python -m segspace.evaluate {studies / 'enet'} --data streetscenes:64x96"]
    html, _ = written(studies / "none", tmp_path)
    assert "None of 20 networks within 1.5 ms has a score" in html
    assert "there is no front" in html


def test_counts_add_up(studies, tmp_path):
    html, _ = written(studies / "full", tmp_path)
    table = re.search(r"What became of the networks.*?</table>", html, re.S)[0]
    counts = dict(re.findall(r'<th scope="row">([^<]+)</th><td class="n">(\d+)</td>', table))
    assert counts == {
        "proposed": "86",
        "scored": "18",
        "invalid": "2",
        "duplicate": "11",
        "over budget": "22",
        "unmeasured": "33",
    }
    assert "2 without a score: the score is nan" in html
    facts = dict(re.findall(r"<div><dt>([^<]+)</dt><dd>([^<]+)</dd></div>", html.split('class="choose"')[0]))
    assert facts["networks scored"] == counts["scored"]


def test_predictions_are_compared_with_the_10th_percentile(studies, tmp_path):
    html, _ = written(studies / "full", tmp_path)
    n = len(read_results(studies / "full").front)
    # measured is 1.25 of predicted: off by 20 % everywhere, in the same order
    assert f"{n} networks: the prediction is off by 20.0 % on average, by 20.0 % at most" in html
    assert "Kendall's τ of the order is 1.00" in html.replace("&#39;", "'")
    section = re.search(r'aria-labelledby="r0-agreement".*?</section>', html, re.S)[0]
    assert section.count('class="pick"') == n
    assert section.count("−20.0</td>") == n
    assert ">enet</th>" in section

    equal = make_measured(
        tmp_path / "e.json", {one.arch: 2.0 for one in read_results(studies / "full").front}
    )
    html, _ = written(studies / "full", tmp_path, measured=equal)
    assert re.search(r"on average, by [\d.]+ % at most\.</p>", html)

    other = make_measured(tmp_path / "m.json", {"enet": 1.0}, device="another")
    html, _ = written(studies / "full", tmp_path, measured=other)
    assert "None of the networks of this search is among those" in html
    assert "device 'a processor' is now 'another'" in html.replace("&#39;", "'")


def test_label_maps_are_exact(studies, tmp_path):
    html, parsed = written(studies / "full", tmp_path, trained=[studies / "found"])
    pictures = parsed.all("img")
    assert len(pictures) == 3 * 2
    for k in range(2):
        for one, labels in zip(pictures[3 * k + 1 : 3 * k + 3], label_maps(k), strict=True):
            kind, _, content = one["src"].partition(",")
            assert kind == "data:image/png;base64"
            shown = Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")
            assert np.array_equal(np.asarray(shown), np.asarray(coloured(labels, PALETTE)))
    assert "mIoU 47.75 %" in html  # of the evaluation, not of the training
    assert 'fill="rgb(128,64,128)"' in html
    rows = re.findall(r'<span class="iou"><span>([^<]+)</span>', html)
    assert rows == ["60.0", "30.5", "–"]


def test_an_evaluation_kept_elsewhere_and_names_that_are_text(studies, tmp_path):
    arch = read_results(studies / "full").front[0].arch
    run = make_trained(tmp_path / "run", arch, names=(EVIL, "b", "c"))
    shutil.copytree(run / "evaluation-val", tmp_path / "apart")
    html, parsed = written(studies / "full", tmp_path, trained=[tmp_path / "apart"])
    assert len(parsed.all("img")) == 6
    assert len(parsed.all("script")) == 2
    assert "{{ 7*7 }}" in html


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: shutil.rmtree(f / "s"), "no such folder"),
        (lambda f: (f / "s/result.json").unlink(), "not the folder of a search"),
        (lambda f: ((f / "s/result.json").unlink(), (f / "s/study.db").touch()), "not written its results"),
        (lambda f: (f / "s/result.json").write_text("{}"), "result.json: damaged"),
        (lambda f: (f / "s/front.csv").unlink(), "front.csv: missing"),
        (lambda f: (f / "s/front.csv").write_text("arch\nrtseg:tiny:0-C0-0\n"), "front.csv: damaged"),
        (lambda f: (f / "s/candidates.csv").write_text("arch,score\na,x\n"), "candidates.csv: damaged"),
        (lambda f: (f / "s/shares.csv").write_text("arch,step\na,b\n"), "shares.csv: damaged"),
        (lambda f: (f / "s/measured.json").write_text("{}"), "not what python -m segspace.latency measure"),
        (
            lambda f: resized(f / "s/measured.json"),
            "measured at 32x48 with 3 classes, the search is of 64x96",
        ),
        (lambda f: shutil.rmtree(f / "t"), "no such folder"),
        (lambda f: (f / "t/config.json").unlink(), "neither a run of segspace.train"),
        (  # a supernet, a run of evolve
            lambda f: (f / "t/config.json").write_text('{"command": "oneshot train", "preset": "tiny"}'),
            "neither a run of segspace.train",
        ),
        (lambda f: (shutil.rmtree(f / "t"), (f / "t").touch()), "t: is a file"),
        (lambda f: (shutil.rmtree(f / "s"), (f / "s").touch()), "s: is a file"),
        (lambda f: (f / "t/result.json").replace(f / "t/evaluation-val/../x"), "not finished"),
        (lambda f: (f / "t/evaluation-val/evaluation.json").write_text("{}"), "damaged"),
        (
            lambda f: (f / "t/evaluation-val/prediction-scene-0.png").write_text("x"),
            "cannot be read as image",
        ),
        (lambda f: unfinished(f / "t"), "this training is not finished"),
    ],
)
def test_bad_input_is_refused(studies, tmp_path, spoil, words):
    shutil.copytree(studies / "full", tmp_path / "s")
    shutil.copytree(studies / "found", tmp_path / "t")
    spoil(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(words)):
        report(tmp_path / "s", trained=[tmp_path / "t"], out=tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


def resized(path):
    found = json.loads(path.read_text(encoding="utf-8")) | {"size": [32, 48]}
    path.write_text(json.dumps(found), encoding="utf-8")


def unfinished(path):
    shutil.rmtree(path / "evaluation-val")
    (path / "result.json").unlink()


def test_the_command_in_a_process_of_its_own(studies, tmp_path):
    def call(*args):
        command = [sys.executable, "-m", "segspace.report", *map(str, args)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    shutil.copytree(studies / "full", tmp_path / "s")
    done = call("s")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("report: s/report.html (")
    done = call(tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


# ---- networks drawn ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["tiny", "base"])
def test_boxes_are_apart_and_lines_run_between_them(preset):
    space, rng = Space.preset(preset), np.random.default_rng(3)
    for arch in [space.diverse(rng) for _ in range(150)]:
        steps = program(arch, SIZE, CLASSES)
        drawn = drawing(arch, steps)
        assert sum(box.share for box in drawn.boxes) == pytest.approx(1)
        assert {box.node for box in drawn.boxes} == {node_of(step) for step in steps.steps}
        centres = np.array([(box.x, box.y) for box in drawn.boxes])
        for k, box in enumerate(drawn.boxes):
            far = np.abs(np.delete(centres, k, 0) - centres[k])
            assert np.all((far[:, 0] > _WIDTH) | (far[:, 1] > _HEIGHT)), arch
            (band,) = [b for b in drawn.bands if b[1] <= box.y - _HEIGHT / 2 < box.y + _HEIGHT / 2 <= b[2]]
            first = next(step for step in reversed(steps.steps) if node_of(step) == box.node)
            if box.node not in ("stem", "head"):
                assert band[0] == f"1/{8 << round(np.log2(SIZE[0] / 8 / first.piece.out[0]))}", arch
        for points in drawn.edges:
            for (ax, ay), (bx, by) in pairwise(points):
                assert ax == bx or ay == by
                middle = np.linspace((ax, ay), (bx, by), 25)
                inside = np.abs(middle[:, None] - centres) < np.array([_WIDTH, _HEIGHT]) / 2 - 1e-6
                assert not inside.all(2).any(), arch
        ends = {(round(x, 6), round(y, 6)) for points in drawn.edges for x, y in (points[0], points[-1])}
        sides = [
            {(b.x - _WIDTH / 2, b.y), (b.x + _WIDTH / 2, b.y), (b.x, b.y + _HEIGHT / 2)} for b in drawn.boxes
        ]
        assert all(ends & {(round(x, 6), round(y, 6)) for x, y in side} for side in sides)


def test_a_drawing_stands_alone_as_svg_and_png(tmp_path):
    text = "rtseg:tiny:c2-C2z3D4-i1"
    root = ElementTree.fromstring(arch_svg(text))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert text in root.attrib["aria-label"]
    assert "--element:" in "".join(root.itertext())
    words = " ".join(root.itertext())
    assert "2×conv" in words
    assert "192 ch" in words  # width 4 of the preset, 48, four times at 1/32
    write_png(text, tmp_path / "n.png")
    with Image.open(tmp_path / "n.png") as image:
        colours = {rgb for _, rgb in image.convert("RGB").getcolors(1 << 20)}
    assert {(0x1F, 0x62, 0xA8), (0xFB, 0xEF, 0xD4)} <= colours  # a convolution's line, a residual's filling
    draw(text, tmp_path / "n.svg")
    assert ElementTree.parse(tmp_path / "n.svg").getroot().attrib == root.attrib
    for out, words in ((tmp_path / "n.gif", ".svg or .png"), (tmp_path / "no/n.svg", "there is no folder")):
        with pytest.raises(ConfigError, match=words):
            draw(text, out)
    with pytest.raises(ConfigError, match="expected rtseg:PRESET"):
        draw("enet", tmp_path / "n.svg")


def test_without_matplotlib_a_png_is_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BackendUnavailable, match=r"proxygraph\[report\]"):
        write_png("rtseg:tiny:0-C0-0", tmp_path / "n.png")


def test_scores_have_five_digits_at_any_scale():
    texts = [score_text(v) for v in (None, 0.0, 172.781234, -3.14159265, 12.3456, 1234.567, 2.5e-5, -4.2e9)]
    assert texts == ["–", "0.00000", "172.78", "−3.1416", "12.346", "1,234.6", "2.500e−05", "−4.20e9"]

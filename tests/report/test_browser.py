"""The report in a real browser: Debian's chromium, driven by selenium; skipped where they are missing."""

import json

import pytest

from tests.report.browser import CONTRAST, chosen, find, shown, too_wide
from tests.report.making import NETWORK_FORMULAS, columns, make_run, networks

pytest.importorskip("selenium", reason="selenium is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")
pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")

from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from proxygraph.report.__main__ import report

pytestmark = pytest.mark.browser
LONG = "a column with a name that is much longer than any telephone is wide, in its table and in its formulas"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    make_run(folder / "nets", networks(), NETWORK_FORMULAS, best=2)
    many = " + ".join(f"{0.1234567890123 * (k + 1)!r} * `{LONG}`**{k}" for k in range(2, 9))
    make_run(folder / "table", columns(["a", "b", LONG]), ["a * b", f"a * b / `{LONG}`", many])
    report([folder / "nets"], folder / "nets.html")
    report([folder / "table"], folder / "table.html")
    report([folder / "nets", folder / "table"], folder / "both.html")
    return folder


def test_the_best_formula_is_shown_first(opened):
    driver = opened("nets.html")
    assert shown(driver) == ["r0-f2"]
    assert chosen(driver) == (["r0-f2"], ["r0-f2"], "")
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_clicks_choose_everywhere(opened):
    driver = opened("nets.html")
    find(driver, ".list [data-pick=r0-f0]")[0].click()
    assert shown(driver) == ["r0-f0"]
    assert chosen(driver) == (["r0-f0"], ["r0-f0"], "#r0-f0")
    webdriver.ActionChains(driver).move_to_element(
        find(driver, ".pick[data-pick=r0-f1] .band")[0]
    ).click().perform()
    assert shown(driver) == ["r0-f1"]
    assert chosen(driver) == (["r0-f1"], ["r0-f1"], "#r0-f1")
    proxy = find(driver, ".gallery [data-pick]")[1]
    proxy.click()
    id = proxy.get_attribute("data-pick")
    assert shown(driver) == [id]
    assert chosen(driver) == ([], [], f"#{id}")
    assert driver.switch_to.active_element.get_attribute("id") == id


def test_an_address_opens_its_formula(opened):
    assert shown(opened("nets.html", fragment="#r0-f1")) == ["r0-f1"]
    driver = opened("both.html", fragment="#r1-f0")
    assert shown(driver, ".run") == ["r1"]
    assert shown(driver) == ["r1-f0"]


def test_arrow_keys_go_through_the_plot_with_one_tab_stop(opened):
    driver = opened("nets.html")
    assert len(find(driver, ".pick[tabindex='0']")) == 1
    driver.execute_script("document.querySelector('.pick[tabindex=\"0\"]').focus()")
    for key, id in (
        (Keys.ARROW_LEFT, "r0-f1"),
        (Keys.HOME, "r0-f0"),
        (Keys.ARROW_UP, "r0-f0"),
        (Keys.ARROW_RIGHT, "r0-f1"),
        (Keys.END, "r0-f3"),
    ):
        driver.switch_to.active_element.send_keys(key)
        assert shown(driver) == [id]
        assert driver.switch_to.active_element.get_attribute("data-pick") == id
        assert chosen(driver) == ([id], [id], f"#{id}")


def test_what_is_pointed_at_is_marked_everywhere(opened):
    driver = opened("nets.html")
    webdriver.ActionChains(driver).move_to_element(find(driver, ".pick[data-pick=r0-f1] .band")[0]).perform()
    marked = {one.tag_name for one in find(driver, ".hot")}
    assert {"a", "tr"} <= marked
    root = find(driver, "#r0-f2 .graph .node")[-1]
    node = root.get_attribute("data-node")
    webdriver.ActionChains(driver).move_to_element(root).perform()
    assert {one.get_attribute("data-node") for one in find(driver, ".hot")} == {node}
    assert {one.tag_name for one in find(driver, ".hot")} == {"mrow", "g"}


def test_the_row_under_the_pointer_is_named(opened, pages):
    driver = opened("table.html")
    # the first test row: where its mark is, and what the files say of it
    place = driver.execute_script("""
      const plot = document.querySelector(".formula:not([hidden]) .scatter");
      const [, x, y] = plot.querySelector(".rows.test").getAttribute("d").match(/M(\\S+) ([\\d.]+)h/);
      const at = new DOMPoint(+x, +y).matrixTransform(plot.getScreenCTM());
      plot.dispatchEvent(new PointerEvent("pointermove", {clientX: at.x, clientY: at.y, bubbles: true}));
      return document.querySelector(".formula:not([hidden]) [data-tell]").textContent;
    """)
    lines = (pages / "table" / "scores.csv").read_text(encoding="utf-8").splitlines()
    row, _, target, *_ = next(line for line in lines if ",test," in line).split(",")
    assert place.startswith(f"{row} (test): target {float(target):.4g}, formula ")


@pytest.mark.parametrize("kind", ["LaTeX", "text", "Python"])
def test_copies_are_what_the_exporters_say(opened, pages, kind):
    driver = opened("nets.html")
    driver.execute_script("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    find(driver, f"#r0-f2 [data-copy={kind}]")[0].click()
    result = json.loads((pages / "nets" / "result.json").read_text(encoding="utf-8"))
    copied = driver.execute_script("return window.copied")
    if kind == "Python":
        assert "import torch" in copied
        compile(copied, "formula.py", "exec")
    else:
        assert copied == result["best"]["latex" if kind == "LaTeX" else "infix"]
    assert driver.execute_script("return document.getElementById('said').textContent") == f"Copied as {kind}"


def test_copies_work_without_the_clipboard_interface(opened):
    driver = opened("nets.html")
    driver.execute_script("""
      Object.defineProperty(navigator, "clipboard", {value: undefined});
      document.execCommand = (what) => { window.copied = [what, String(getSelection())
        || document.activeElement.value]; return true; };
    """)
    find(driver, "#r0-f2 [data-copy=text]")[0].click()
    text = driver.execute_script("return document.querySelector('#r0-f2 .text').textContent")
    assert driver.execute_script("return window.copied") == ["copy", text]


def test_another_run_is_chosen_in_the_table(opened):
    driver = opened("both.html")
    assert shown(driver, ".run") == ["r0"]
    find(driver, "[data-run=r1]")[0].click()
    assert shown(driver, ".run") == ["r1"]
    assert driver.execute_script("return location.hash") == "#r1"
    assert [one.get_attribute("data-run") for one in find(driver, "[data-run][aria-current]")] == ["r1"]


def test_the_skip_link_keeps_the_run_that_is_shown(opened):
    driver = opened("both.html")
    find(driver, "[data-run=r1]")[0].click()
    driver.execute_script("document.querySelector('a[href=\"#main\"]').click()")
    # the event of the new address comes later than the click
    driver.execute_async_script("setTimeout(arguments[0], 50)")
    assert driver.execute_script("return location.hash") == "#main"
    assert shown(driver, ".run") == ["r1"]


@pytest.mark.parametrize("name", ["nets.html", "table.html", "both.html"])
def test_nothing_is_wider_than_a_phone(opened, name):
    driver = opened(name, width=375)
    assert too_wide(driver, 375) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(opened, scheme):
    driver = opened("nets.html", scheme=scheme)
    queries = ["h3", ".note", ".plot .tick", ".typeset .axis-element", ".list td", ".graph text"]
    ratios = driver.execute_script(CONTRAST, *queries)
    assert min(ratios) >= 4.5, dict(zip(queries, ratios, strict=True))
    brightness = driver.execute_script(
        "return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"
    )
    assert (int(brightness) < 60) == (scheme == "dark")


def test_without_scripts_everything_is_there(opened):
    driver = opened("nets.html", scripts=False)
    assert len(shown(driver)) == len(find(driver, ".formula")) > 1
    assert not any(one.is_displayed() for one in find(driver, ".copy"))

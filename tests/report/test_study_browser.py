"""The report of a search in a real browser: what is clicked is chosen everywhere, pictures are allowed."""

import json

import pytest

from segspace.search.results import read_results
from tests.report.browser import CONTRAST, chosen, find, shown, too_wide
from tests.report.making_study import candidates, make_measured, make_study, make_trained

pytest.importorskip("selenium", reason="selenium is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")
pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")

from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from segspace.report.__main__ import report

pytestmark = pytest.mark.browser
FRONT, AGREEMENT = ".pane .picks", "[aria-labelledby=r0-agreement] .picks"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    make_study(folder / "study", candidates(25))
    front = read_results(folder / "study").front
    make_measured(folder / "study" / "measured.json", {one.arch: 1.1 * one.cost for one in front})
    make_trained(folder / "found", front[-1].arch)
    make_trained(folder / "other", "bisenetv2:0.25", pictures=0)
    report(folder / "study", trained=[folder / "found", folder / "other"], out=folder / "full.html")
    make_study(folder / "old", candidates(25), old=True)
    report(folder / "old", out=folder / "old.html")
    make_study(folder / "none", candidates(3, invalid=3))
    report(folder / "none", out=folder / "none.html")
    return folder


@pytest.fixture(scope="module")
def last(pages):
    """The id of the chosen network, which is the last one of the front."""
    n = len(read_results(pages / "study").front)
    assert n > 3
    return f"r0-n{n - 1}"


def everywhere(driver):
    """What the two plots and the list say is chosen, and the address."""
    (front, current, address), (agreement, _, _) = (chosen(driver, plot) for plot in (FRONT, AGREEMENT))
    assert front == agreement
    return front, current, address


def test_the_chosen_network_is_shown_first_and_nothing_is_fetched(opened, last):
    driver = opened("full.html")
    assert shown(driver) == [last]
    assert everywhere(driver) == ([last], [last], "")
    entries = driver.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert [name for name in entries if not name.startswith("data:")] == []
    for picture in find(driver, f"#{last} img"):
        driver.execute_script("arguments[0].loading = 'eager'", picture)
    waits = (
        "Promise.all([...document.querySelectorAll('article:not([hidden]) img')].map((one) => one.decode()))"
    )
    driver.execute_async_script(f"{waits}.then(() => arguments[0](), (error) => arguments[0](error))")
    widths = driver.execute_script(
        "return [...document.querySelectorAll('article:not([hidden]) img')].map((one) => one.naturalWidth)"
    )
    assert widths == [96] * 6


def test_clicks_choose_everywhere(opened):
    driver = opened("full.html")
    find(driver, ".list [data-pick=r0-n0]")[0].click()
    assert shown(driver) == ["r0-n0"]
    assert everywhere(driver) == (["r0-n0"], ["r0-n0"], "#r0-n0")
    for plot, id in ((FRONT, "r0-n1"), (AGREEMENT, "r0-n2")):
        mark = find(driver, f"{plot} [data-pick={id}] .dot")[0]
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
        webdriver.ActionChains(driver).move_to_element(mark).click().perform()
        assert shown(driver) == [id]
        assert everywhere(driver) == ([id], [id], f"#{id}")
        rows = find(driver, f"[aria-labelledby=r0-agreement] tr.chosen [data-pick={id}]")
        assert len(rows) == 1


def test_a_trained_network_that_is_not_on_the_front_can_be_chosen(opened):
    driver = opened("full.html")
    link = find(driver, "[aria-labelledby=r0-trained] [data-go]")[1]
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
    id = link.get_attribute("data-pick")
    link.click()
    assert shown(driver) == [id]
    assert everywhere(driver) == ([], [], f"#{id}")
    assert driver.switch_to.active_element.get_attribute("id") == id


def test_an_address_opens_its_network(opened):
    assert shown(opened("full.html", fragment="#r0-n1")) == ["r0-n1"]


@pytest.mark.parametrize("plot", [FRONT, AGREEMENT])
def test_arrow_keys_go_through_each_plot_with_one_tab_stop(opened, last, plot):
    driver = opened("full.html")
    assert len(find(driver, f"{plot} .pick[tabindex='0']")) == 1
    start = find(driver, f"{plot} .pick[tabindex='0']")[0]
    driver.execute_script("arguments[0].focus()", start)
    for key, id in (
        (Keys.HOME, "r0-n0"),
        (Keys.ARROW_RIGHT, "r0-n1"),
        (Keys.ARROW_UP, "r0-n0"),
        (Keys.END, last),
        (Keys.ARROW_DOWN, last),
    ):
        driver.switch_to.active_element.send_keys(key)
        assert shown(driver) == [id]
        here = driver.switch_to.active_element
        assert here.get_attribute("data-pick") == id
        assert driver.execute_script("return arguments[0].closest('.picks') !== null", here)
        assert everywhere(driver) == ([id], [id], f"#{id}")
    assert len(find(driver, f"{plot} .pick[tabindex='0']")) == 1


def test_the_candidate_under_the_pointer_is_named(opened, pages):
    driver = opened("full.html")
    said = driver.execute_script("""
      const plot = document.querySelector("[data-cloud]");
      const places = [...plot.querySelector(".cloud").getAttribute("d").matchAll(/M(\\S+) ([\\d.]+)h/g)];
      return [0, 7, places.length - 1].map((k) => {
        const at = new DOMPoint(+places[k][1], +places[k][2]).matrixTransform(plot.getScreenCTM());
        plot.dispatchEvent(new PointerEvent("pointermove", {clientX: at.x, clientY: at.y, bubbles: true}));
        return document.querySelector(".pane [data-tell]").textContent;
      });
    """)
    scored = [one for one in read_results(pages / "study").candidates if one.score is not None]
    for text, one in zip(said, (scored[0], scored[7], scored[-1]), strict=True):
        assert text.startswith(f"{one.arch}: {one.cost:.3f} ms, score ")


def test_a_layer_that_is_pointed_at_is_marked_in_drawing_and_table(opened, last):
    driver = opened("full.html")
    box = find(driver, f"#{last} .arch [data-node=head]")[0]
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", box)
    webdriver.ActionChains(driver).move_to_element(box).perform()
    marked = [(one.tag_name, one.get_attribute("data-node")) for one in find(driver, ".hot")]
    assert marked == [("g", "head"), *[("tr", "head")] * 4]


def test_copies(opened, pages, last):
    driver = opened("full.html")
    driver.execute_script("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    arch = json.loads((pages / "study" / "result.json").read_text(encoding="utf-8"))["chosen"]["arch"]
    for kind, start in (
        ("text", arch),
        ("command to train", f"python -m segspace.train {arch} --size 64x96"),
    ):
        find(driver, f"#{last} [data-copy='{kind}']")[0].click()
        assert driver.execute_script("return window.copied").startswith(start)
        said = driver.execute_script("return document.getElementById('said').textContent")
        assert said == f"Copied as {kind}"


@pytest.mark.parametrize("name", ["full.html", "old.html", "none.html"])
def test_nothing_is_wider_than_a_phone(opened, name):
    assert too_wide(opened(name, width=375), 375) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(opened, scheme):
    driver = opened("full.html", scheme=scheme)
    queries = ["h3", ".note", ".plot .tick", ".list td", ".arch text.scale", ".arch .op-ends text"]
    ratios = driver.execute_script(CONTRAST, *queries)
    assert min(ratios) >= 4.5, dict(zip(queries, ratios, strict=True))
    fill = "return getComputedStyle(document.querySelector(arguments[0])).fill"
    fills = [driver.execute_script(fill, query) for query in (".arch .box", ".arch .share")]
    assert len({*fills, "none", "rgb(0, 0, 0)"}) == 4


def test_without_scripts_everything_is_there(opened):
    driver = opened("full.html", scripts=False)
    assert len(shown(driver)) == len(find(driver, "article")) > 4
    assert not any(one.is_displayed() for one in find(driver, ".copy"))


def test_a_search_without_scores_opens_without_errors(opened):
    driver = opened("none.html")
    assert shown(driver) == []
    assert "there is no front" in find(driver, ".pane")[0].text

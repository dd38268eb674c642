"""The hand-made proxies: every one a formula with a source."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from proxygraph.canon import canonical
from proxygraph.errors import UnknownName
from proxygraph.infix import parse, text
from proxygraph.latex import latex
from proxygraph.leaves import STATISTICS
from proxygraph.zoo import ZOO, available, find_proxy

REQUIRED = (
    "plain",
    "snip",
    "grasp",
    "synflow",
    "fisher",
    "grad_norm",
    "l2_norm",
    "zico",
    "lswag",
    "params",
    "macs",
)

HAND_MADE = [name for name, proxy in ZOO.items() if not proxy.found_on]


@pytest.mark.parametrize("proxy", ZOO.values(), ids=ZOO)
def test_every_proxy_is_a_formula_with_a_source(proxy):
    dag = proxy.dag
    assert dag.axes[-1] == "row"
    assert parse(text(dag)) == dag
    assert canonical(canonical(dag)) == canonical(dag)
    assert latex(dag)
    assert set(dag.leaves) <= set(STATISTICS)
    assert re.search(r"arXiv:\d{4}\.\d{5}|NeurIPS|^number of|^multiply|^proxygraph", proxy.source)
    assert bool(proxy.found_on) == bool(proxy.scores) == proxy.source.startswith("proxygraph")


def test_the_zoo():
    assert set(REQUIRED) <= set(ZOO)
    assert all(name == proxy.name for name, proxy in ZOO.items())
    keys = [canonical(proxy.dag).key for proxy in ZOO.values()]
    assert len(set(keys)) == len(keys)


def test_what_a_table_allows():
    assert {proxy.name for proxy in available({name: STATISTICS[name] for name in ("w", "g", "params")})} == {
        "plain",
        "snip",
        "grad_norm",
        "l2_norm",
        "params",
    }
    assert available({}) == []
    assert [proxy.name for proxy in available(STATISTICS)] == HAND_MADE


def test_what_was_found_is_no_baseline():
    found = [name for name, proxy in ZOO.items() if proxy.found_on]
    assert found
    assert not set(found) & {proxy.name for proxy in available(STATISTICS)}
    assert all(find_proxy(name).dag.size <= 15 for name in found)


def test_other_words_do_not_make_another_leaf():
    reworded = {name: replace(leaf, meaning="", source="", latex="") for name, leaf in STATISTICS.items()}
    assert [proxy.name for proxy in available(reworded)] == HAND_MADE
    dearer = {name: replace(leaf, cost="second-order") for name, leaf in STATISTICS.items()}
    assert [proxy.name for proxy in available(dearer)] == ["te_ntk"]


def test_find():
    assert find_proxy("snip").formula == "sum(sum(abs(w * g)))"
    with pytest.raises(UnknownName, match="no proxy named 'naswot'; known: plain, snip"):
        find_proxy("naswot")


def test_leaves_have_a_meaning_and_a_symbol():
    for name, leaf in STATISTICS.items():
        assert leaf.name == name
        assert leaf.meaning
        assert leaf.latex
        assert not leaf.labels or leaf.cost in ("backward", "second-order")

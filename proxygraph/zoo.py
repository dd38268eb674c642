"""Proxies that are formulas, as Dags with their sources: hand-made ones, and those that this project found.

Proxies that are no formulas over weights, gradients and activations (jacov, nwot, zen, swap...) are leaves;
they stand here too, as the formulas that only name them, so that a table of baselines is one list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from proxygraph.dag import Dag
from proxygraph.errors import UnknownName
from proxygraph.infix import parse
from proxygraph.leaves import Leaf


@dataclass(frozen=True)
class Proxy:
    """One proxy.

    Attributes
    ----------
    name : str
    formula : str
        Text form; higher should mean better.
    source : str
        Paper, with the equation or file it is taken from.
    note : str
        Where the formula departs from the source, and why.
    found_on : tuple of str
        The problems with whose labels a search found it; empty for hand-made ones. On these problems it is no
        baseline and no start for a search: it has seen their labels.
    scores : mapping of str to float
        Of one that was found, by problem: Spearman with the result of training on networks that neither the
        search nor the choice has seen.
    """

    name: str
    formula: str
    source: str
    note: str = ""
    found_on: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def dag(self) -> Dag:
        """The formula as a graph."""
        return parse(self.formula)


_IMAGES = (
    "On the images of the batch, where the paper takes Gaussian noise. AZ-NAS adds up the logarithms of \
ranks of this, its two siblings and macs, which needs a population: no formula of one network."
)

_ROWS = (
    Proxy("plain", "sum(sum(w * g))", "Abdelfattah et al. 2021, arXiv:2101.08134, plain.py"),
    Proxy(
        "snip", "sum(sum(abs(w * g)))", "Lee et al. 2019, arXiv:1810.02340, eq. 6, per weight, not per mask"
    ),
    Proxy("grasp", "-sum(sum(w * hg))", "Wang et al. 2020, arXiv:2002.07376, eq. 8"),
    Proxy("synflow", "sum(sum(abs(w * gs)))", "Tanaka et al. 2020, arXiv:2006.05467, eq. 2"),
    Proxy("fisher", "sum(fisher)", "Turner et al. 2020, arXiv:1906.04113, eq. 2; summed over layers"),
    Proxy("grad_norm", "sum(l2(g))", "Abdelfattah et al. 2021, arXiv:2101.08134, grad_norm.py"),
    Proxy("l2_norm", "sum(l2(w))", "Abdelfattah et al. 2021, arXiv:2101.08134, l2_norm.py"),
    Proxy(
        "zico",
        "sum(relu(log(sum(g_mean / max(g_std, 1e-30)))))",
        "Li et al. 2023, arXiv:2301.11300, eq. 17",
        "The paper's code skips weights with zero spread and layers without any other; max and relu do the "
        "same in one formula (a layer's inner sum is above 1 unless it is skipped).",
    ),
    Proxy(
        "lswag",
        "sum(relu(log(sum(sign(g_std) / max(g_std, 1e-30)))))",
        "Casarin et al. 2025, L-SWAG, arXiv:2505.07300: the gradient part, ZiCo without the mean",
        "Over all layers; the paper picks layers. Weights of zero spread are skipped as in ZiCo.",
    ),
    Proxy("params", "params", "number of parameters"),
    Proxy("macs", "macs_total", "multiply-accumulates of one image"),
    Proxy("jacov", "jacov", "Mellor et al. 2020, arXiv:2006.04647v1"),
    Proxy("nwot", "nwot_total", "Mellor et al. 2021, arXiv:2006.04647"),
    Proxy("zen", "zen", "Lin et al. 2021, arXiv:2102.01063"),
    Proxy("swap", "swap", "Peng et al. 2024, arXiv:2403.04161"),
    Proxy("meco", "sum(min_eig)", "Jiang et al. 2023, MeCo, NeurIPS, eq. 7"),
    Proxy(
        "tcet",
        "sum(nwot * sum(abs(w * gs)) / max(std(abs(w * gs)), 1e-30))",
        "T-CET as in github.com/iViolinSolo/zero-cost-proxies, t_cet.py, mode none: signal-to-noise ratio of "
        "SynFlow (arXiv:2006.05467) times NWOT, layer by layer",
        "The codes are of each layer's output, before normalisation; dead layers count nothing, as there.",
    ),
    Proxy("expressivity", "expressivity", "Lee & Ham 2024, AZ-NAS, arXiv:2403.19232, eq. 3", _IMAGES),
    Proxy("progressivity", "progressivity", "Lee & Ham 2024, AZ-NAS, arXiv:2403.19232, eq. 4", _IMAGES),
    Proxy("trainability", "trainability", "Lee & Ham 2024, AZ-NAS, arXiv:2403.19232, eq. 6", _IMAGES),
    Proxy(
        "te_ntk",
        "-ntk_cond",
        "Chen et al. 2021, TE-NAS, arXiv:2102.11535, eq. 3",
        "Of up to 8 images and the summed output; normalisation's parameters are not part of the gradient.",
    ),
    Proxy("live_macs", "sum(macs * live)", "multiply-accumulates of one image, dead layers left out"),
    Proxy(
        "receptive", "receptive", "Luo et al. 2016, arXiv:1701.04128: effective receptive field, as a share"
    ),
    Proxy("n_layers", "n_layers", "number of layers"),
    Proxy(
        "found_micro",
        "receptive + sum(stride * log(kernel) * min(cube(receptive), l2(g_std)))",
        "proxygraph, docs/proxies.md: 400 labels of transnas101, best of three seeds on validation",
        "For networks that are trained to the end. Unseen networks are those of the same space.",
        ("transnas101",),
        {"transnas101": 0.939},
    ),
    Proxy(
        "found_short",
        "-(sum(std(gv) * std(da)) / (macs_total * receptive))",
        "proxygraph, docs/proxies.md: streetscenes and camvid, best of three seeds on validation",
        "For networks that are trained briefly; those of transnas101 it does not rank (.005).",
        ("streetscenes", "camvid"),
        {"streetscenes": 0.837, "camvid": 0.615, "transnas101": 0.005},
    ),
    Proxy(
        "found_joint",
        "mean(log(max(log(expressivity / std(fisher)), min(expressivity, eff_rank - expressivity))))",
        "proxygraph, docs/proxies.md: transnas101, streetscenes and camvid, best of three seeds on "
        "validation",
        "Undefined on networks without a path from input to output.",
        ("transnas101", "streetscenes", "camvid"),
        {"transnas101": 0.604, "streetscenes": 0.805, "camvid": 0.389},
    ),
)

ZOO: Mapping[str, Proxy] = MappingProxyType({proxy.name: proxy for proxy in _ROWS})
"""All proxies by name."""


def available(leaves: Mapping[str, Leaf]) -> list[Proxy]:
    """Return the hand-made proxies that need no other leaves than these; equal names must mean the same."""
    return [
        proxy
        for proxy in ZOO.values()
        if not proxy.found_on and all(leaves.get(name) == leaf for name, leaf in proxy.dag.leaves.items())
    ]


def find_proxy(name: str) -> Proxy:
    """Return a proxy by name.

    Raises
    ------
    UnknownName
        If there is none of that name.
    """
    if name not in ZOO:
        raise UnknownName(f"no proxy named {name!r}; known: {', '.join(ZOO)}")
    return ZOO[name]

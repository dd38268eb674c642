"""The statistics that formulas may use: one row per leaf.

A leaf is a named input of formulas, living on an axis. How it is measured on a network is the business of
``proxygraph.stats``; here stands what it means, where it comes from and what it costs.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from proxygraph.errors import ConfigError, UnknownName

Axis = Literal["element", "activation", "layer", "row"]
Sign = Literal["nonneg", "any"]
Cost = Literal["static", "forward", "backward", "second-order"]

COARSER: Mapping[str, Axis] = MappingProxyType({"element": "layer", "activation": "layer", "layer": "row"})
"""The axis one step coarser: where a reduction goes to."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One statistic, or one column of a table.

    Words (meaning, source, latex) do not count when leaves are compared: a table stays what it is when they
    are put better.

    Attributes
    ----------
    name : str
        Name in formulas.
    axis : {"element", "activation", "layer", "row"}
        Where its values live.
    sign : {"nonneg", "any"}
        ``"nonneg"`` promises values >= 0; rewrite rules rely on it, so tables are checked against it.
    meaning : str
        One line for people.
    source : str
        Paper or definition.
    cost : {"static", "forward", "backward", "second-order"}
        The dearest pass that measuring it needs.
    labels : bool
        Whether measuring it needs the targets of the batch.
    latex : str
        Symbol in LaTeX; empty means the name set upright.
    """

    name: str
    axis: Axis
    sign: Sign = "any"
    meaning: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    cost: Cost = "static"
    labels: bool = False
    latex: str = field(default="", compare=False)


_SNIP = "Lee et al. 2019, SNIP, arXiv:1810.02340"
_SYNFLOW = "Tanaka et al. 2020, SynFlow, arXiv:2006.05467"
_GRASP = "Wang et al. 2020, GraSP, arXiv:2002.07376"
_ZICO = "Li et al. 2023, ZiCo, arXiv:2301.11300"
_FISHER = "Turner et al. 2020, BlockSwap, arXiv:1906.04113"
_NWOT = "Mellor et al. 2021, Neural Architecture Search without Training, arXiv:2006.04647"
_MECO = "Jiang et al. 2023, MeCo, NeurIPS"
_AZ = "Lee & Ham 2024, AZ-NAS, arXiv:2403.19232"
_ROY = "Roy & Vetterli 2007, The effective rank, EUSIPCO"

# One row per leaf, compact on purpose.
# fmt: off
_ROWS = (
    # element: one value per entry of a layer's weight
    Leaf("w", "element", "any", "weight at initialisation", "", "static", False, "w"),
    Leaf("g", "element", "any", "dL/dw, mean over the batches", _SNIP, "backward", True, r"g"),
    Leaf("gs", "element", "any", "gradient of the summed output of the network with |w| on an all-ones input",
         _SYNFLOW, "backward", False, r"g^{\mathrm{syn}}"),
    Leaf("hg", "element", "any", "Hessian-gradient product H g of the loss", _GRASP, "second-order", True,
         r"(Hg)"),
    Leaf("gv", "element", "any", "gradient of the summed logits", "NASI/NTK literature: d(sum f)/dw",
         "backward", False, r"g^{\Sigma}"),
    Leaf("g_mean", "element", "nonneg", "mean over batches of |dL/dw|", _ZICO, "backward", True,
         r"\mu_{|g|}"),
    Leaf("g_std", "element", "nonneg", "standard deviation over batches of dL/dw", _ZICO, "backward", True,
         r"\sigma_{g}"),
    # activation: one value per entry of a layer's output
    Leaf("a", "activation", "any", "output of the layer", "", "forward", False, "a"),
    Leaf("da", "activation", "any", "gradient of the loss with respect to the output", _FISHER, "backward",
         True, r"\delta"),
    # layer
    Leaf("numel", "layer", "nonneg", "entries of the weight", "", "static", False, r"n"),
    Leaf("fan_in", "layer", "nonneg", "inputs of one output unit", "", "static", False, r"n_{\mathrm{in}}"),
    Leaf("c_in", "layer", "nonneg", "input channels", "", "static", False, r"c_{\mathrm{in}}"),
    Leaf("c_out", "layer", "nonneg", "output channels", "", "static", False, r"c_{\mathrm{out}}"),
    Leaf("kernel", "layer", "nonneg", "geometric mean of the kernel's sides", "", "static", False, "k"),
    Leaf("stride", "layer", "nonneg", "geometric mean of the strides", "", "static", False, "s"),
    Leaf("hw", "layer", "nonneg", "output positions of one image", "", "forward", False, "hw"),
    Leaf("macs", "layer", "nonneg", "multiply-accumulates of one image", "", "forward", False,
         r"\mathrm{macs}"),
    Leaf("depth", "layer", "nonneg", "position in forward order, 0 first, 1 last", "", "forward", False, "d"),
    Leaf("backbone", "layer", "nonneg", "1 in the backbone, 0 in decoder or head (by module name)", "",
         "static", False, r"b"),
    Leaf("nwot", "layer", "any", "log-determinant of the kernel of binary activation codes of the layer",
         _NWOT, "forward", False, r"\mathrm{nwot}"),
    Leaf("eff_rank", "layer", "nonneg", "effective rank of the output's channel covariance", _ROY, "forward",
         False, r"\mathrm{erank}"),
    Leaf("min_eig", "layer", "any", "least eigenvalue of the channels' correlation matrix", _MECO, "forward",
         False, r"\lambda_{\min}"),
    Leaf("w_logdet", "layer", "any", "log-determinant of the filters' correlation matrix", "", "static",
         False, r"\mathrm{logdet}_w"),
    Leaf("fisher", "layer", "nonneg", "sum over channels of squared, pooled a*da", _FISHER, "backward", True,
         r"\mathrm{fisher}"),
    Leaf("live", "layer", "nonneg", "1 if the network's output depends on the weight, 0 for a dead layer", "",
         "backward", False, r"\ell"),
    # row
    Leaf("params", "row", "nonneg", "parameters of the network", "", "static", False, r"\mathrm{params}"),
    Leaf("macs_total", "row", "nonneg", "multiply-accumulates of one image, all layers", "", "forward", False,
         r"\mathrm{MACs}"),
    Leaf("n_layers", "row", "nonneg", "convolution and linear layers that ran", "", "forward", False, "L"),
    Leaf("jacov", "row", "any", "correlation of the per-image input Jacobians",
         "Mellor et al. 2020, arXiv:2006.04647v1", "backward", False, r"\mathrm{jacov}"),
    Leaf("nwot_total", "row", "any", "log-determinant of the kernel of binary codes, all rectifiers", _NWOT,
         "forward", False, r"\mathrm{NWOT}"),
    Leaf("zen", "row", "any", "Zen-score: log of the output change under input noise, BN-corrected",
         "Lin et al. 2021, Zen-NAS, arXiv:2102.01063", "forward", False, r"\mathrm{zen}"),
    Leaf("swap", "row", "nonneg", "number of distinct sample-wise activation patterns",
         "Peng et al. 2024, SWAP-NAS, arXiv:2403.04161", "forward", False, r"\mathrm{swap}"),
    Leaf("expressivity", "row", "nonneg", "sum over the backbone's blocks of their maps' spectral entropy",
         _AZ, "forward", False, r"\mathrm{expr}"),
    Leaf("progressivity", "row", "any", "least difference of that entropy from one block to the next", _AZ,
         "forward", False, r"\mathrm{progr}"),
    Leaf("trainability", "row", "any", "mean over blocks of 2 - s - 1/s, s the spectral norm of their mean "
         "Jacobian", _AZ, "backward", False, r"\mathrm{train}"),
    Leaf("receptive", "row", "nonneg", "effective share of a picture that the output's centre depends on",
         "Luo et al. 2016, The effective receptive field, arXiv:1701.04128", "backward", False,
         r"\mathrm{rf}"),
    Leaf("ntk_cond", "row", "nonneg", "condition number of the images' neural tangent kernel",
         "Chen et al. 2021, TE-NAS, arXiv:2102.11535", "second-order", False, r"\kappa_{\mathrm{NTK}}"),
    Leaf("latency_ms", "row", "nonneg", "measured latency in milliseconds, when measured", "", "forward",
         False, r"\mathrm{ms}"),
)

# fmt: on

_TABLE: dict[str, Leaf] = {leaf.name: leaf for leaf in _ROWS}

STATISTICS: Mapping[str, Leaf] = MappingProxyType(_TABLE)
"""All statistics of untrained networks by name, a user's included."""

BUILTIN: frozenset[str] = frozenset(_TABLE)
"""Names of the statistics that come with the package."""

Measure = Callable[[Any], Any]
"""What measures a user's statistic: ``measure(view)``, see `register_leaf`."""

_MEASURES: dict[str, Measure] = {}

MEASURES: Mapping[str, Measure] = MappingProxyType(_MEASURES)
"""What measures the statistics of users, by name."""


def register_leaf(leaf: Leaf, measure: Measure) -> Leaf:
    """Add a statistic of your own; from then on `collect` measures it and formulas may name it.

    Parameters
    ----------
    leaf : Leaf
        The row. `cost` says what the measure is given, `labels` whether that depends on the targets; a
        `sign` of "nonneg" is checked against what it returns.
    measure : callable
        ``measure(view)``. On the row axis `view` is a `proxygraph.stats.NetworkView` and the result one
        number; else it is a `proxygraph.stats.LayerView` and the result is one number on the layer axis, a
        tensor of the weight's shape on the element axis, of the output's shape on the activation axis.

    Returns
    -------
    Leaf
        The same row.

    Raises
    ------
    ConfigError
        If the name is no identifier or taken by another row, or the row asks for what a measure is not given.

    Notes
    -----
    The same row may be given again with another measure, as notebooks do; rows that `collect_many` keeps in a
    cache are told apart by the measure's code and the values it holds, not by what the code names.

    Examples
    --------
    >>> row = Leaf("w_kurtosis", "layer", "nonneg", "fourth moment of the weight over its variance squared")
    >>> _ = register_leaf(row, lambda layer: (layer.weight**4).mean() / layer.weight.var() ** 2)
    >>> unregister_leaf("w_kurtosis")
    """
    name = leaf.name
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
        raise ConfigError(f"leaf name {name!r} is not an identifier")
    if name in _TABLE and (name in BUILTIN or _TABLE[name] != leaf):
        remedy = "choose another name" if name in BUILTIN else f"choose another or unregister_leaf({name!r})"
        raise ConfigError(f"leaf {name!r} exists already; {remedy}")
    if not callable(measure):
        raise ConfigError(f"leaf {name!r}: expected a function that measures it, got {measure!r}")
    if leaf.axis != "row" and leaf.cost == "second-order":
        raise ConfigError(
            f"leaf {name!r}: a layer is given gradients only; take second derivatives on the row axis"
        )
    if leaf.axis != "row" and leaf.labels and leaf.cost != "backward":
        raise ConfigError(f"leaf {name!r}: a layer sees labels by the loss's gradient: give cost='backward'")
    _TABLE[name], _MEASURES[name] = leaf, measure
    return leaf


def unregister_leaf(name: str) -> None:
    """Remove a statistic of a user; built-in ones stay (`UnknownName` if there is no such one)."""
    if name not in _MEASURES:
        raise UnknownName(f"no statistic of a user named {name!r}")
    del _TABLE[name], _MEASURES[name]

"""Formulas as Python files of their own: ``formula.py``.

A formula over statistics becomes a file that imports torch only and scores any network; a formula over the
columns of a table one that imports numpy only and predicts. The collecting code is copied from
``proxygraph.standalone`` as far as the formula needs it; the expression is written with the operators' own
torch or numba templates. Nothing is imported or run to write the file, and texts of users (names of columns,
provenance) get into it as literals or comments only.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence

from proxygraph.dag import Dag
from proxygraph.errors import CompileError
from proxygraph.infix import text
from proxygraph.leaves import STATISTICS
from proxygraph.ops import BUILTIN, OPS, Op
from proxygraph.source_parts import Parts, import_lines, module
from proxygraph.statements import Statements, literal

_LEAVES = "proxygraph.standalone.leaves"
_NETWORK = "proxygraph.standalone.network"
_ALWAYS = frozenset(
    {("torch", "", "torch"), ("torch", "Tensor", "Tensor"), ("torch", "nn", "nn"), ("typing", "Any", "Any")}
)
_UNROUNDED = frozenset({"gs"})  # beyond the range of float32; tables keep it in float64
_LABELLED = "value"  # what of a Network needs the loss


def formula_python(dag: Dag, *, provenance: Mapping[str, object], tabular: bool | None = None) -> str:
    """Return a formula as a Python file.

    Parameters
    ----------
    dag : Dag
        Formula on the row axis.
    provenance : mapping of str to object
        Where it comes from: one comment line each.
    tabular : bool or None
        Whether its leaves are the columns of a table. ``None``: if all are on the row axis and one of them is
        no statistic of networks.

    Returns
    -------
    str
        For networks, with ``score(model, inputs, targets, loss, *, seed=0)`` and ``formula(layers,
        network)``; for tables, with ``predict(columns)``.

    Raises
    ------
    CompileError
        If an operator has no torch (for tables: numba) form, or a leaf cannot be measured on a network.
    """
    if dag.axes[-1] != "row":
        raise CompileError(f"a Python file scores rows; this part of a formula is on the {dag.axes[-1]} axis")
    if tabular is None:
        tabular = bool(dag.leaves) and all(leaf.axis == "row" for leaf in dag.leaves.values())
        tabular = tabular and any(STATISTICS.get(name) != leaf for name, leaf in dag.leaves.items())
    lines = _table_file(dag) if tabular else _network_file(dag)
    about = "Predictions for the rows of a table" if tabular else "Score of untrained networks"
    head = [f'"""{about}, by a formula that proxygraph found."""', ""]
    head += [f"# {_one_line(key)}: {_one_line(value)}" for key, value in provenance.items()]
    return "\n".join([*head, *lines]) + "\n"


def refusal_python(dag: Dag, reason: str, *, provenance: Mapping[str, object]) -> str:
    """Return a file in the place of one that cannot be written: it has the formula, and says why when called.

    Parameters
    ----------
    dag : Dag
    reason : str
        What `formula_python` said.
    provenance : mapping of str to object
        As there.
    """
    head = [
        '"""A formula that proxygraph found, which only a table of its statistics can be scored by."""',
        "",
    ]
    head += [f"# {_one_line(key)}: {_one_line(value)}" for key, value in provenance.items()]
    lines = ["", *_formula_constant(dag), f"REASON = {literal(_one_line(reason))}", "", ""]
    lines += ["def score(*_: object, **__: object) -> float:", '    """Refuse, and say why."""']
    return "\n".join([*head, *lines, "    raise NotImplementedError(REASON)"]) + "\n"


# ---- networks ---


def _network_file(dag: Dag) -> list[str]:
    measured, given = _sources(dag)
    on_layers = [name for name in measured if STATISTICS[name].axis != "row"]
    parts = Parts([(_LEAVES, f"leaf_{name}") for name in measured] + _scaffold(on_layers, measured))
    labelled = _LABELLED in parts.attributes
    imports = parts.imports | _ALWAYS
    body = Statements(dag, _torch_code, "torch.tensor({}, dtype=torch.float64)").function()
    return [
        *_future(import_lines(imports)),
        "",
        *_formula_constant(dag),
        "",
        "",
        *_score_function(labelled, given),
        "",
        "",
        *_statistics_function(on_layers, [name for name in measured if name not in on_layers], given),
        "",
        "",
        *body,
        *(line for source in parts.sources() for line in ["", "", *source.splitlines()]),
    ]


def _sources(dag: Dag) -> tuple[list[str], list[str]]:
    """Split the leaves into those measured on the network and those given to ``score``."""
    known = module(_LEAVES).definitions
    measured, given = [], []
    for name, leaf in dag.leaves.items():
        standard = STATISTICS.get(name)
        if f"leaf_{name}" in known and standard is not None and standard.axis == leaf.axis:
            measured.append(name)
        elif leaf.axis == "row" and name.isidentifier() and not keyword.iskeyword(name):
            given.append(name)
        else:
            raise CompileError(
                f"leaf {name!r} on the {leaf.axis} axis is no statistic of the package: a file that imports "
                "torch only cannot measure it; collect it, save the table and score that (proxygraph.score)"
            )
    order = list(STATISTICS)
    return sorted(measured, key=order.index), given


def _scaffold(on_layers: Sequence[str], measured: Sequence[str]) -> list[tuple[str, str]]:
    """What the generated ``statistics`` calls itself."""
    roots = [(_NETWORK, "examined"), (_NETWORK, "Network")] if measured else []
    return roots + ([(_LEAVES, "stored")] if set(on_layers) - _UNROUNDED else [])


def _score_function(labelled: bool, given: Sequence[str]) -> list[str]:
    targets = "targets: Any, loss: Any" if labelled else "targets: Any = None, loss: Any = None"
    more = "".join(f", {name}: float" for name in given)
    passed = "".join(f", {name}" for name in given)
    return [
        f"def score(model: nn.Module, inputs: Any, {targets}, *, seed: int = 0{more}) -> float:",
        '    """Return the score of a network, which is left as it was.',
        "",
        "    `inputs` and `targets` are one batch or lists of them; `loss(output, targets)` gives a scalar.",
        "    `seed` is that of the samples some statistics take, and of the network's own random numbers.",
        '    """',
        f"    return float(formula(*statistics(model, inputs, targets, loss, seed{passed})))",
    ]


def _statistics_function(
    on_layers: Sequence[str], on_network: Sequence[str], given: Sequence[str]
) -> list[str]:
    more = "".join(f", {name}: float" for name in given)
    lines = [
        "def statistics(",
        f"    model: nn.Module, inputs: Any, targets: Any, loss: Any, seed: int{more}",
        ") -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:",
        '    """Return the statistics of every layer, in forward order, and those of the network."""',
    ]
    if on_layers or on_network:
        lines += [
            "    with examined(model, seed):",
            "        n = Network(model, inputs, targets, loss, seed)",
        ]
    if on_layers:
        lines += ["        layers = [", "            {"]
        for name in on_layers:
            value = f"leaf_{name}(n, name)"
            lines.append(f'                "{name}": {value if name in _UNROUNDED else f"stored({value})"},')
        lines += ["            }", "            for name in n.calls", "        ]"]
    pairs = [f'"{name}": leaf_{name}(n)' for name in on_network] + [f'"{name}": {name}' for name in given]
    indent = "        " if on_network else "    "
    if pairs:
        lines += [f"{indent}network = {{", *(f"{indent}    {pair}," for pair in pairs), f"{indent}}}"]
    doubles = "{name: torch.tensor(value, dtype=torch.float64) for name, value in network.items()}"
    return [*lines, f"    return {'layers' if on_layers else '[]'}, {doubles if pairs else '{}'}"]


# ---- tables ---


def _table_file(dag: Dag) -> list[str]:
    own = sorted({n.name for n in dag.nodes if n.kind == "op" and n.name not in BUILTIN})
    lines = [
        *_future(["from collections.abc import Mapping", "from typing import Any", "", "import numpy as np"]),
        "",
        *_formula_constant(dag),
    ]
    for name in own:
        names = ["a", "b"][: OPS[name].arity]
        code = _numpy_code(OPS[name]).format(*names)
        lines += ["", f"_{name} = np.vectorize(lambda {', '.join(names)}: {code}, otypes=[float])"]
    body = Statements(
        dag, lambda op: _numpy_code(op) if op.name in BUILTIN else _call(op), "np.float64({})"
    ).predict()
    return [*lines, "", "", *body]


def _call(op: Op) -> str:
    return f"_{op.name}({', '.join(f'{{{k}}}' for k in range(op.arity))})"


def _numpy_code(op: Op) -> str:
    if not op.numba:
        raise CompileError(
            f"operator {op.name!r} has no numba template, so it cannot be written as numpy code"
        )
    return op.numba.replace("math.", "np.") if op.name in BUILTIN else f"({op.numba.replace('math.', 'np.')})"


def _torch_code(op: Op) -> str:
    if not op.torch:
        raise CompileError(f"operator {op.name!r} has no torch template")
    return op.torch if op.name in BUILTIN else f"({op.torch})"


# ---- text ---


def _formula_constant(dag: Dag) -> list[str]:
    """Return ``FORMULA = ...``, over several lines if it is long."""
    formula = text(dag)
    if len(formula) <= 90:
        return [f"FORMULA = {literal(formula)}"]
    return ["FORMULA = (", *(f"    {literal(formula[k : k + 90])}" for k in range(0, len(formula), 90)), ")"]


def _one_line(value: object) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value))


def _future(imports: Sequence[str]) -> list[str]:
    return ["", "from __future__ import annotations", "", *imports]

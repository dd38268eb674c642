"""Rewrite the golden files: texts the program generates, kept so that a change of them is seen and read.

``python tools/make_golden.py`` writes every file of `GOLDEN` below ``tests/golden/`` and deletes text files
that no longer belong to it; then read the diff. To put another text under watch, add its function to
`GOLDEN`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from proxygraph.dag import Dag
from proxygraph.dot import dot
from proxygraph.infix import parse
from proxygraph.kernels.fused_source import emit
from proxygraph.kernels.fused_torch_source import emit_torch
from proxygraph.latex import formula_tex, latex
from proxygraph.leaves import Leaf
from proxygraph.mathml import mathml
from proxygraph.report.graphs import graph
from proxygraph.torch_source import formula_python
from proxygraph.zoo import ZOO

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "golden"
FOUND = ROOT / "docs" / "found"


def fused(formula: str, leaves: Mapping[str, Leaf] | None = None) -> str:
    """Return the source of the fused kernel of one formula."""
    return emit(parse(formula, leaves) if leaves else parse(formula)).text


def fused_torch(formula: str) -> str:
    """Return the source of the torch kernel of one formula."""
    return emit_torch(parse(formula)).text


def _iris() -> str:
    names = ("sepal length (cm)", "petal width (cm)")
    return fused("log(`sepal length (cm)`) * 2 - `petal width (cm)`**0.5", {n: Leaf(n, "row") for n in names})


def _formulas(printer: Callable[[Dag], str]) -> str:
    formulas = (
        "sum(sum(abs(w * g)))",
        "sum(log(sum(g_mean / g_std)))",
        "sum(mean(((w - mean(w)) / std(w))**3))",
        "(sum(depth) + 1.5e-7 * params) * -sum(l2(a - mean(a))**2 / hw)",
        "max((l1(g) - mean(l1(g))) / std(l1(g)))",
    )
    return "\n\n".join(printer(parse(formula)) for formula in formulas) + "\n"


def _python(formula: str, *columns: str) -> str:
    provenance = {"problem": "golden", "seed": 0}
    if columns:
        return formula_python(parse(formula, {n: Leaf(n, "row") for n in columns}), provenance=provenance)
    return formula_python(parse(formula), provenance=provenance)


GOLDEN: Mapping[str, Callable[[], str]] = {
    "fused_snip.txt": partial(fused, "sum(sum(abs(w * g)))"),
    "fused_zico.txt": partial(fused, "sum(log(sum(g_mean / g_std)))"),
    "fused_zscore.txt": partial(fused, "sum(mean(((w - mean(w)) / std(w))**3))"),
    "fused_layer_zscore.txt": partial(fused, "max((l1(g) - mean(l1(g))) / std(l1(g)))"),
    "fused_both_axes.txt": partial(
        fused, "mean((l2(a - max(a)) - mean(l2(a))) * std(w * mean(mean(abs(w)))) * numel)"
    ),
    "fused_rows.txt": _iris,
    "fused_torch_snip.txt": partial(fused_torch, "sum(sum(abs(w * g)))"),
    "fused_torch_zscore.txt": partial(fused_torch, "sum(mean(((w - mean(w)) / std(w))**3))"),
    "fused_torch_both_axes.txt": partial(
        fused_torch, "mean((l2(a - max(a)) - mean(l2(a))) * std(w * mean(mean(abs(w)))) * numel**-1.5)"
    ),
    "latex.txt": partial(_formulas, latex),
    "mathml.txt": partial(_formulas, mathml),
    "report_graph.txt": lambda: graph(parse("sum(mean(w - mean(w)) / (2 * numel))"), "graph") + "\n",
    "formula_tex.txt": lambda: formula_tex(parse("sum(mean(abs(gs * w)))"), {"seed": 0}),
    "dot.txt": lambda: dot(parse("sum(mean(abs(gs * w)) / numel)")) + "\n",
    "python_zico.txt": partial(_python, "sum(log(sum(g_mean / g_std)))"),
    "python_zscore.txt": partial(_python, "sum(mean(((w - mean(w)) / std(w))**3)) / log(params)"),
    "python_table.txt": partial(_python, "log(`sepal length (cm)`) * 2 - x**0.5", "sepal length (cm)", "x"),
}
"""File name below ``tests/golden/`` to the function that makes its text."""


def found() -> dict[str, str]:
    """Return the exports of the proxies that this project found: file name below ``docs/found/`` to text."""
    texts = {}
    for proxy in ZOO.values():
        if proxy.found_on:
            numbers = {f"spearman on unseen {name}": value for name, value in proxy.scores.items()}
            provenance: dict[str, str | float] = {"proxy": proxy.name, "source": proxy.source, **numbers}
            texts[f"{proxy.name}.py"] = formula_python(proxy.dag, provenance=provenance)
            texts[f"{proxy.name}.tex"] = formula_tex(proxy.dag, provenance)
    return texts


def main() -> None:
    """Write all golden files and the exports in the docs, and say which changed."""
    FOUND.mkdir(parents=True, exist_ok=True)
    for name, text in found().items():
        if not (FOUND / name).is_file() or (FOUND / name).read_text(encoding="utf-8") != text:
            (FOUND / name).write_text(text, encoding="utf-8")
            print(f"wrote docs/found/{name}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        if path.name not in GOLDEN:
            path.unlink()
            print(f"deleted {path.name}")
    for name, make in GOLDEN.items():
        path, text = FOLDER / name, make()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.name}")


if __name__ == "__main__":
    main()

"""Statistics of users: measured right, refused clearly, and at home in formulas, files and searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from proxygraph.dag import Dag
from proxygraph.errors import CompileError, ConfigError, UnknownName
from proxygraph.infix import parse, text
from proxygraph.kernels import compile_kernel
from proxygraph.leaves import MEASURES, STATISTICS, Leaf, register_leaf, unregister_leaf
from proxygraph.problem import Problem
from proxygraph.program import lower
from proxygraph.stats import LayerView, NetworkView, collect, collect_many
from proxygraph.table import StatTable
from proxygraph.torch_source import formula_python
from tests.stats.networks import labels, maps, odd, odd_loss, plain
from tests.test_commands import call, refused

CE = F.cross_entropy


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for name in list(MEASURES):
        unregister_leaf(name)


def own(name: str, axis: Any, measure: Callable[..., Any], **row: Any) -> str:
    return register_leaf(Leaf(name, axis, **row), measure).name


def kurtosis(layer: LayerView) -> torch.Tensor:
    return (layer.weight**4).mean() / layer.weight.var() ** 2


def graph_norm(view: NetworkView) -> torch.Tensor:
    """The gradient's norm over all parameters, on all batches; writes over what it was given."""
    assert view.loss is not None
    total = sum(view.loss(view.model(x), y) for x, y in view.batches)
    slopes = torch.autograd.grad(total, list(view.model.parameters()))
    with torch.no_grad():
        for p in view.model.parameters():
            p.fill_(7.0)
    view.model.eval()
    return torch.cat([slope.flatten() for slope in slopes]).norm()


def spoiling(view: LayerView) -> float:
    """Write over all that is shown."""
    for tensor in (view.input, view.output, view.weight_grad, view.output_grad):
        if tensor is not None:
            tensor.fill_(5.0)
    return 0.0


def everything(view: LayerView) -> float:
    shown = (view.weight, view.input, view.output, view.weight_grad, view.output_grad)
    return sum(float(tensor.abs().sum()) for tensor in shown if tensor is not None)


def spoiling_batches(view: NetworkView) -> float:
    for x, y in view.batches:
        x.fill_(5.0)
        y.fill_(0)
    return 0.0


@pytest.mark.parametrize("samples", [3, None])
def test_what_a_measure_is_shown_is_what_the_package_measures(samples: int | None) -> None:
    pairs = {
        "w": own("own_w", "element", lambda v: v.weight),
        "g": own("own_g", "element", lambda v: v.weight_grad, cost="backward", labels=True),
        "gv": own("own_gv", "element", lambda v: v.weight_grad, cost="backward"),
        "a": own("own_a", "activation", lambda v: v.output, cost="forward"),
        "da": own("own_da", "activation", lambda v: v.output_grad, cost="backward", labels=True),
        "c_out": own("own_c_out", "layer", lambda v: v.weight.shape[0]),
        "params": own("own_params", "row", lambda v: sum(p.numel() for p in v.model.parameters())),
    }
    pairs.pop("c_out") if samples else None  # of transposed convolutions the weight begins with c_in
    table = collect(odd(), maps()[0], odd_loss, leaves=[*pairs, *pairs.values()], samples=samples)
    for name, mine in pairs.items():
        if name != "c_out":
            scale = np.abs(table.columns[name]).max()
            np.testing.assert_allclose(
                table.columns[mine], table.columns[name], rtol=1e-4, atol=1e-6 * scale, err_msg=name
            )
        assert table.leaves[mine].axis == STATISTICS[name].axis
    with_zeros = table.columns["own_g"]
    assert (with_zeros == 0).any()  # of the dead layer
    assert (with_zeros != 0).any()


def test_a_cost_pays_for_what_is_shown() -> None:
    seen: dict[str, tuple[bool, ...]] = {}

    def looking(name: str, view: LayerView) -> int:
        seen[name] = tuple(
            x is not None for x in (view.input, view.output, view.weight_grad, view.output_grad)
        )
        return 0

    for cost in ("static", "forward", "backward"):
        own(cost, "layer", partial(looking, cost), cost=cost)
    collect(plain(), labels(), CE, leaves=["static", "forward", "backward"])
    assert seen == {
        "static": (False,) * 4,
        "forward": (True, True, False, False),
        "backward": (True,) * 4,
    }


def test_dropout_draws_what_the_first_pass_drew() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(144, 5)
    )
    own("own_a", "activation", lambda v: v.output, cost="forward")
    table = collect(model, labels(), CE, leaves=["a", "own_a", "swap"], seed=3)
    np.testing.assert_array_equal(table.columns["a"], table.columns["own_a"])


def test_a_measure_of_the_network_may_do_what_it_likes_to_it() -> None:
    model = plain()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    own("grad_norm_all", "row", graph_norm, cost="backward", labels=True, sign="nonneg")
    own("spoiled", "layer", lambda v: v.weight.fill_(9.0).mean())
    for cost in ("forward", "backward"):
        own(f"a_spoiler_{cost}", "layer", spoiling, cost=cost)  # asked first: names are sorted
        own(f"z_seen_{cost}", "layer", everything, cost=cost)
        own(f"a_out_{cost}", "activation", lambda v: v.output, cost=cost)
    own("a_spoiled_batch", "row", spoiling_batches, cost="forward", labels=True)
    own(
        "z_loss",
        "row",
        lambda v: sum(v.loss(v.model(x), y) for x, y in v.batches),
        cost="forward",
        labels=True,
    )
    batches, targets = labels(), [y.clone() for _, y in labels()]
    spoilers = [name for name in MEASURES if name.startswith("a_spoil")]
    others = ["w", "a", *(name for name in MEASURES if name not in spoilers)]
    alone = collect(model, batches, CE, leaves=others)
    table = collect(model, batches, CE, leaves=[*spoilers, *others])
    for name in others:
        np.testing.assert_array_equal(table.columns[name], alone.columns[name], err_msg=name)
    assert all(torch.equal(y, old) for (_, y), old in zip(batches, targets, strict=True))
    assert model.training == plain().training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert set(table.columns["spoiled"]) == {9.0}
    assert set(table.columns["w"]) != {9.0}
    model.train()
    total = sum(CE(model(x), y) for x, y in labels())
    expected = torch.cat([s.flatten() for s in torch.autograd.grad(total, list(model.parameters()))]).norm()
    assert table.columns["grad_norm_all"][0] == pytest.approx(float(expected), rel=1e-5)


def test_targets_of_any_shape_are_copies() -> None:
    class Masks(NamedTuple):
        mask: torch.Tensor

    def spoil(view: NetworkView) -> float:
        for tensor in (view.batches[0][1]["a"][0], view.batches[0][1]["b"].mask):
            tensor.fill_(1)
        view.batches[0][1]["c"][0] = 1.0
        return 0.0

    own("spoiler", "row", spoil, cost="forward", labels=True)
    targets = {"a": [torch.zeros(2)], "b": Masks(torch.zeros(2)), "c": np.zeros(2)}
    collect(plain(), (labels()[0][0], targets), lambda out, y: out.sum(), leaves=["spoiler"])
    assert not any(np.any(np.asarray(y)) for y in (targets["a"][0], targets["b"].mask, targets["c"]))


def test_registered_leaves_are_collected_by_default_unless_dear() -> None:
    own("kurt", "layer", kurtosis)
    own("dear", "row", lambda v: 1.0, cost="second-order")
    found = set(collect(plain(), labels(), CE).columns)
    assert "kurt" in found
    assert "dear" not in found


@pytest.mark.parametrize(
    ("row", "measure", "words"),
    [
        (Leaf("bad", "layer"), lambda v: v.weight, "'bad': expected one number, got one of shape"),
        (Leaf("bad", "layer"), lambda v: "many", "expected one number, got a str"),
        (Leaf("bad", "layer"), lambda v: v.output.mean(), "'bad' failed: AttributeError"),
        (Leaf("bad", "element"), lambda v: v.weight[:1], "expected a tensor of shape"),
        (Leaf("bad", "activation", cost="forward"), lambda v: 1.0, "expected a tensor of shape"),
        (Leaf("bad", "row"), lambda v: v.loss(1), "network 'model': the measure of leaf 'bad' failed"),
        (Leaf("bad", "layer", "nonneg"), lambda v: -1.0, "'bad' is declared nonnegative"),
    ],
)
def test_a_bad_measure_is_named(row: Leaf, measure: Callable[..., Any], words: str) -> None:
    register_leaf(row, measure)
    with pytest.raises(ConfigError, match=words):
        collect(plain(), labels(), CE, leaves=["bad"])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Leaf("w", "element"), "exists already"),
        (Leaf("two words", "layer"), "not an identifier"),
        (Leaf("h", "layer", cost="second-order"), "on the row axis"),
        (Leaf("h", "layer", cost="forward", labels=True), "cost='backward'"),
    ],
)
def test_a_row_that_cannot_be_is_refused(row: Leaf, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        register_leaf(row, lambda v: 0)
    with pytest.raises(ConfigError, match="a function"):
        register_leaf(Leaf("h", "layer"), 3)  # type: ignore[arg-type]
    assert "h" not in STATISTICS


def test_a_row_again_and_gone() -> None:
    own("kurt", "layer", kurtosis)
    own("kurt", "layer", lambda v: 2.0)
    assert set(collect(plain(), labels(), CE, leaves=["kurt"]).columns["kurt"]) == {2.0}
    with pytest.raises(ConfigError, match="unregister_leaf"):
        own("kurt", "row", lambda v: 2.0)
    unregister_leaf("kurt")
    with pytest.raises(UnknownName, match="kurt"):
        collect(plain(), labels(), CE, leaves=["kurt"])
    for name in ("kurt", "w"):
        with pytest.raises(UnknownName, match="no statistic of a user"):
            unregister_leaf(name)


def networks(n: int) -> list[tuple[str, Callable[[], nn.Module]]]:
    return [(f"n{i}", partial(plain, 3 + i)) for i in range(n)]


def test_the_cache_tells_measures_apart_and_processes_learn_of_them(tmp_path: Path) -> None:
    own("kurt", "layer", kurtosis, sign="nonneg")
    here = collect_many(networks(2), labels(), CE, leaves=["kurt"], cache=tmp_path)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = collect_many(networks(2), labels(), CE, leaves=["kurt"], executor=pool)
    assert here.digest == there.digest
    own("kurt", "layer", lambda v: 2.0, sign="nonneg")
    other = collect_many(networks(2), labels(), CE, leaves=["kurt"], cache=tmp_path)
    assert set(other.columns["kurt"]) == {2.0}


def to_the_power(layer: LayerView, power: float) -> float:
    return power


class Power:
    """A measure with state."""

    def __init__(self, power: float) -> None:
        self.power = power

    def __call__(self, layer: LayerView) -> float:
        return self.power


def closure(power: float) -> Callable[[LayerView], float]:
    return lambda layer: power


def by_default(power: float) -> Callable[[LayerView], float]:
    def measure(layer: LayerView, power: float = power) -> float:
        return power

    return measure


def from_nowhere(power: float) -> Any:
    """Return a function that has no source, as one typed at a prompt."""
    return eval(f"lambda layer: {power}")  # our own text


@pytest.mark.parametrize(
    "made",
    [partial(partial, to_the_power), Power, closure, by_default, from_nowhere, lambda p: Power(p).__call__],
)
def test_the_cache_tells_apart_what_measures_hold(tmp_path: Path, made: Callable[[float], Any]) -> None:
    def collected(power: float) -> set[float]:
        measure = made(power=power) if isinstance(made, partial) else made(power)
        own("k", "layer", measure)
        return set(collect_many(networks(1), labels(), CE, leaves=["k"], cache=tmp_path).columns["k"])

    assert [collected(2.0), collected(3.0), collected(2.0)] == [{2.0}, {3.0}, {2.0}]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_cache_refuses_what_it_cannot_tell(tmp_path: Path) -> None:
    lock = Lock()
    own("k", "layer", lambda layer: float(lock.locked()))
    with pytest.raises(
        ConfigError, match=r"leaf 'k': a cache cannot tell .* lock object; leave out cache, or def"
    ):
        collect_many(networks(1), labels(), CE, leaves=["k"], cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
    collect_many(networks(1), labels(), CE, leaves=["k"])


def test_workers_that_live_on_learn_of_another_row() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        own("kurt", "layer", kurtosis)
        collect_many(networks(1), labels(), CE, leaves=["kurt"], executor=pool)
        unregister_leaf("kurt")
        own("kurt", "row", row_of_one)
        table = collect_many(networks(1), labels(), CE, leaves=["kurt"], executor=pool)
        assert list(table.columns["kurt"]) == [1.0]
        own("kurt", "row", lambda view: 2.0)
        with pytest.raises(ConfigError, match=r"leaf 'kurt': .* cannot be sent .* top level of a file"):
            collect_many(networks(1), labels(), CE, leaves=["kurt"], executor=pool)


def row_of_one(view: NetworkView) -> float:
    return 1.0


def test_formulas_files_and_kernels_know_it(tmp_path: Path) -> None:
    own("kurt", "layer", kurtosis, sign="nonneg", latex=r"\kappa")
    dag = parse("sum(log(kurt) * l1(w * g))")
    assert parse(text(dag)) == dag == Dag.from_json(dag.to_json())
    table = collect_many(networks(3), labels(), CE, leaves=["kurt", "w", "g"])
    table.save(tmp_path / "t.safetensors")
    unregister_leaf("kurt")
    loaded = StatTable.load(tmp_path / "t.safetensors")  # the file says what it is
    assert loaded.leaves["kurt"] == Leaf("kurt", "layer", "nonneg")
    again = parse(text(dag), loaded.leaves)
    assert again == dag == Dag.from_json(dag.to_json())
    plainly, fused = (compile_kernel(lower([again]), b)(loaded) for b in ("reference", "fused"))
    np.testing.assert_allclose(plainly, fused, rtol=1e-9)
    with pytest.raises(CompileError, match=r"'kurt' .* collect it"):
        formula_python(dag, provenance={})


def test_a_search_on_networks_uses_it_and_its_file_says_what_it_cannot(tmp_path: Path) -> None:
    own("kurt", "layer", kurtosis, sign="nonneg")
    table = collect_many(networks(24), labels(), CE, leaves=["kurt", "numel"])
    (target,) = compile_kernel(lower([parse("max(kurt)")]), "reference")(table)
    Problem("mine", table, target, "accuracy", groups=table.rows).save(tmp_path / "mine.safetensors")
    options = ("--generations", 2, "--population", 40, "--leaves", "kurt", "--out", "run", "--quiet")
    done = call("evolve", "mine.safetensors", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scope: dict[str, Any] = {}
    exec((tmp_path / "run" / "formula.py").read_text(), scope)  # our own file
    assert "kurt" in scope["FORMULA"]
    with pytest.raises(NotImplementedError, match="'kurt' on the layer axis"):
        scope["score"](None)
    refused(call("export", "run", "--format", "python", cwd=tmp_path), 2, "'kurt'")
    done = call("score", "run", "--table", "mine.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 25


def test_segmenters_are_scored_by_it_where_it_is_registered() -> None:
    from segspace.search.scoring import Scorer

    own("kurt", "layer", kurtosis, sign="nonneg")
    dag = Dag.from_json(parse("sum(kurt)").to_json())
    scorer = Scorer(dag, lambda arch: plain(3), labels(), CE)
    expected = collect(plain(3), labels(), CE, leaves=["kurt"]).columns["kurt"].astype(float).sum()
    assert scorer("any") == pytest.approx(expected, rel=1e-6)
    unregister_leaf("kurt")
    with pytest.raises(ConfigError, match="register_leaf"):
        Scorer(dag, lambda arch: plain(3), labels(), CE)

"""Rank the networks of your own zoo without training them, then look for a formula that does it better.

The zoo is small residual networks, written here in plain torch. The formula to start with was found by
``python -m proxygraph.evolve`` on published segmentation networks (docs/results.md, seed 0); hand-made
proxies stand beside it. To see who is right, every network is then trained on a small task, which needs no
download.

    python examples/score_zoo.py
    python examples/score_zoo.py --networks 8 --steps 20 --no-discover
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from proxygraph import ZOO, Problem, StatTable, collect_many, compile_kernel, lower, parse

FOUND = "sum(l1(tanh(gv)) * square(min(kernel, square(stride))))"
HAND_MADE = ("params", "macs", "snip", "synflow", "grad_norm", "zico", "nwot", "jacov")
CLASSES, SIDE = 8, 16


# ---- networks: anything that is a torch.nn.Module will do -------------------------------------------------


class Block(nn.Module):
    """Two convolutions, with or without a way around them."""

    def __init__(self, c_in: int, c_out: int, stride: int, kernel: int, skip: bool) -> None:
        super().__init__()
        self.a = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.b = nn.Conv2d(c_out, c_out, kernel, 1, kernel // 2, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)])
        self.around = nn.Conv2d(c_in, c_out, 1, stride, bias=False) if skip else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the map after the block."""
        y: Tensor = self.norms[1](self.b(F.relu(self.norms[0](self.a(x)))))
        return F.relu(y if self.around is None else y + self.around(x))


def build(width: int, depth: int, kernel: int, skip: bool) -> nn.Module:
    """Return an untrained network, always with the same weights."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = [
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    for stage in range(3):
        for k in range(depth):
            c_in = width * 2 ** (stage if k else max(0, stage - 1))
            blocks.append(Block(c_in, width * 2**stage, 2 if stage and not k else 1, kernel, skip))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width * 4, CLASSES)]
    return nn.Sequential(*blocks, *head)


def zoo(n: int) -> list[tuple[str, Callable[[], nn.Module]]]:
    """Return names and builders of `n` networks, spread over the whole zoo."""
    every = [
        (w, d, k, s) for w in (2, 3, 4, 6, 8, 12) for d in (1, 2, 3) for k in (1, 3) for s in (False, True)
    ]
    chosen = np.random.default_rng(0).permutation(len(every))[:n]
    shapes = [every[i] for i in sorted(chosen)]
    return [(f"w{w}-d{d}-k{k}{'-skip' if s else ''}", partial(build, w, d, k, s)) for w, d, k, s in shapes]


# ---- a task: which of eight directions do the stripes have? -----------------------------------------------


def pictures(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy pictures (n, 3, SIDE, SIDE) of stripes, and their classes."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.randint(CLASSES, (n,), generator=rng)
    angle, phase = label * torch.pi / CLASSES, torch.rand(n, generator=rng) * 6.3
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    along = x * torch.cos(angle)[:, None, None] + y * torch.sin(angle)[:, None, None]
    stripes = torch.sin(1.2 * along + phase[:, None, None])[:, None]
    return stripes + 0.5 * torch.randn(n, 3, SIDE, SIDE, generator=rng), label


def accuracy(model: nn.Module, steps: int) -> float:
    """Return the accuracy, in percent, after a short but complete training."""
    images, labels = pictures(32 * max(1, steps), seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps + 1)
    for step in range(steps):
        optimizer.zero_grad()
        part = slice(32 * step, 32 * step + 32)
        F.cross_entropy(model(images[part]), labels[part]).backward()
        optimizer.step()
        schedule.step()
    images, labels = pictures(512, seed=2)
    with torch.no_grad():
        return 100 * float((model.eval()(images).argmax(1) == labels).float().mean())


# ---- the story --------------------------------------------------------------------------------------------


def statistics(networks: list[tuple[str, Callable[[], nn.Module]]]) -> StatTable:
    """Return what is measured of the untrained networks: one row each, on two batches."""
    return collect_many(networks, [pictures(16, 3), pictures(16, 4)], F.cross_entropy)


def discover(table: StatTable, target: np.ndarray, seconds: float) -> None:
    """Search for a formula on two thirds of the networks and test it on the others."""
    from proxygraph import ProxyRanker  # pip install 'proxygraph[sklearn]'

    order = np.random.default_rng(1).permutation(table.n_rows)
    train, test = order[: 2 * len(order) // 3], order[2 * len(order) // 3 :]
    # what is undefined for some network is no help: `receptive`, say, asks for a map as output
    leaves = [name for name, column in table.columns.items() if np.isfinite(column).all()]
    # with few networks a formula can be good by luck: judge it by a lower bound over resampled networks
    ranker = ProxyRanker(
        objective="lower:spearman", leaves=leaves, time_budget=seconds, generations=None, random_state=0
    )
    ranker.fit(table.take(train), target[train])
    print(f"\nfound on {len(train)} of them: {ranker.formula()}")
    print(f"Spearman on the other {len(test)}: {ranker.score(table.take(test), target[test]):+.3f}")


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", type=int, default=36, help="networks of the zoo (at most 72)")
    parser.add_argument("--steps", type=int, default=60, help="training steps of each network")
    parser.add_argument("--seconds", type=float, default=15, help="of the search for a formula")
    parser.add_argument("--no-discover", action="store_true", help="leave out that search")
    parser.add_argument("--save", type=Path, help="write a problem for `python -m proxygraph.evolve FILE`")
    given = parser.parse_args()

    torch.set_num_threads(1)  # networks this small are slower with more
    networks = zoo(given.networks)
    table = statistics(networks)
    formulas = {"found": parse(FOUND)} | {name: ZOO[name].dag for name in HAND_MADE}
    scores = compile_kernel(lower(list(formulas.values())))(table)  # shape (formulas, networks)
    best = table.rows[int(np.argmax(scores[0]))]
    print(f"{len(networks)} untrained networks; the formula says {best} is the best of them")

    target = np.array([accuracy(make(), given.steps) for _, make in networks])
    print(f"trained, they reach {target.min():.0f} to {target.max():.0f} %; {best} reaches ", end="")
    print(f"{target[table.rows.index(best)]:.0f} %\n\nSpearman with the accuracy")
    for name, values in zip(formulas, scores, strict=True):
        ranks = (np.argsort(np.argsort(v)) for v in (values, target))
        print(f"  {name:10} {np.corrcoef(*ranks)[0, 1]:+.3f}")

    if given.save is not None:
        Problem("zoo", table, target, "accuracy", groups=table.rows).save(given.save)
        print(f"\n{given.save}: search longer with python -m proxygraph.evolve {given.save}")
    if not given.no_discover:
        discover(table, target, given.seconds)


if __name__ == "__main__":
    main()

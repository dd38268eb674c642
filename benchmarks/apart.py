"""Networks to decide on, apart from those that results are reported on.

Which leaves, objective or rule of choice a protocol uses is tried on published networks that are not among
the 1000 of the problem ``transnas101``, and equal none of them after dead edges are pruned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from proxygraph.problem import Problem, Report
from segspace.problems import Measurement, published, sampled, statistics
from segspace.transnas101 import Arch

NETWORKS, SEED = 500, 1


def names_apart(names: Sequence[str], n: int = NETWORKS) -> list[str]:
    """Return `n` of the names: none whose network the problem has, or one equal to it when pruned."""
    taken = {str(Arch.parse(name).live()) for name in sampled(names)}
    return sampled([name for name in names if str(Arch.parse(name).live()) not in taken], n, SEED)


def problem_apart(path: Path, draw: int = 0, *, report: Report) -> Problem:
    """Return a problem of networks that ``transnas101`` does not have; `draw` as in `Measurement`."""
    results = published(path, "seg_valid_miou")
    names = names_apart(sorted(results))
    archs = [Arch.parse(name) for name in names]
    target = np.array([results[name] for name in names])
    table = statistics(archs, Measurement(draw=draw), report)
    return Problem("apart", table, target, "seg_valid_miou", tuple(str(arch.live()) for arch in archs))

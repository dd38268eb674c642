"""How well a table predicts networks that it has not seen: errors, rank correlations, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from proxygraph.errors import BackendUnavailable, ConfigError
from proxygraph.rank import rank_report
from proxygraph.scores import Scores
from segspace.latency.build import ROUNDS, measure_networks, typical_reference
from segspace.latency.runtimes import Runtime
from segspace.latency.table import STATISTICS, LatencyTable, Record, Setting, Size, Statistic, network_key

if TYPE_CHECKING:
    from segspace.rtseg.arch import Arch


@dataclass(frozen=True)
class Agreement:
    """Predicted against measured, one statistic.

    Attributes
    ----------
    statistic : str
        Which quantile of the rounds, on both sides.
    n : int
        Networks.
    mape, worst : float
        Mean and largest relative error, in per cent of the measured latency.
    tau_b, rho : float or None
        Kendall's and Spearman's rank correlation.
    sum_mape : float
        Mean relative error of the sum of the pieces, not calibrated.
    slope, offset, n_calibration : float, float, int
        The calibration.
    """

    statistic: Statistic
    n: int
    mape: float
    worst: float
    tau_b: float | None
    rho: float | None
    sum_mape: float
    slope: float
    offset: float
    n_calibration: int


@dataclass(frozen=True)
class Check:
    """A table compared with networks it has not seen.

    Attributes
    ----------
    setting : Setting
        Of the table, and of the measurement.
    size, classes : (int, int), int
        Of the networks.
    archs : tuple of str
        Which networks.
    predicted, measured : dict of str to tuple of float
        ms per statistic, in the order of `archs`.
    agreement : tuple of Agreement
        One per statistic.
    spread : float
        Median over the networks of (p90 - p10) / median.
    pace : float
        Time of the reference kernel now over that when the table was made: 1 if the machine is as fast.
    """

    setting: Setting
    size: Size
    classes: int
    archs: tuple[str, ...]
    predicted: dict[Statistic, tuple[float, ...]]
    measured: dict[Statistic, tuple[float, ...]]
    agreement: tuple[Agreement, ...]
    spread: float
    pace: float

    def of(self, statistic: Statistic) -> Agreement:
        """Return the agreement of one statistic."""
        return next(one for one in self.agreement if one.statistic == statistic)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def check(
    table: LatencyTable,
    runtime: Runtime,
    archs: Sequence[Arch],
    size: Size,
    classes: int,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Check:
    """Measure networks and compare with what the table predicts.

    Parameters
    ----------
    table : LatencyTable
        With all pieces and a calibration.
    runtime : Runtime
        The one the table was made with.
    archs : sequence of Arch
        At least two, none of them used for the calibration.
    size : (int, int)
        Height and width of the image.
    classes : int
        Number of classes.
    rounds, seed : int
        Turns of each network and seed of their order.

    Raises
    ------
    ConfigError
        If the runtime is of another setting than the table, a network belongs to the calibration, or
        something is missing.
    """
    if difference := table.setting.difference(Setting.of(runtime, table.setting.batch)):
        raise ConfigError(f"the table is of another setting than this check: {difference}; make one here")
    if seen := [a for a in archs if network_key(a, size, classes) in table.networks]:
        raise ConfigError(f"{seen[0]}: the table is calibrated with it; check with others")
    if len(archs) < 2:
        raise ConfigError(f"{len(archs)} networks to check with, at least 2 are needed")
    predicted = {s: tuple(table.predict(a, size, classes, statistic=s) for a in archs) for s in STATISTICS}
    records = measure_networks(archs, size, classes, runtime, table.setting.batch, rounds, seed)
    measured = {s: tuple(float(getattr(one, s)) for one in records) for s in STATISTICS}
    return Check(
        table.setting,
        size,
        classes,
        tuple(map(str, archs)),
        predicted,
        measured,
        tuple(_agreement(table, archs, size, classes, s, predicted[s], measured[s]) for s in STATISTICS),
        _spread(records),
        typical_reference(records) / typical_reference(table.pieces.values()),
    )


def plot(report: Check, path: Path, statistic: Statistic) -> None:
    """Draw predicted over measured latency into a picture file (needs matplotlib).

    Raises
    ------
    BackendUnavailable
        If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendUnavailable(
            "a picture needs matplotlib, which is not installed: pip install matplotlib"
        ) from None
    x, y = report.measured[statistic], report.predicted[statistic]
    agreement = report.of(statistic)
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    ends = [0.95 * min(*x, *y), 1.05 * max(*x, *y)]
    axes.plot(ends, ends, color="#999999", lw=1)
    axes.scatter(x, y, s=18, color="#0b5394")
    axes.set(xlim=ends, ylim=ends, xlabel="measured, ms", ylabel="predicted, ms", aspect="equal")
    tau = "–" if agreement.tau_b is None else f"{agreement.tau_b:.2f}"
    axes.set_title(
        f"{report.setting.runtime} {report.setting.version}, {report.size[0]}×{report.size[1]}: "
        f"MAPE {agreement.mape:.1f} %, τ {tau}",
        fontsize=10,
    )
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the picture cannot be written: {error}") from None


def _agreement(
    table: LatencyTable,
    archs: Sequence[Arch],
    size: Size,
    classes: int,
    statistic: Statistic,
    predicted: Sequence[float],
    measured: Sequence[float],
) -> Agreement:
    y = np.asarray(measured)
    error = 100 * np.abs(np.asarray(predicted) / y - 1)
    sums = [table.predict(a, size, classes, statistic=statistic, calibrated=False) for a in archs]
    ranks = rank_report(Scores.of(list(predicted)), y)
    line = table.calibration(size, classes, statistic)
    return Agreement(
        statistic,
        len(y),
        float(error.mean()),
        float(error.max()),
        ranks.tau_b,
        ranks.rho,
        float(100 * np.mean(np.abs(np.asarray(sums) / y - 1))),
        line.slope,
        line.offset,
        line.n,
    )


def _spread(records: Sequence[Record]) -> float:
    return float(np.median([(one.p90 - one.p10) / one.median for one in records]))

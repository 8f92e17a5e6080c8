"""Monitoring of a season: is there a change in a pixel's series after the reference period, and when did it begin?

The season is fitted robustly on the reference period; every later view is predicted from all views before it, and the
standardised errors are searched for windows whose sum, for a lasting step whose size, or for a row of views on one side
whose smallest error is too large for chance. Kernels: ``regression`` and ``change_search``; null distributions:
``monitoring_null``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numba import prange
from scipy import interpolate, stats

from compoundwatch import monitoring_null as null
from compoundwatch.change_search import monitor_tiles
from compoundwatch.monitoring_null import Table
from compoundwatch.regression import compiled_parallel, cycles

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Monitored:
    """What monitoring says, one value per pixel, NaN (-1 for dates) where the pixel was seen too seldom.

    ``statistic`` float32, signed: the largest sum, step or row, standardised by the noise's standard deviation and by
    the correlation of neighbouring views. ``effect`` and ``effect_se`` float32, unit of the values: mean residual from
    the season of the reference period over the views of the change. ``first`` and ``before`` int32: index of the date
    of the first view of the change and of the last view before it. ``n_before``, ``n_after`` int32 counts of views.
    """

    statistic: F32
    effect: F32
    effect_se: F32
    first: I32
    before: I32
    n_before: I32
    n_after: I32


class SeasonMonitor:
    """What the series detectors that follow a season have in common.

    Each says what it looks for: ``windows`` (views in a moving sum; none = a lasting step) or ``run`` (views in a row
    on one side, 0 = none). ``table`` holds the null quantiles of exactly that, for the default settings:
    ``clip_sigma``, standard deviations of the reference period beyond which an error counts as this many, and
    ``huber_sigma``, the same for the fit of the season.
    """

    kind: Literal["series"] = "series"
    unit: str | None = None
    min_before = 8
    min_after = 4
    windows: tuple[int, ...] = (4, 8, 16, 32)
    run = 0
    table: Table

    def __init__(self, clip_sigma: float = 2.5, huber_sigma: float = 1.5) -> None:
        self.clip_sigma = clip_sigma
        self.huber_sigma = huber_sigma

    def changes(
        self, values: npt.NDArray[np.floating[Any]], days: npt.NDArray[np.int64], reference_end: int
    ) -> Mapping[str, Any]:
        """The fields of a ``PixelChange`` by name, each (n_pixels,); arguments as those of a detector's ``test``."""
        found = monitor(
            values,
            days,
            reference_end,
            windows=self.windows,
            run=self.run,
            min_before=self.min_before,
            min_after=self.min_after,
            clip=self.clip_sigma,
            tuning=self.huber_sigma,
        )
        first = days_of(found.first, days)
        return {
            "statistic": found.statistic,
            "p_value": p_values(found, self.table),
            "effect": found.effect,
            "effect_se": found.effect_se,
            "day": first,
            "day_earliest": days_of(found.before, days),
            "day_latest": first.copy(),
            "n_before": found.n_before,
            "n_after": found.n_after,
        }


def huber_efficiency(tuning: float) -> float:
    """E min(z^2, tuning^2) for a standard normal z: what makes the scale of Huber's proposal 2 consistent."""
    return float(
        2 * ((0.5 - stats.norm.sf(tuning)) - tuning * stats.norm.pdf(tuning) + tuning**2 * stats.norm.sf(tuning))
    )


def monitor(
    values: npt.NDArray[np.floating[Any]],
    days: npt.NDArray[np.int64],
    reference_end: int,
    *,
    windows: tuple[int, ...],
    run: int = 0,
    min_before: int = 8,
    min_after: int = 4,
    clip: float = 2.5,
    tuning: float = 1.5,
    rounds: int = 3,
    ridge: float = 1e-4,
) -> Monitored:
    """Search every pixel's series for a change after ``reference_end``.

    Parameters
    ----------
    values : float32 (n_dates, n_pixels), NaN = no view.
    days : int64 (n_dates,), days since 1970-01-01, sorted.
    reference_end : first day (since 1970-01-01) that may hold a change.
    windows : lengths in views of the moving sums; empty = search for a lasting step only.
    run : where above 0, search for the row of so many views on one side whose smallest error is largest; the windows
        then serve only to tell the noise from a change.
    min_before, min_after : views below which a pixel is not tested.
    clip : errors beyond this many standard deviations of the reference period count as this many.
    tuning : of the Huber fit, in standard deviations; ``rounds`` = 0 makes it least squares.
    ridge : added to the harmonics, as a share of the number of views.
    """
    cube = np.ascontiguousarray(values, dtype=np.float32)
    dates = int(np.searchsorted(days, reference_end, side="left"))
    statistic, effect, effect_se = (np.full(cube.shape[1], np.nan, np.float32) for _ in range(3))
    first, last, n_before, n_after = (np.full(cube.shape[1], -1, np.int32) for _ in range(4))
    out = (statistic, effect, effect_se, first, last, n_before, n_after)
    if not 0 < dates < len(days):
        n_before[:] = np.isfinite(cube[:dates]).sum(axis=0)
        n_after[:] = np.isfinite(cube[dates:]).sum(axis=0)
        return Monitored(*out)
    search = (np.asarray(windows, dtype=np.int32), run)
    numbers = (ridge, tuning, huber_efficiency(tuning), rounds, clip)
    monitor_tiles(cube, cycles(days - reference_end), dates, search, numbers, (min_before, min_after), out)
    return Monitored(*out)


def null_quantiles(table: Table, n_before: npt.ArrayLike, n_after: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Values that the largest statistic exceeds by chance with probabilities ``monitoring_null.LEVELS``.

    Cubic in the logarithms of both counts between the tabulated ones, held constant beyond them.

    Parameters
    ----------
    table : of ``monitoring_null``.
    n_before, n_after : increasing counts of views, (n,) and (m,).

    Returns
    -------
    float64 (n, m, n_levels).
    """
    rows, columns = np.log(null.VIEWS_BEFORE), np.log(null.VIEWS_AFTER)
    x, y = np.log(np.asarray(n_before, dtype=np.float64)), np.log(np.asarray(n_after, dtype=np.float64))
    levels = np.moveaxis(np.asarray(table), -1, 0)
    curves = np.stack([interpolate.RectBivariateSpline(rows, columns, level)(x, y) for level in levels], axis=-1)
    return np.asarray(np.maximum.accumulate(np.maximum(curves, 0), axis=-1))  # a spline may dip where a row is rare


def p_values(found: Monitored, table: Table) -> F32:
    """Two-sided p-value of each pixel's largest statistic, float32 0-1, NaN = not tested.

    It answers for the whole monitoring period at once: the chance that the largest of all windows, at all dates, is
    this large where nothing happens. Beyond the tabulated levels its logarithm goes on in a straight line.
    """
    tested = np.isfinite(found.statistic)
    p = np.full(tested.shape, np.nan, np.float32)
    if tested.any():
        least, most = found.n_before[tested].min(), found.n_before[tested].max()
        fewest, greatest = found.n_after[tested].min(), found.n_after[tested].max()
        quantiles = _curves(table, int(least), int(most), int(fewest), int(greatest))
        logs = np.log(np.array(null.LEVELS)).astype(np.float32)
        _p_values(found.statistic, found.n_before - least, found.n_after - fewest, quantiles, logs, p)
    return p


@lru_cache(maxsize=16)
def _curves(table: Table, least: int, most: int, fewest: int, greatest: int) -> F32:
    """``null_quantiles`` of all counts of views in two spans, which the tiles of one site share."""
    return null_quantiles(table, np.arange(least, most + 1), np.arange(fewest, greatest + 1)).astype(np.float32)


@compiled_parallel
def _p_values(statistic: F32, rows: I32, columns: I32, quantiles: F32, logs: F32, p: F32) -> None:
    last = logs.size - 1
    for i in prange(p.size):
        v = abs(statistic[i])
        if v == v:
            curve = quantiles[rows[i], columns[i]]
            k = 0
            while k < last - 1 and v > curve[k + 1]:
                k += 1
            if v <= curve[0]:  # below the first level: from 1 at zero, straight
                p[i] = 1 - (1 - np.exp(logs[0])) * v / curve[0] if v > 0 else 1
            else:
                slope = (logs[k + 1] - logs[k]) / (curve[k + 1] - curve[k])
                p[i] = np.exp(logs[k] + slope * (v - curve[k]))


def days_of(dates: I32, days: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Days since 1970-01-01 of ``dates``, indices into ``days`` of any shape, as float64; NaN where one is -1."""
    known = np.append(np.asarray(days, dtype=np.float64), np.nan)
    return known[dates]

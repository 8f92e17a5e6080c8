"""Monitoring of a season: is there a change in a pixel's series after the reference period, and when did it begin?

The season is fitted robustly on the reference period; every later view is predicted from all views before it, and the
standardised errors are searched for windows, or for a lasting step, whose sum is too large for chance. ``monitor`` runs
the kernels of this module and of ``regression`` over tiles of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange
from scipy import interpolate, stats

from compoundwatch import monitoring_null as null
from compoundwatch import regression
from compoundwatch.formulas import harmonic_design
from compoundwatch.monitoring_null import Table
from compoundwatch.regression import TINY, compiled, compiled_parallel

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

TILE = 256
"""Pixels per tile: about 0.4 MB for 200 dates, which fits the second-level cache."""
CORRELATION_CLIP = np.float32(2.5)
"""Errors beyond this many standard deviations count as this many when the correlation of neighbours is measured."""
LARGEST_CORRELATION = np.float32(0.8)
SHORTEST = 3
"""Views after a lasting step, at least."""


@dataclass(frozen=True)
class Monitored:
    """What monitoring says, one value per pixel, NaN (-1 for dates) where the pixel was seen too seldom.

    ``statistic`` float32, signed: the largest standardised sum, divided by the noise's standard deviation, which holds
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


@compiled
def collect(rows: F32, seen: F32, start: int, before: F32, total: F32, faded: F32, order: I32, views: I32) -> None:
    """Close the gaps: running sums of the errors by number of view instead of by date.

    ``total[k]`` is the sum of a pixel's first k errors from ``start`` on, ``faded[k]`` the same with error number m
    (counted from the first view of the pixel, ``before`` of which lie before ``start``) divided by sqrt(m (m-1)),
    ``order[k]`` the date of view k; rows beyond the pixel's number of ``views`` are NaN.
    """
    total[:] = np.nan
    faded[:] = np.nan
    total[0, :] = 0
    faded[0, :] = 0
    views[:] = 0
    for t in range(start, rows.shape[0]):
        for p in range(views.size):
            k = views[p]
            new = k + np.int32(seen[t, p])
            m = before[p] + np.float32(new)
            s = total[k, p] + rows[t, p]
            u = faded[k, p] + rows[t, p] / np.sqrt(max(m * (m - np.float32(1)), np.float32(1)))
            total[new, p] = s  # a date that was not seen writes the same sum again: no branch
            faded[new, p] = u
            order[new, p] = t if new > k else order[new, p]
            views[p] = new


@compiled
def largest_window(total: F32, lengths: I32, best: F32, begin: I32, length: I32) -> None:
    """Largest standardised sum over windows of ``lengths`` views, its first view (from 0) and its length."""
    best[:] = 0
    begin[:] = 0
    length[:] = 0
    for h in lengths:
        scale = np.float32(1 / np.sqrt(h))
        for k in range(total.shape[0] - h):
            for p in range(best.size):
                z = (total[k + h, p] - total[k, p]) * scale
                more = abs(z) > abs(best[p])
                best[p] = z if more else best[p]
                begin[p] = k if more else begin[p]
                length[p] = h if more else length[p]


@compiled
def largest_step(faded: F32, before: F32, views: I32, shortest: int, last: F32, best: F32, begin: I32) -> None:
    """Largest standardised step of the level that lasts to the end, and its first view (from 0).

    One-step errors forget a step as the level learns it; with weights 1 / sqrt(m (m-1)) their sum is the likelihood
    of a step whatever the number of views after it, at least ``shortest``. ``last`` is scratch.
    """
    best[:] = 0
    begin[:] = 0
    for p in range(best.size):
        last[p] = faded[views[p], p]
    for k in range(faded.shape[0] - shortest):
        for p in range(best.size):
            m = before[p] + np.float32(k)
            left = np.float32(views[p] - k)
            scale = np.sqrt(m * (m + left) / max(left, np.float32(1)))
            z = (last[p] - faded[k, p]) * scale
            more = (abs(z) > abs(best[p])) & (left >= shortest)
            best[p] = z if more else best[p]
            begin[p] = k if more else begin[p]


@compiled
def square_sum(total: F32, squares: F32) -> None:
    """Sum of each pixel's squared errors, from their running sums."""
    squares[:] = 0
    for k in range(total.shape[0] - 1):
        for p in range(squares.size):
            w = total[k + 1, p] - total[k, p]
            squares[p] += w * w if w == w else np.float32(0)


@compiled
def correlation(
    total: F32, before: F32, slope: F32, begin: I32, end: I32, fades: bool, limit: F32, work: F32, rho: F32
) -> None:
    """Correlation of neighbouring errors after a change is taken off; ``rho`` keeps the smaller of itself and this.

    Taken off is ``slope`` over the views [begin, end), divided by sqrt(m (m-1)) if it ``fades``. Errors are held
    within ``limit``, so that clouds do not hide the correlation of the rest.
    """
    before_it, cross, square = work[0], work[1], work[2]
    work[:] = 0
    for k in range(total.shape[0] - 1):
        for p in range(rho.size):
            w = total[k + 1, p] - total[k, p]
            m = before[p] + np.float32(k + 1)
            fade = np.float32(1) / np.sqrt(max(m * (m - np.float32(1)), np.float32(1))) if fades else np.float32(1)
            w -= slope[p] * fade if (k >= begin[p]) & (k < end[p]) else np.float32(0)
            w = min(max(w, -limit[p]), limit[p]) if w == w else np.float32(0)
            cross[p] += w * before_it[p]
            square[p] += w * w
            before_it[p] = w
    for p in range(rho.size):
        rho[p] = min(rho[p], cross[p] / max(square[p], TINY))


@compiled
def refine_begin(total: F32, best: F32, begin: I32, end: I32) -> None:
    """Move the begin of each window [begin, end) to where its standardised sum is largest, its end held."""
    for p in range(best.size):
        largest = np.float32(0)
        last = total[end[p], p]
        for k in range(end[p]):
            z = (last - total[k, p]) / np.sqrt(np.float32(end[p] - k))
            z = z if best[p] > 0 else -z
            if z > largest:
                largest = z
                begin[p] = k


@compiled
def mean_effect(
    raw: F32, seen: F32, design: F32, start: int, first: I32, last: I32, limit: F32, inverse: F32, sums: F32, out: F32
) -> None:
    """Mean residual over the dates [first, last], its number of views, and the variance the season adds to it.

    The mean is moved once by the residuals around it, held within ``limit``, so that a cloud in the window does not
    carry it away. ``out`` rows: mean, count, x'(X'X)^-1 x of the mean regressors.
    """
    mean, count, extra = out[0], out[1], out[2]
    out[:] = 0
    sums[:] = 0
    for t in range(raw.shape[0]):
        for p in range(limit.size):
            on = seen[t, p] if (t + start >= first[p]) & (t + start <= last[p]) else np.float32(0)
            extra[p] = on
            count[p] += on
            mean[p] += on * raw[t, p]
        for i in range(sums.shape[0]):
            x = design[t, i]
            for p in range(limit.size):
                sums[i, p] += x * extra[p]
    for p in range(limit.size):
        mean[p] /= max(count[p], np.float32(1))
        extra[p] = 0
    for t in range(raw.shape[0]):
        for p in range(limit.size):
            on = seen[t, p] if (t + start >= first[p]) & (t + start <= last[p]) else np.float32(0)
            extra[p] += on * min(max(raw[t, p] - mean[p], -limit[p]), limit[p])
    for p in range(limit.size):
        mean[p] += extra[p] / max(count[p], np.float32(1))
        extra[p] = 0
    for i in range(sums.shape[0]):
        for j in range(sums.shape[0]):
            for p in range(limit.size):
                extra[p] += sums[i, p] * inverse[i, j, p] * sums[j, p]
    for p in range(limit.size):
        extra[p] /= max(count[p], np.float32(1)) ** 2


@compiled
def noise(
    total: F32,
    before: F32,
    views: I32,
    history: F32,
    free: int,
    best: F32,
    window: tuple[F32, I32, I32],
    step: tuple[F32, I32],
    sigma: F32,
    rho: F32,
) -> None:
    """Standard deviation of one view, and the correlation of neighbours beyond what white noise shows by chance.

    The variance pools the squared residuals of the reference period (``history``) with those of the errors after the
    best change is taken off. The correlation is that left after the best window or the best step is taken off, the
    smaller of the two, less one standard error 1 / sqrt(n).
    """
    B = best.size
    squares, slope, limit = np.empty(B, np.float32), np.empty(B, np.float32), np.empty(B, np.float32)
    end, work = np.empty(B, np.int32), np.empty((3, B), np.float32)
    square_sum(total, squares)
    for p in range(B):
        degrees = max(before[p] + np.float32(views[p] - 1 - free), np.float32(1))
        sigma[p] = np.sqrt(max(history[p] + squares[p] - best[p] * best[p], np.float32(0)) / degrees)
        limit[p] = CORRELATION_CLIP * sigma[p]
        slope[p] = window[0][p] / np.sqrt(np.float32(max(window[2][p] - window[1][p], 1)))
        rho[p] = LARGEST_CORRELATION
    correlation(total, before, slope, window[1], window[2], False, limit, work, rho)
    for p in range(B):
        m, n = before[p] + np.float32(step[1][p]), before[p] + np.float32(views[p])
        slope[p] = step[0][p] * np.sqrt(m * n / max(n - m, np.float32(1)))
        end[p] = views[p]
    correlation(total, before, slope, step[1], end, True, limit, work, rho)
    for p in range(B):
        rho[p] = max(rho[p] - np.float32(1) / np.sqrt(np.float32(max(views[p], 1))), np.float32(0))


@compiled
def _tile(
    values: F32,
    at: int,
    count: int,
    season: tuple[F32, F32, Any, F32],
    dates: int,
    windows: I32,
    numbers: tuple[float, float, float, int],
    clip: float,
    enough: tuple[int, int],
    out: tuple[F32, F32, F32, I32, I32, I32, I32],
) -> None:
    """Monitor the ``count`` pixels from ``at`` on; no ``windows`` = search for a lasting step only."""
    design = season[0]
    T, q, later, B = values.shape[0], design.shape[1], values.shape[0] - dates, TILE
    high = max(T, season[1].shape[0])
    rows, seen = np.zeros((high, B), np.float32), np.zeros((high, B), np.float32)
    coefficients, inverse = np.empty((q, B), np.float32), np.empty((q, q, B), np.float32)
    sigma, before = np.empty(B, np.float32), np.empty(B, np.float32)
    regression.fit_season(values, at, count, season, dates, numbers, rows, seen, (coefficients, inverse, sigma, before))
    rows, seen = rows[:T], seen[:T]

    limit, history, scratch = np.empty(B, np.float32), np.empty(B, np.float32), np.empty((3, B), np.float32)
    for p in range(B):
        limit[p] = clip * sigma[p]
    regression.sum_of_squares(rows, limit, dates, history)
    raw, first_inverse = rows[dates:].copy(), inverse.copy()
    regression.take_off(raw, seen[dates:], design[dates:], coefficients, later, limit)
    work = (np.empty((q, B), np.float32), scratch[0], scratch[1], scratch[2])
    regression.recursive_residuals(rows, seen, design, dates, clip, coefficients, inverse, sigma, work)

    total, faded = np.empty((later + 1, B), np.float32), np.empty((later + 1, B), np.float32)
    order, views = np.zeros((later + 1, B), np.int32), np.empty(B, np.int32)
    collect(rows, seen, dates, before, total, faded, order, views)
    window, begin, end = np.empty(B, np.float32), np.empty(B, np.int32), np.empty(B, np.int32)
    step, step_begin = np.empty(B, np.float32), np.empty(B, np.int32)
    largest_window(total, windows, window, begin, end)
    largest_step(faded, before, views, SHORTEST, scratch[0], step, step_begin)
    for p in range(B):
        end[p] += begin[p]
    best, rho = step if windows.size == 0 else window, np.empty(B, np.float32)
    noise(total, before, views, history, q, best, (window, begin, end), (step, step_begin), sigma, rho)

    if windows.size > 0:
        refine_begin(total, window, begin, end)
    for p in range(B):
        w = (total[end[p], p] - total[begin[p], p]) / np.sqrt(np.float32(max(end[p] - begin[p], 1)))
        lasts = (windows.size == 0) | ((step[p] * w > 0) & (abs(step[p]) > abs(w)))
        begin[p] = step_begin[p] if lasts else begin[p]
        end[p] = views[p] if lasts else end[p]
        limit[p] = CORRELATION_CLIP * sigma[p]
        end[p], step_begin[p] = order[end[p], p], order[min(begin[p] + 1, views[p]), p]
    sums = np.empty((q, B), np.float32)
    mean_effect(raw, seen[dates:], design[dates:], dates, step_begin, end, limit, first_inverse, sums, scratch)
    for p in range(count):
        if before[p] < enough[0] or views[p] < enough[1]:
            _write(out, at + p, np.nan, np.nan, np.nan, -1, -1, int(before[p]), views[p])
            continue
        inflation = np.sqrt((1 + rho[p]) / (1 - rho[p]))
        spread = sigma[p] * inflation
        z = best[p] / spread if spread > 0 else np.float32(0)
        error = sigma[p] * np.sqrt(inflation**2 / max(scratch[1, p], np.float32(1)) + scratch[2, p])
        last = order[begin[p], p] if begin[p] > 0 else _last_seen(seen, dates, p)
        _write(out, at + p, float(z), scratch[0, p], error, step_begin[p], last, int(before[p]), views[p])


@compiled
def _last_seen(seen: F32, dates: int, p: int) -> int:
    t = dates - 1
    while t > 0 and seen[t, p] == 0:
        t -= 1
    return t


@compiled
def _write(
    out: tuple[F32, F32, F32, I32, I32, I32, I32],
    p: int,
    statistic: float,
    effect: float,
    error: float,
    first: int,
    before: int,
    n_before: int,
    n_after: int,
) -> None:
    out[0][p], out[1][p], out[2][p] = statistic, effect, error
    out[3][p], out[4][p], out[5][p], out[6][p] = first, before, n_before, n_after


@compiled_parallel
def _tiles(
    values: F32,
    season: tuple[F32, F32, Any, F32],
    dates: int,
    windows: I32,
    numbers: tuple[float, float, float, int],
    clip: float,
    enough: tuple[int, int],
    out: tuple[F32, F32, F32, I32, I32, I32, I32],
) -> None:
    pixels = values.shape[1]
    for k in prange((pixels + TILE - 1) // TILE):
        count = min(TILE, pixels - k * TILE)
        _tile(values, k * TILE, count, season, dates, windows, numbers, clip, enough, out)


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
    harmonics: int = 1,
    min_before: int = 8,
    min_after: int = 4,
    clip: float = 3.0,
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
    harmonics : of 365.25 days, in the season.
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
    wide, which, factor = regression.product_sums(days[:dates], harmonics)
    design = np.ascontiguousarray(harmonic_design(days, harmonics), dtype=np.float32)
    wide = regression.padded(wide)
    if len(wide) > len(design):
        design = np.ascontiguousarray(np.pad(design, ((0, len(wide) - len(design)), (0, 0))))
    lengths = np.asarray([w for w in windows if w <= len(days) - dates], dtype=np.int32)
    numbers = (ridge, tuning, huber_efficiency(tuning), rounds)
    _tiles(cube, (design, wide, which, factor), dates, lengths, numbers, clip, (min_before, min_after), out)
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
    return np.stack([interpolate.RectBivariateSpline(rows, columns, level)(x, y) for level in levels], axis=-1)


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
        quantiles = null_quantiles(table, np.arange(least, most + 1), np.arange(fewest, greatest + 1))
        logs = np.log(np.array(null.LEVELS))
        rows, columns = found.n_before - least, found.n_after - fewest
        _p_values(found.statistic, rows, columns, quantiles.astype(np.float32), logs.astype(np.float32), p)
    return p


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
            if v < curve[0]:  # below the first level: from 1 at zero, straight
                p[i] = 1 - (1 - np.exp(logs[0])) * v / curve[0]
            else:
                slope = (logs[k + 1] - logs[k]) / (curve[k + 1] - curve[k])
                p[i] = np.exp(logs[k] + slope * (v - curve[k]))


def days_of(dates: I32, days: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Days since 1970-01-01 of indices into ``days``, float64; NaN where the index is -1."""
    known = np.append(np.asarray(days, dtype=np.float64), np.nan)
    return known[dates]

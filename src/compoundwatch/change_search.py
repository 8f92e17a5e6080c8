"""Compiled kernels that search a pixel's prediction errors for a change, date it and measure it.

They go on where ``regression`` stops, on the same tiles and the same ``state``; ``monitor_tiles`` runs all of them.
Views are counted from the first after the reference period, which is number 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from compoundwatch.regression import (
    A00,
    A22,
    COEFFICIENTS,
    COSINE,
    CROSS,
    F32,
    FREE_SLOT,
    HELD,
    LARGEST,
    LEVEL,
    LIMIT,
    ONE,
    SIGMA,
    SINE,
    SIZE,
    SLOTS,
    TILE,
    TINY,
    VIEWS,
    ZERO,
    aligned,
    compiled,
    compiled_parallel,
    fit,
    load,
    pick,
    prediction_errors,
)

I32 = npt.NDArray[np.int32]
U32 = npt.NDArray[np.uint32]

AFTER, TOTAL, SQUARES = FREE_SLOT, FREE_SLOT + TILE, FREE_SLOT + 2 * TILE
"""Number of views after the reference period; sum of their errors, sum of the errors' squares."""
BEST, BEST_BEGIN, BEST_END = FREE_SLOT + 3 * TILE, FREE_SLOT + 4 * TILE, FREE_SLOT + 5 * TILE
"""Largest window: its standardised sum, the number of views before it, the number of its last view."""
STEP, STEP_BEGIN = FREE_SLOT + 6 * TILE, FREE_SLOT + 7 * TILE
"""Largest lasting step: its standardised size and the number of views before it."""
RHO, SLOPE = FREE_SLOT + 8 * TILE, FREE_SLOT + 9 * TILE
"""Correlation of neighbouring errors; size of a change that is taken off."""
BEGIN, END, NUMBER = FREE_SLOT + 10 * TILE, FREE_SLOT + 11 * TILE, FREE_SLOT + 12 * TILE
"""The change: number of views before it (in the end, its first date), number of its last view; the view at hand."""
MEAN, COUNT, MEAN_C, MEAN_S, EXTRA = (
    FREE_SLOT + 13 * TILE,
    FREE_SLOT + 14 * TILE,
    FREE_SLOT + 15 * TILE,
    FREE_SLOT + 16 * TILE,
    FREE_SLOT + 17 * TILE,
)
"""Mean residual of the change, its number of views, its mean cosine and sine, the variance the season adds to it."""
SUM, TOP, BOTTOM = FREE_SLOT + 18 * TILE, FREE_SLOT + 19 * TILE, FREE_SLOT + 20 * TILE
"""A running sum; the largest fraction so far, kept as numerator and denominator, which spares divisions."""
LAG = FREE_SLOT + 21 * TILE
"""Products of neighbouring errors after the reference period; CROSS holds those of the residuals in it."""
STATISTIC = FREE_SLOT + 22 * TILE
"""What is searched for, largest size, standardised but for SIGMA."""
KEPT = FREE_SLOT + 23 * TILE
"""Six rows: (X'X)^-1 of the reference period."""

CORRELATION_CLIP = np.float32(2.5)
"""Residuals beyond this many standard deviations count as this many in the mean of a change."""
LARGEST_CORRELATION = np.float32(0.8)
BIAS, SHRINKAGE = np.float32(7), np.float32(16)
"""By what a correlation measured on n views is too small, times n; see ``noise``."""
SHORTEST_STEP = np.float32(3)
"""Views after a lasting step, at least."""
CHUNKS = 64
"""Runs of tiles that threads share out; each has its own arrays, made once: new memory for every tile costs a fifth."""
EIGHTH, FORTIETH = np.float32(1 / 8), np.float32(3 / 128)
HALF, TWO, NAN = np.float32(0.5), np.float32(2), np.float32(np.nan)


@compiled
def first_residuals(rows: F32, seen: F32, waves: F32, start: int, state: F32, out: F32) -> None:
    """Residuals from the season of the reference period, for the dates from ``start`` on."""
    for t in range(out.shape[0]):
        c, s = waves[start + t, 0], waves[start + t, 1]
        for p in range(TILE):
            season = state[LEVEL + p] + c * state[COSINE + p] + s * state[SINE + p]
            out[t, p] = rows[start + t, p] - season * seen[start + t, p]


@compiled
def add_up_errors(rows: F32, seen: F32, start: int, places: U32, total: F32, state: F32) -> None:
    """``total[k]`` = sum of a pixel's first k errors; number of views, sums of squares and of products of neighbours.

    Every date writes its sum to the place of the last view so far, so that a date without a view repeats what stands
    there: no branch. Places beyond AFTER are left as they were.
    """
    flat = total.reshape(-1)
    total[0, :] = 0
    state[AFTER : SQUARES + TILE] = 0
    state[LAG : LAG + TILE] = 0
    state[HELD : HELD + TILE] = 0
    for t in range(start, rows.shape[0] - 1):
        for p in range(TILE):
            error, n = rows[t, p], seen[t, p]
            state[AFTER + p] += n
            state[TOTAL + p] += error
            state[SQUARES + p] += error * error
            state[LAG + p] += error * state[HELD + p]
            state[HELD + p] = pick(n > ZERO, error, state[HELD + p])
        for p in range(TILE):
            places[p] = np.uint32(np.int32(state[AFTER + p]) * np.int32(TILE) + np.int32(p))
        for p in range(TILE):
            flat[places[p]] = state[TOTAL + p]


@compiled
def largest_windows(total: F32, lengths: I32, found: F32, state: F32) -> None:
    """``found[2i]`` = largest standardised sum over windows of ``lengths[i]`` views, ``found[2i + 1]`` = views before.

    BEST is the largest of all.
    """
    state[BEST : BEST_END + TILE] = 0
    for i in range(lengths.size):
        h = lengths[i]
        scale = np.float32(1 / np.sqrt(h))
        state[TOP : BOTTOM + TILE] = 0
        for k in range(total.shape[0] - h):
            begin, end = np.float32(k), np.float32(k + h)
            for p in range(TILE):
                z = (total[k + h, p] - total[k, p]) * scale
                more = (abs(z) > abs(state[TOP + p])) & (end <= state[AFTER + p])
                state[TOP + p] = pick(more, z, state[TOP + p])
                state[BOTTOM + p] = pick(more, begin, state[BOTTOM + p])
        length = np.float32(h)
        for p in range(TILE):
            found[2 * i, p], found[2 * i + 1, p] = state[TOP + p], state[BOTTOM + p]
            more = abs(state[TOP + p]) > abs(state[BEST + p])
            state[BEST + p] = pick(more, state[TOP + p], state[BEST + p])
            state[BEST_BEGIN + p] = pick(more, state[BOTTOM + p], state[BEST_BEGIN + p])
            state[BEST_END + p] = pick(more, state[BEST_BEGIN + p] + length, state[BEST_END + p])


@compiled
def largest_step(rows: F32, seen: F32, start: int, fade: F32, state: F32) -> None:
    """Largest standardised step of the level that lasts to the end.

    One-step errors forget a step as the level learns it; with weights 1 / sqrt(m (m-1)) for view m of all, kept in
    ``fade``, their sum from view m + 1 on, times sqrt(m n / (n - m)) for n views in all, is the likelihood ratio of a
    step there.
    """
    state[STEP : STEP_BEGIN + TILE] = 0
    state[SUM : TOP + TILE] = 0
    state[BOTTOM : BOTTOM + TILE] = 1
    state[NUMBER : NUMBER + TILE] = state[AFTER : AFTER + TILE]
    for back in range(fade.shape[0]):
        t = np.uint32(rows.shape[0] - 2 - back)  # an index that might be negative would cost the vector instructions
        row = fade[np.uint32(fade.shape[0] - 1 - back)]
        for p in range(TILE):
            u = ONE / (
                state[VIEWS + p] + state[NUMBER + p] - HALF
            )  # m (m-1) = 1/u^2 - 1/4: a series, to 1e-6 for m > 4
            row[p] = u * (ONE + u * u * (EIGHTH + FORTIETH * u * u))
        for p in range(TILE):
            state[SUM + p] += row[p] * rows[t, p]
            state[NUMBER + p] -= seen[t, p]
            m, left = state[VIEWS + p] + state[NUMBER + p], state[AFTER + p] - state[NUMBER + p]
            gain = state[SUM + p] * state[SUM + p] * m
            more = (gain * state[BOTTOM + p] > state[TOP + p] * left) & (left >= SHORTEST_STEP) & (seen[t, p] > ZERO)
            state[TOP + p] = pick(more, gain, state[TOP + p])
            state[BOTTOM + p] = pick(more, left, state[BOTTOM + p])
            state[STEP + p] = pick(more, state[SUM + p], state[STEP + p])
            state[STEP_BEGIN + p] = pick(more, state[NUMBER + p], state[STEP_BEGIN + p])
    for p in range(TILE):
        m, left = state[VIEWS + p] + state[STEP_BEGIN + p], state[AFTER + p] - state[STEP_BEGIN + p]
        state[STEP + p] *= np.sqrt(m * (m + left) / max(left, ONE))


@compiled
def correlation_without_step(rows: F32, seen: F32, start: int, fade: F32, state: F32) -> None:
    """RHO = correlation of neighbouring residuals and errors, the largest lasting step taken off as it fades."""
    state[SUM : SUM + TILE] = state[CROSS : CROSS + TILE]
    state[HELD : HELD + TILE] = 0
    state[NUMBER : NUMBER + TILE] = 0
    for p in range(TILE):
        m, left = state[VIEWS + p] + state[STEP_BEGIN + p], state[AFTER + p] - state[STEP_BEGIN + p]
        state[SLOPE + p] = state[STEP + p] * np.sqrt(m * (m + left) / max(left, ONE))
    for t in range(start, rows.shape[0] - 1):
        row = fade[t - start]
        for p in range(TILE):
            n = seen[t, p]
            state[NUMBER + p] += n
            change = pick(state[NUMBER + p] > state[STEP_BEGIN + p], state[SLOPE + p] * row[p], ZERO)
            left = (rows[t, p] - change) * n
            state[SUM + p] += left * state[HELD + p]
            state[HELD + p] = pick(n > ZERO, left, state[HELD + p])
    for p in range(TILE):
        squares = state[SIZE + p] + state[SQUARES + p] - state[STEP + p] * state[STEP + p]
        state[RHO + p] = state[SUM + p] / max(squares, TINY)


@compiled
def correlation_without_mean(total: F32, begin: int, end: int, state: F32) -> None:
    """RHO = the smaller of itself and the correlation when a mean is taken off the views ``begin`` + 1 ... ``end``."""
    for p in range(TILE):
        first, last = int(state[begin + p]), int(state[end + p])
        after, before = min(last + 1, int(state[AFTER + p])), max(first - 1, 0)
        state[TOP + p] = total[after, p] - total[min(first + 1, after), p]
        state[TOP + p] += total[max(last - 1, 0), p] - total[before, p]
        state[BOTTOM + p] = total[last, p] - total[first, p]
    for p in range(TILE):
        views = max(state[end + p] - state[begin + p], ONE)
        mean = state[BOTTOM + p] / views
        products = state[CROSS + p] + state[LAG + p] - mean * state[TOP + p] + mean * mean * (views - ONE)
        squares = state[SIZE + p] + state[SQUARES + p] - mean * state[BOTTOM + p]
        rho = products / max(squares, TINY)
        state[RHO + p] = pick(rho < state[RHO + p], rho, state[RHO + p])


@compiled
def noise(best: int, state: F32) -> None:
    """SIGMA of one view, the change in ``best`` taken off, and RHO put right.

    The correlation r that is left without a change is too small, for season and change have been fitted to the noise:
    simulated, about rho / (1 + 16 / n) - 7 / n for n views. That is put right. Uncorrelated noise makes it zero for
    half of the pixels; for the rest the quantiles of ``monitoring_null`` allow, which went through the same.
    """
    for p in range(TILE):
        n = max(state[VIEWS + p] + state[AFTER + p], ONE)
        right = (ONE + SHRINKAGE / n) * (state[RHO + p] + BIAS / n)
        state[RHO + p] = min(max(right, ZERO), LARGEST_CORRELATION)
        squares = state[SIZE + p] + state[SQUARES + p] - state[best + p] * state[best + p]
        state[SIGMA + p] = np.sqrt(max(squares, ZERO) / max(n - COEFFICIENTS - ONE, ONE))
        state[LIMIT + p] = CORRELATION_CLIP * state[SIGMA + p]


@compiled
def variance_of_sum(rho: Any, length: Any) -> Any:
    """Variance of the sum of ``length`` correlated values over that of uncorrelated ones, first-order autoregression.

    1 + 2 sum of (1 - j / h) rho^j over j = 1 ... h - 1, summed up.
    """
    power, square, left = ONE, rho, np.int32(length)
    for _ in range(12):
        power = pick((left & np.int32(1)) > np.int32(0), power * square, power)
        square *= square
        left >>= np.int32(1)
    rest = ONE - rho
    return (ONE + rho) / rest - TWO * rho * (ONE - power) / (length * rest * rest)


@compiled
def choose_window(found: F32, lengths: I32, state: F32) -> None:
    """STATISTIC = largest of the windows' sums, each standardised for correlated views; BEST and its place follow."""
    state[STATISTIC : STATISTIC + TILE] = 0
    for i in range(lengths.size):
        length = np.float32(lengths[i])
        for p in range(TILE):
            z = found[2 * i, p] / np.sqrt(variance_of_sum(state[RHO + p], length))
            more = abs(z) > abs(state[STATISTIC + p])
            state[STATISTIC + p] = pick(more, z, state[STATISTIC + p])
            state[BEST + p] = pick(more, found[2 * i, p], state[BEST + p])
            state[BEST_BEGIN + p] = pick(more, found[2 * i + 1, p], state[BEST_BEGIN + p])
            state[BEST_END + p] = pick(more, state[BEST_BEGIN + p] + length, state[BEST_END + p])


@compiled
def place_of_window(total: F32, state: F32) -> None:
    """BEGIN and END of a spell: the best begin for the end of the best window, or a lasting step that fits better.

    The window that is most unlikely by chance has one of a few lengths; with its end held, its begin is moved to where
    the standardised sum is largest.
    """
    state[TOP : TOP + TILE] = 0
    state[BOTTOM : BOTTOM + TILE] = 1
    for p in range(TILE):
        state[END + p] = state[BEST_END + p]
        state[BEGIN + p] = state[BEST_BEGIN + p]
        state[SUM + p] = total[int(state[END + p]), p]
    for k in range(total.shape[0] - 1):
        at = np.float32(k)
        for p in range(TILE):
            sum_left, views = state[SUM + p] - total[k, p], state[END + p] - at
            gain = sum_left * sum_left
            same = sum_left * state[BEST + p] > ZERO
            more = same & (views > ZERO) & (gain * state[BOTTOM + p] > state[TOP + p] * views)
            state[TOP + p] = pick(more, gain, state[TOP + p])
            state[BOTTOM + p] = pick(more, views, state[BOTTOM + p])
            state[BEGIN + p] = pick(more, at, state[BEGIN + p])
    for p in range(TILE):
        same = state[STEP + p] * state[BEST + p] > ZERO
        step = same & (state[STEP + p] * state[STEP + p] * state[BOTTOM + p] > state[TOP + p])
        state[BEGIN + p] = pick(step, state[STEP_BEGIN + p], state[BEGIN + p])
        state[END + p] = pick(step, state[AFTER + p], state[END + p])


@compiled
def place_of_step(state: F32) -> None:
    """STATISTIC, BEGIN and END of the largest lasting step."""
    for p in range(TILE):
        left = max(state[AFTER + p] - state[STEP_BEGIN + p], ONE)
        state[STATISTIC + p] = state[STEP + p] / np.sqrt(variance_of_sum(state[RHO + p], left))
        state[BEGIN + p] = state[STEP_BEGIN + p]
        state[END + p] = state[AFTER + p]


@compiled
def whiten(rows: F32, seen: F32, start: int, places: U32, total: F32, state: F32) -> None:
    """``total[k]`` = what of a pixel's error k the one before it does not foretell, of the errors' variance."""
    flat = total.reshape(-1)
    total[:] = 0
    state[NUMBER : NUMBER + TILE] = 0
    state[HELD : HELD + TILE] = 0
    for p in range(TILE):
        state[SLOPE + p] = ONE / np.sqrt(ONE - state[RHO + p] * state[RHO + p])
    for t in range(start, rows.shape[0] - 1):
        for p in range(TILE):
            error, n = rows[t, p], seen[t, p]
            scale = pick(state[NUMBER + p] > ZERO, state[SLOPE + p], ONE)
            fresh = (error - state[RHO + p] * state[HELD + p]) * scale
            state[NUMBER + p] += n
            state[SUM + p] = pick(n > ZERO, fresh, state[SUM + p])
            state[HELD + p] = pick(n > ZERO, error, state[HELD + p])
        for p in range(TILE):
            places[p] = np.uint32(np.int32(state[NUMBER + p]) * np.int32(TILE) + np.int32(p))
        for p in range(TILE):
            flat[places[p]] = state[SUM + p]


@compiled
def largest_run(fresh: F32, length: int, state: F32) -> None:
    """STATISTIC = the largest, over rows of ``length`` views on one side, of a row's smallest error; BEGIN too."""
    state[STATISTIC : STATISTIC + TILE] = 0
    state[BEGIN : BEGIN + TILE] = 0
    for k in range(fresh.shape[0] - length):
        at = np.float32(k)
        state[TOP : TOP + TILE] = LARGEST
        state[BOTTOM : BOTTOM + TILE] = -LARGEST
        for j in range(k + 1, k + length + 1):
            for p in range(TILE):
                error = fresh[j, p]  # zero beyond the last view, which is no anomaly
                state[TOP + p] = pick(error < state[TOP + p], error, state[TOP + p])
                state[BOTTOM + p] = pick(error > state[BOTTOM + p], error, state[BOTTOM + p])
        for p in range(TILE):
            size = max(state[TOP + p], ZERO) + min(state[BOTTOM + p], ZERO)
            more = abs(size) > abs(state[STATISTIC + p])
            state[STATISTIC + p] = pick(more, size, state[STATISTIC + p])
            state[BEGIN + p] = pick(more, at, state[BEGIN + p])


@compiled
def end_of_run(first: F32, seen: F32, start: int, state: F32) -> None:
    """END = view up to which the residuals from BEGIN on have the largest standardised sum, with STATISTIC's sign."""
    state[SUM : BOTTOM + TILE] = 0
    state[BOTTOM : BOTTOM + TILE] = 1
    state[NUMBER : NUMBER + TILE] = 0
    state[END : END + TILE] = state[AFTER : AFTER + TILE]
    for t in range(first.shape[0]):
        for p in range(TILE):
            state[NUMBER + p] += seen[start + t, p]
            views = state[NUMBER + p] - state[BEGIN + p]
            on = (seen[start + t, p] > ZERO) & (views > ZERO)
            state[SUM + p] += pick(on, first[t, p], ZERO)
            gain = state[SUM + p] * state[SUM + p]
            more = on & (state[SUM + p] * state[STATISTIC + p] > ZERO)
            more = more & (gain * state[BOTTOM + p] > state[TOP + p] * views)
            state[TOP + p] = pick(more, gain, state[TOP + p])
            state[BOTTOM + p] = pick(more, views, state[BOTTOM + p])
            state[END + p] = pick(more, state[NUMBER + p], state[END + p])


@compiled
def mean_effect(first: F32, seen: F32, waves: F32, start: int, state: F32) -> None:
    """MEAN residual from the season of the reference period over the views BEGIN + 1 ... END, and mean regressors.

    The mean is moved once by the residuals around it, held within LIMIT, so that one cloud does not carry it away.
    """
    state[MEAN : EXTRA + TILE] = 0
    state[NUMBER : NUMBER + TILE] = 0
    for t in range(first.shape[0]):
        c, s = waves[start + t, 0], waves[start + t, 1]
        for p in range(TILE):
            n = seen[start + t, p]
            state[NUMBER + p] += n
            on = pick((state[NUMBER + p] > state[BEGIN + p]) & (state[NUMBER + p] <= state[END + p]), n, ZERO)
            state[COUNT + p] += on
            state[MEAN + p] += on * first[t, p]
            state[MEAN_C + p] += on * c
            state[MEAN_S + p] += on * s
    for p in range(TILE):
        share = ONE / max(state[COUNT + p], ONE)
        state[MEAN + p] *= share
        state[MEAN_C + p] *= share
        state[MEAN_S + p] *= share
        state[NUMBER + p] = 0
    for t in range(first.shape[0]):
        for p in range(TILE):
            n = seen[start + t, p]
            state[NUMBER + p] += n
            on = pick((state[NUMBER + p] > state[BEGIN + p]) & (state[NUMBER + p] <= state[END + p]), n, ZERO)
            state[EXTRA + p] += on * min(max(first[t, p] - state[MEAN + p], -state[LIMIT + p]), state[LIMIT + p])
    for p in range(TILE):
        state[MEAN + p] += state[EXTRA + p] / max(state[COUNT + p], ONE)


@compiled
def sharpen_date(first: F32, seen: F32, start: int, state: F32) -> None:
    """BEGIN = the date at which two levels, 0 and MEAN, divide the residuals up to view END best.

    The errors that found the change are held within a few sigma and forget the old level as they learn the new one; the
    residuals from the season of the reference period do neither. None counts for more than one level against the other.
    """
    state[SUM : SUM + TILE] = 0
    state[TOP : TOP + TILE] = -LARGEST
    state[NUMBER : NUMBER + TILE] = state[AFTER : AFTER + TILE]
    for p in range(TILE):
        state[BOTTOM + p] = HALF * abs(state[MEAN + p])
        state[SLOPE + p] = pick(state[MEAN + p] > ZERO, ONE, -ONE)
    for back in range(first.shape[0]):
        at = first.shape[0] - 1 - back
        t, row = np.uint32(start + at), np.uint32(at)  # an index that might be negative would cost vector instructions
        date = np.float32(start + at)
        for p in range(TILE):
            half, n = state[BOTTOM + p], seen[t, p]
            on = pick(state[NUMBER + p] <= state[END + p], n, ZERO)
            gain = min(max(first[row, p] * state[SLOPE + p] - half, -half), half)
            state[NUMBER + p] -= n
            state[SUM + p] += on * gain
            more = (on > ZERO) & (state[SUM + p] > state[TOP + p])
            state[TOP + p] = pick(more, state[SUM + p], state[TOP + p])
            state[BEGIN + p] = pick(more, date, state[BEGIN + p])


@compiled
def season_variance(state: F32) -> None:
    """EXTRA = x'(X'X)^-1 x of a mean's regressors x: the share of the noise's variance that the season adds to it."""
    for p in range(TILE):
        c, s = state[MEAN_C + p], state[MEAN_S + p]
        g0 = state[KEPT + p] + c * state[KEPT + TILE + p] + s * state[KEPT + 2 * TILE + p]
        g1 = state[KEPT + TILE + p] + c * state[KEPT + 3 * TILE + p] + s * state[KEPT + 4 * TILE + p]
        g2 = state[KEPT + 2 * TILE + p] + c * state[KEPT + 4 * TILE + p] + s * state[KEPT + 5 * TILE + p]
        state[EXTRA + p] = g0 + c * g1 + s * g2


@compiled
def _last_seen(seen: F32, before: int, p: int) -> int:
    """Index of the last date before ``before`` on which the pixel was seen."""
    t = before - 1
    while t > 0 and seen[t, p] == ZERO:
        t -= 1
    return t


@compiled
def _write(
    seen: F32,
    at: int,
    count: int,
    enough: tuple[int, int],
    state: F32,
    out: tuple[F32, F32, F32, I32, I32, I32, I32],
) -> None:
    """Results of a tile; no statistic and no date where views are too few."""
    statistic, effect, effect_se, first, last, n_before, n_after = out
    for p in range(TILE):
        inflation = (ONE + state[RHO + p]) / (ONE - state[RHO + p])
        spread = state[SIGMA + p] * np.sqrt(inflation / max(state[COUNT + p], ONE) + state[EXTRA + p])
        size = state[STATISTIC + p] / max(state[SIGMA + p], TINY)
        least, fewest = np.float32(enough[0]), np.float32(enough[1])
        known = (state[VIEWS + p] >= least) & (state[AFTER + p] >= fewest)
        state[STATISTIC + p] = pick(known, size, NAN)
        state[MEAN + p] = pick(known, state[MEAN + p], NAN)
        state[EXTRA + p] = pick(known, spread, NAN)
    for p in range(count):
        statistic[at + p] = state[STATISTIC + p]
        effect[at + p] = state[MEAN + p]
        effect_se[at + p] = state[EXTRA + p]
        n_before[at + p] = np.int32(state[VIEWS + p])
        n_after[at + p] = np.int32(state[AFTER + p])
    for p in range(count):
        if state[STATISTIC + p] == state[STATISTIC + p]:
            begin = int(state[BEGIN + p])
            first[at + p], last[at + p] = begin, _last_seen(seen, begin, p)


@compiled
def _tile(
    values: F32,
    at: int,
    count: int,
    waves: F32,
    dates: int,
    search: tuple[I32, int],
    numbers: tuple[float, float, float, int, float],
    enough: tuple[int, int],
    work: tuple[F32, F32, F32, F32, F32, F32, F32, U32],
    out: tuple[F32, F32, F32, I32, I32, I32, I32],
) -> None:
    """Monitor the ``count`` pixels from ``at`` on."""
    rows, seen, state, first, total, fade, found, places = work
    windows, run = search
    lasting = windows.size == 0
    load(values, at, count, rows, seen, state)
    fit(rows, seen, waves, dates, numbers, state)
    state[KEPT : KEPT + 6 * TILE] = state[A00 : A22 + TILE]
    first_residuals(rows, seen, waves, dates, state, first)
    prediction_errors(rows, seen, waves, dates, state)

    add_up_errors(rows, seen, dates, places, total, state)
    largest_windows(total, windows, found, state)
    largest_step(rows, seen, dates, fade, state)
    correlation_without_step(rows, seen, dates, fade, state)
    correlation_without_mean(total, STEP_BEGIN, AFTER, state)
    if not lasting:
        correlation_without_mean(total, BEST_BEGIN, BEST_END, state)
    noise(STEP if lasting else BEST, state)
    if run > 0:
        whiten(rows, seen, dates, places, total, state)
        largest_run(total, run, state)
        end_of_run(first, seen, dates, state)
    elif lasting:
        place_of_step(state)
    else:
        choose_window(found, windows, state)
        place_of_window(total, state)

    mean_effect(first, seen, waves, dates, state)
    season_variance(state)
    sharpen_date(first, seen, dates, state)
    _write(seen, at, count, enough, state, out)


@compiled_parallel
def monitor_tiles(
    values: F32,
    waves: F32,
    dates: int,
    search: tuple[I32, int],
    numbers: tuple[float, float, float, int, float],
    enough: tuple[int, int],
    out: tuple[F32, F32, F32, I32, I32, I32, I32],
) -> None:
    """Monitor every pixel of ``values`` float32 (n_dates, n_pixels), NaN = no view.

    ``dates`` of them lie in the reference period. ``waves`` = ``regression.cycles`` of the days. ``search`` = lengths
    of windows in views (none = a lasting step), and the length of a row of views on one side (0 = no such row is
    searched for); ``numbers`` as for ``regression.fit``; ``enough`` = views needed before and after. ``out``, each
    (n_pixels,): statistic, effect, its standard error, index of the first date of the change and of the last view
    before it (-1 = none), numbers of views before and after.
    """
    pixels, high, later = values.shape[1], values.shape[0] + 1, values.shape[0] - dates
    tiles = (pixels + TILE - 1) // TILE
    chunks = min(tiles, CHUNKS)
    for chunk in prange(chunks):
        rows, seen, state = aligned(high, TILE), aligned(high, TILE), aligned(1, SLOTS * TILE)[0]
        first, total, fade = aligned(later, TILE), aligned(later + 1, TILE), aligned(later, TILE)
        found, places = aligned(2 * max(search[0].size, 1), TILE), np.empty(TILE, np.uint32)
        work = (rows, seen, state, first, total, fade, found, places)
        for k in range(chunk * tiles // chunks, (chunk + 1) * tiles // chunks):
            count = min(TILE, pixels - k * TILE)
            _tile(values, k * TILE, count, waves, dates, search, numbers, enough, work, out)

"""Compiled kernels that search a pixel's prediction errors for a change, date it and measure it.

They go on where ``regression`` stops, on the same tiles and the same ``state``; ``monitor_tiles`` runs all of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import prange

from compoundwatch.regression import (
    A00,
    A01,
    A02,
    A11,
    A12,
    A22,
    COEFFICIENTS,
    COSINE,
    F32,
    FREE_SLOT,
    LARGEST,
    LEVEL,
    LIMIT,
    SIGMA,
    SINE,
    SIZE,
    SLOTS,
    TILE,
    TINY,
    VIEWS,
    compiled,
    compiled_parallel,
    fit,
    load,
    prediction_errors,
)

I32 = npt.NDArray[np.int32]

AFTER = FREE_SLOT
"""Number of views after the reference period."""
WINDOW, WINDOW_BEGIN, WINDOW_END = FREE_SLOT + TILE, FREE_SLOT + 2 * TILE, FREE_SLOT + 3 * TILE
"""Largest window: its standardised sum, and the views [begin, end) it holds, counted from the first after."""
STEP, STEP_BEGIN = FREE_SLOT + 4 * TILE, FREE_SLOT + 5 * TILE
"""Largest lasting step: its standardised size and its first view."""
RHO, CROSS, SQUARE, NEIGHBOUR = FREE_SLOT + 6 * TILE, FREE_SLOT + 7 * TILE, FREE_SLOT + 8 * TILE, FREE_SLOT + 9 * TILE
"""Correlation of neighbouring errors, and what it is made of."""
SLOPE, BEGIN, END = FREE_SLOT + 10 * TILE, FREE_SLOT + 11 * TILE, FREE_SLOT + 12 * TILE
"""The change that is taken off, or that is reported: its size, its first view, the view after its last."""
MEAN, COUNT, MEAN_C, MEAN_S, EXTRA = (
    FREE_SLOT + 13 * TILE,
    FREE_SLOT + 14 * TILE,
    FREE_SLOT + 15 * TILE,
    FREE_SLOT + 16 * TILE,
    FREE_SLOT + 17 * TILE,
)
"""Mean residual of the change, its number of views, its mean cosine and sine, the variance the season adds to it."""
LAST = FREE_SLOT + 18 * TILE
"""The last running sum."""
HISTORY_CROSS, HISTORY_SQUARE = FREE_SLOT + 19 * TILE, FREE_SLOT + 20 * TILE
"""As CROSS and SQUARE, over the residuals of the reference period."""

CORRELATION_CLIP = np.float32(2.5)
"""Errors beyond this many standard deviations count as this many when the correlation of neighbours is measured."""
LARGEST_CORRELATION = np.float32(0.8)
STANDARD_ERRORS = np.float32(0.5)
"""By how many of its standard errors a correlation is lowered: white noise shall not look correlated by chance."""
SHORTEST_STEP = 3
"""Views after a lasting step, at least."""
CHUNKS = 64
"""Runs of tiles that threads share out; each has its own arrays, made once: new memory for every tile costs a fifth."""
HALF, ONE = np.float32(0.5), np.float32(1)


@compiled
def first_residuals(rows: F32, seen: F32, waves: F32, start: int, state: F32, out: F32) -> None:
    """Residuals from the season of the reference period, for the dates from ``start`` on."""
    for t in range(out.shape[0]):
        c, s = waves[start + t, 0], waves[start + t, 1]
        for p in range(TILE):
            season = state[LEVEL + p] + c * state[COSINE + p] + s * state[SINE + p]
            out[t, p] = rows[start + t, p] - season * seen[start + t, p]


@compiled
def collect(rows: F32, seen: F32, start: int, state: F32, errors: F32, order: I32) -> None:
    """Close the gaps: errors and their dates by number of view, from 1, instead of by date.

    Every date writes to the place of the next view, which a date without a view leaves to the following one: no branch.
    Places beyond a pixel's number of views, AFTER, are zeroed.
    """
    place = np.ones(TILE, np.int32)
    for t in range(start, start + errors.shape[0] - 1):
        for p in range(TILE):
            errors[place[p], p] = rows[t, p]
            order[place[p], p] = t
        for p in range(TILE):
            place[p] += np.int32(seen[t, p])
    for p in range(TILE):
        state[AFTER + p] = place[p] - 1
    for k in range(errors.shape[0]):
        at = np.float32(k)
        for p in range(TILE):
            errors[k, p] = errors[k, p] if (at >= ONE) & (at <= state[AFTER + p]) else np.float32(0)


@compiled
def running_sums(errors: F32, state: F32, total: F32, fade: F32, faded: F32) -> None:
    """``total[k]`` = sum of the first k errors; ``faded[k]`` = the same with error k times ``fade[k]``.

    ``fade[k]`` = 1 / sqrt(m (m-1)), where m counts the views from the first of all, so m = VIEWS + k.
    """
    total[0, :] = 0
    faded[0, :] = 0
    fade[0, :] = 0
    for k in range(1, errors.shape[0]):
        at = np.float32(k)
        for p in range(TILE):
            m = state[VIEWS + p] + at
            weight = ONE / np.sqrt(max(m * (m - ONE), ONE))
            fade[k, p] = weight
            total[k, p] = total[k - 1, p] + errors[k, p]
            faded[k, p] = faded[k - 1, p] + errors[k, p] * weight


@compiled
def largest_window(total: F32, lengths: I32, state: F32) -> None:
    """Largest standardised sum over windows of ``lengths`` views."""
    state[WINDOW : WINDOW_END + TILE] = 0
    for h in lengths:
        scale = np.float32(1 / np.sqrt(h))
        for k in range(total.shape[0] - h):
            begin, end = np.float32(k), np.float32(k + h)
            for p in range(TILE):
                z = (total[k + h, p] - total[k, p]) * scale
                more = (abs(z) > abs(state[WINDOW + p])) & (end <= state[AFTER + p])
                state[WINDOW + p] = z if more else state[WINDOW + p]
                state[WINDOW_BEGIN + p] = begin if more else state[WINDOW_BEGIN + p]
                state[WINDOW_END + p] = end if more else state[WINDOW_END + p]


@compiled
def largest_step(faded: F32, state: F32) -> None:
    """Largest standardised step of the level that lasts to the end.

    One-step errors forget a step as the level learns it; with weights 1 / sqrt(m (m-1)) their sum is the likelihood
    ratio of a step, whatever the number of views before and after it.
    """
    state[STEP : STEP_BEGIN + TILE] = 0
    for k in range(faded.shape[0] - SHORTEST_STEP):
        begin = np.float32(k)
        for p in range(TILE):
            m, left = state[VIEWS + p] + begin, state[AFTER + p] - begin
            z = (faded[faded.shape[0] - 1, p] - faded[k, p]) * np.sqrt(m * (m + left) / max(left, ONE))
            more = (abs(z) > abs(state[STEP + p])) & (left >= SHORTEST_STEP)
            state[STEP + p] = z if more else state[STEP + p]
            state[STEP_BEGIN + p] = begin if more else state[STEP_BEGIN + p]


@compiled
def pooled_sigma(errors: F32, best: int, state: F32) -> None:
    """SIGMA from the residuals of the reference period (SIZE) and the errors after it, less the change in ``best``."""
    state[SQUARE : SQUARE + TILE] = 0
    for k in range(1, errors.shape[0]):
        for p in range(TILE):
            state[SQUARE + p] += errors[k, p] * errors[k, p]
    for p in range(TILE):
        degrees = max(state[VIEWS + p] + state[AFTER + p] - COEFFICIENTS - ONE, ONE)
        left = state[SIZE + p] + state[SQUARE + p] - state[best + p] * state[best + p]
        state[SIGMA + p] = np.sqrt(max(left, np.float32(0)) / degrees)
        state[LIMIT + p] = CORRELATION_CLIP * state[SIGMA + p]


@compiled
def history_products(rows: F32, seen: F32, dates: int, state: F32) -> None:
    """Products of neighbouring residuals, and squares, over the first ``dates`` dates, held within LIMIT."""
    state[HISTORY_CROSS : HISTORY_SQUARE + TILE] = 0
    state[NEIGHBOUR : NEIGHBOUR + TILE] = 0
    for t in range(dates):
        for p in range(TILE):
            held = min(max(rows[t, p], -state[LIMIT + p]), state[LIMIT + p])
            state[HISTORY_CROSS + p] += held * state[NEIGHBOUR + p]
            state[HISTORY_SQUARE + p] += held * held
            state[NEIGHBOUR + p] = held if seen[t, p] > 0 else state[NEIGHBOUR + p]


@compiled
def correlation(errors: F32, fade: F32, fades: bool, state: F32) -> None:
    """Correlation of neighbouring errors after a change is taken off; RHO keeps the smaller of itself and this.

    The residuals of the reference period are counted in. Taken off is SLOPE over the views [BEGIN, END), times ``fade``
    if it ``fades``. Errors are held within LIMIT, so that clouds do not hide the correlation of the rest.
    """
    state[CROSS : NEIGHBOUR + TILE] = 0
    for k in range(1, errors.shape[0]):
        at = np.float32(k - 1)
        for p in range(TILE):
            size = state[SLOPE + p] * fade[k, p] if fades else state[SLOPE + p]
            left = errors[k, p] - size if (at >= state[BEGIN + p]) & (at < state[END + p]) else errors[k, p]
            held = min(max(left, -state[LIMIT + p]), state[LIMIT + p])
            state[CROSS + p] += held * state[NEIGHBOUR + p]
            state[SQUARE + p] += held * held
            state[NEIGHBOUR + p] = held
    for p in range(TILE):
        cross, square = state[CROSS + p] + state[HISTORY_CROSS + p], state[SQUARE + p] + state[HISTORY_SQUARE + p]
        state[RHO + p] = min(state[RHO + p], cross / max(square, TINY))


@compiled
def noise(rows: F32, seen: F32, dates: int, errors: F32, fade: F32, lasting: bool, state: F32) -> None:
    """SIGMA of one view, and RHO, the correlation of neighbours beyond what white noise shows by chance.

    The correlation is the smaller of those left when the best window and when the best step is taken off, for a change
    must not pass for correlation; less half a standard error, 1 / sqrt(n).
    """
    pooled_sigma(errors, STEP if lasting else WINDOW, state)
    history_products(rows, seen, dates, state)
    for p in range(TILE):
        state[RHO + p] = LARGEST_CORRELATION
        m, n = state[VIEWS + p] + state[STEP_BEGIN + p], state[VIEWS + p] + state[AFTER + p]
        state[SLOPE + p] = state[STEP + p] * np.sqrt(m * n / max(n - m, ONE))
        state[BEGIN + p] = state[STEP_BEGIN + p]
        state[END + p] = state[AFTER + p]
    correlation(errors, fade, True, state)
    if not lasting:
        for p in range(TILE):
            length = max(state[WINDOW_END + p] - state[WINDOW_BEGIN + p], ONE)
            state[SLOPE + p] = state[WINDOW + p] / np.sqrt(length)
            state[BEGIN + p] = state[WINDOW_BEGIN + p]
            state[END + p] = state[WINDOW_END + p]
        correlation(errors, fade, False, state)
    for p in range(TILE):
        n = max(state[VIEWS + p] + state[AFTER + p], ONE)
        state[RHO + p] = max(state[RHO + p] - STANDARD_ERRORS / np.sqrt(n), np.float32(0))


@compiled
def date_of_change(total: F32, lasting: bool, state: F32) -> None:
    """BEGIN and END of the change: the best begin for the end of the best window, or the step where that fits better.

    The window that is most unlikely by chance has one of a few lengths; with its end held, its begin is moved to where
    the standardised sum is largest.
    """
    if not lasting:
        state[SLOPE : SLOPE + TILE] = 0
        for p in range(TILE):
            state[LAST + p] = total[int(state[WINDOW_END + p]), p]
            state[END + p] = state[WINDOW_END + p]
            state[BEGIN + p] = state[WINDOW_BEGIN + p]
        for k in range(total.shape[0] - 1):
            at = np.float32(k)
            for p in range(TILE):
                z = (state[LAST + p] - total[k, p]) / np.sqrt(max(state[END + p] - at, ONE))
                more = (at < state[END + p]) & (abs(z) > abs(state[SLOPE + p])) & (z * state[WINDOW + p] > 0)
                state[SLOPE + p] = z if more else state[SLOPE + p]
                state[BEGIN + p] = at if more else state[BEGIN + p]
    for p in range(TILE):
        same = state[STEP + p] * state[WINDOW + p] > 0
        step = lasting | (same & (abs(state[STEP + p]) > abs(state[SLOPE + p])))
        state[BEGIN + p] = state[STEP_BEGIN + p] if step else state[BEGIN + p]
        state[END + p] = state[AFTER + p] if step else state[END + p]


@compiled
def mean_effect(first: F32, seen: F32, waves: F32, start: int, state: F32) -> None:
    """MEAN residual from the season of the reference period over the dates [BEGIN, END], and mean regressors.

    The mean is moved once by the residuals around it, held within LIMIT, so that one cloud does not carry it away.
    """
    state[MEAN : EXTRA + TILE] = 0
    for t in range(first.shape[0]):
        date, c, s = np.float32(start + t), waves[start + t, 0], waves[start + t, 1]
        for p in range(TILE):
            on = seen[start + t, p] if (date >= state[BEGIN + p]) & (date <= state[END + p]) else np.float32(0)
            state[COUNT + p] += on
            state[MEAN + p] += on * first[t, p]
            state[MEAN_C + p] += on * c
            state[MEAN_S + p] += on * s
    for p in range(TILE):
        n = ONE / max(state[COUNT + p], ONE)
        state[MEAN + p] *= n
        state[MEAN_C + p] *= n
        state[MEAN_S + p] *= n
    for t in range(first.shape[0]):
        date = np.float32(start + t)
        for p in range(TILE):
            on = seen[start + t, p] if (date >= state[BEGIN + p]) & (date <= state[END + p]) else np.float32(0)
            state[EXTRA + p] += on * min(max(first[t, p] - state[MEAN + p], -state[LIMIT + p]), state[LIMIT + p])
    for p in range(TILE):
        state[MEAN + p] += state[EXTRA + p] / max(state[COUNT + p], ONE)


@compiled
def sharpen_date(first: F32, seen: F32, start: int, state: F32) -> None:
    """Move BEGIN, a date, to where two levels, 0 and MEAN, divide the residuals up to END best.

    The errors that found the change are held within a few sigma and forget the old level as they learn the new one; the
    residuals from the season of the reference period do neither. None counts for more than one level against the other.
    """
    state[CROSS : CROSS + TILE] = 0
    state[SQUARE : SQUARE + TILE] = -LARGEST
    for t in range(first.shape[0] - 1, -1, -1):
        date = np.float32(start + t)
        for p in range(TILE):
            half = HALF * abs(state[MEAN + p])
            signed = first[t, p] if state[MEAN + p] > 0 else -first[t, p]
            on = (seen[start + t, p] > 0) & (date <= state[END + p])
            state[CROSS + p] += min(max(signed - half, -half), half) if on else np.float32(0)
            more = on & (state[CROSS + p] > state[SQUARE + p])
            state[SQUARE + p] = state[CROSS + p] if more else state[SQUARE + p]
            state[BEGIN + p] = date if more else state[BEGIN + p]


@compiled
def season_variance(state: F32) -> None:
    """EXTRA = x'(X'X)^-1 x of a mean's regressors x: the share of the noise's variance that the season adds to it.

    Called before the matrix is brought up to date it would need the change's dates, which are not known yet; so it is
    given the matrix of the reference period.
    """
    for p in range(TILE):
        c, s = state[MEAN_C + p], state[MEAN_S + p]
        g0 = state[A00 + p] + c * state[A01 + p] + s * state[A02 + p]
        g1 = state[A01 + p] + c * state[A11 + p] + s * state[A12 + p]
        g2 = state[A02 + p] + c * state[A12 + p] + s * state[A22 + p]
        state[EXTRA + p] = g0 + c * g1 + s * g2


@compiled
def _tile(
    values: F32,
    at: int,
    count: int,
    waves: F32,
    dates: int,
    windows: I32,
    numbers: tuple[float, float, float, int, float],
    enough: tuple[int, int],
    work: tuple[F32, F32, F32, F32, F32, F32, F32, F32, I32],
    out: tuple[F32, F32, F32, I32, I32, I32, I32],
) -> None:
    """Monitor the ``count`` pixels from ``at`` on; no ``windows`` = search for a lasting step only."""
    rows, seen, state, first, errors, total, fade, faded, order = work
    lasting = windows.size == 0
    load(values, at, count, rows, seen, state)
    fit(rows, seen, waves, dates, numbers, state)
    matrix = state[A00 : A22 + TILE].copy()
    first_residuals(rows, seen, waves, dates, state, first)
    prediction_errors(rows, seen, waves, dates, state)

    collect(rows, seen, dates, state, errors, order)
    running_sums(errors, state, total, fade, faded)
    largest_window(total, windows, state)
    largest_step(faded, state)
    noise(rows, seen, dates, errors, fade, lasting, state)
    date_of_change(total, lasting, state)
    for p in range(count):
        state[BEGIN + p], state[END + p] = order[int(state[BEGIN + p]) + 1, p], order[int(state[END + p]), p]
    mean_effect(first, seen, waves, dates, state)
    sharpen_date(first, seen, dates, state)
    for p in range(count):
        begin = int(state[BEGIN + p])
        out[3][at + p], out[4][at + p] = begin, _last_seen(seen, begin, p)
    state[A00 : A22 + TILE] = matrix
    season_variance(state)
    _write(state, at, count, STEP if lasting else WINDOW, enough, out)


@compiled
def _last_seen(seen: F32, before: int, p: int) -> int:
    """Index of the last date before ``before`` on which the pixel was seen."""
    t = before - 1
    while t > 0 and seen[t, p] == 0:
        t -= 1
    return t


@compiled
def _write(
    state: F32,
    at: int,
    count: int,
    best: int,
    enough: tuple[int, int],
    out: tuple[F32, F32, F32, I32, I32, I32, I32],
) -> None:
    """Results of a tile: statistic, effect, its standard error; no result and no date where views are too few."""
    for p in range(count):
        inflation = (ONE + state[RHO + p]) / (ONE - state[RHO + p])
        sigma = state[SIGMA + p]
        out[5][at + p], out[6][at + p] = int(state[VIEWS + p]), int(state[AFTER + p])
        out[0][at + p] = state[best + p] / (sigma * np.sqrt(inflation)) if sigma > 0 else np.float32(0)
        out[1][at + p] = state[MEAN + p]
        out[2][at + p] = sigma * np.sqrt(inflation / max(state[COUNT + p], ONE) + state[EXTRA + p])
        if state[VIEWS + p] < enough[0] or state[AFTER + p] < enough[1]:
            out[0][at + p], out[1][at + p], out[2][at + p] = np.nan, np.nan, np.nan
            out[3][at + p], out[4][at + p] = -1, -1


@compiled_parallel
def monitor_tiles(
    values: F32,
    waves: F32,
    dates: int,
    windows: I32,
    numbers: tuple[float, float, float, int, float],
    enough: tuple[int, int],
    out: tuple[F32, F32, F32, I32, I32, I32, I32],
) -> None:
    """Monitor every pixel of ``values`` float32 (n_dates, n_pixels), NaN = no view.

    ``dates`` of them lie in the reference period. ``waves`` = ``regression.cycles`` of the days; ``windows`` in views;
    ``numbers`` as for ``regression.fit``; ``enough`` = views needed before and after. ``out``, each (n_pixels,):
    statistic, effect, its standard error, index of the first date of the change and of the last view before it (-1 =
    none), numbers of views before and after.
    """
    pixels, high, later = values.shape[1], values.shape[0] + 1, values.shape[0] - dates
    tiles = (pixels + TILE - 1) // TILE
    chunks = min(tiles, CHUNKS)
    for chunk in prange(chunks):
        rows, seen = np.empty((high, TILE), np.float32), np.empty((high, TILE), np.float32)
        state, order = np.zeros(SLOTS * TILE, np.float32), np.zeros((later + 1, TILE), np.int32)
        first, errors = np.empty((later, TILE), np.float32), np.empty((later + 1, TILE), np.float32)
        total, fade, faded = np.empty_like(errors), np.empty_like(errors), np.empty_like(errors)
        work = (rows, seen, state, first, errors, total, fade, faded, order)
        for k in range(chunk * tiles // chunks, (chunk + 1) * tiles // chunks):
            count = min(TILE, pixels - k * TILE)
            _tile(values, k * TILE, count, waves, dates, windows, numbers, enough, work, out)

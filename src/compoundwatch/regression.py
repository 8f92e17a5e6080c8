"""Compiled kernels for the season of pixels: robust fit, then one-step prediction errors.

The season is a level and one yearly harmonic: three coefficients, for which everything has a closed form. Kernels work
on tiles of ``TILE`` pixels held in rows, one row per date, pixels innermost: a tile stays in the processor's cache, and
the inner loops over a constant number of pixels become vector instructions. What belongs to a pixel lies in one flat
float32 array, ``state``, at ``state[NAME + pixel]``: one array instead of twenty spares the compiler the proof that
they do not overlap. A missing view is a zero in ``rows`` and in ``seen``; no NaN enters the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from compoundwatch.formulas import DAYS_PER_YEAR

F32 = npt.NDArray[np.float32]
F = TypeVar("F", bound=Callable[..., Any])

TILE = 256
"""Pixels per tile: 180 dates of them take 0.4 MB, which fits the second-level cache."""
SLOTS = 48
"""Rows of ``state``."""
VIEWS, SUM_C, SUM_S, SUM_C2, SUM_S2 = 0 * TILE, 1 * TILE, 2 * TILE, 3 * TILE, 4 * TILE
"""Number of views in the reference period; sums of cosine and sine of one and of two cycles a year over them."""
XY0, XY1, XY2 = 5 * TILE, 6 * TILE, 7 * TILE
"""X'y."""
A00, A01, A02, A11, A12, A22 = 8 * TILE, 9 * TILE, 10 * TILE, 11 * TILE, 12 * TILE, 13 * TILE
"""(X'X)^-1, symmetric."""
LEVEL, COSINE, SINE = 14 * TILE, 15 * TILE, 16 * TILE
"""Coefficients."""
STEP0, STEP1, STEP2 = 17 * TILE, 18 * TILE, 19 * TILE
"""What the last round of the fit added to them."""
SHIFT, SIGMA, LIMIT, SIZE = 20 * TILE, 21 * TILE, 22 * TILE, 23 * TILE
"""Taken off all values; standard deviation; bound of residuals; sum of absolute or squared residuals."""
FREE_SLOT = 24 * TILE
"""First of the rows that this module does not use."""

COEFFICIENTS = np.float32(3)
LARGEST = np.float32(3e38)
TINY = np.float32(1e-30)
RESOLUTION = np.float32(1e-6)
"""Smallest noise, as a share of the values: below it, float32 cannot tell noise from rounding."""
MEAN_ABSOLUTE_TO_SIGMA = np.float32(np.sqrt(np.pi / 2))


def compiled(function: F) -> F:
    """Compile a kernel at its first call and keep the result on disk.

    NaN and infinity keep their meaning, which the tests for missing values need. A division by zero gives infinity, not
    an exception, without which loops would not become vector instructions.
    """
    liberties = {"contract", "reassoc", "nsz", "arcp"}
    return cast(F, njit(fastmath=liberties, error_model="numpy", cache=True)(function))


def compiled_parallel(function: F) -> F:
    """As ``compiled``, for functions that share their outer loop among threads."""
    liberties = {"contract", "reassoc", "nsz", "arcp"}
    return cast(F, njit(parallel=True, fastmath=liberties, error_model="numpy", cache=True)(function))


@intrinsic
def _bits(context: Any, x: Any) -> Any:
    """The bits of a float32 as int32."""
    return types.int32(types.float32), lambda c, b, s, a: b.bitcast(a[0], ir.IntType(32))


@intrinsic
def _from_bits(context: Any, x: Any) -> Any:
    return types.float32(types.int32), lambda c, b, s, a: b.bitcast(a[0], ir.FloatType())


@compiled
def log32(x: Any) -> Any:
    """Natural logarithm of a positive float32, about 1e-7 exact, in vector instructions (the library's is not).

    x = 2^e (1 + m) with m in -0.29 ... 0.41; log(1 + m) = 2 atanh(m / (2 + m)), of which five terms are enough.
    """
    bits = _bits(x) - np.int32(0x3F3504F3)  # type: ignore[call-arg]
    exponent = np.float32(bits >> np.int32(23))
    m = _from_bits((bits & np.int32(0x7FFFFF)) + np.int32(0x3F3504F3)) - np.float32(1)
    s = m / (m + np.float32(2))
    q = s * s
    series = np.float32(2 / 9)
    series = series * q + np.float32(2 / 7)
    series = series * q + np.float32(2 / 5)
    series = series * q + np.float32(2 / 3)
    return exponent * np.float32(0.6931471805599453) + s * (np.float32(2) + q * series)


def cycles(days: npt.ArrayLike) -> F32:
    """Cosine and sine of one, then of two cycles of 365.25 days, and a row of zeros: float32 (n_dates + 1, 4)."""
    angle = 2 * np.pi * np.asarray(days, dtype=np.float64) / DAYS_PER_YEAR
    columns = [np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)]
    return np.concatenate([np.stack(columns, axis=1), np.zeros((1, 4))]).astype(np.float32)


@compiled
def load(values: F32, at: int, count: int, rows: F32, seen: F32, state: F32) -> None:
    """Copy the ``count`` pixels from ``at`` on into ``rows``, which has one row more than ``values`` has dates.

    Each pixel's first value is taken off, which saves float32 digits.
    """
    rows[values.shape[0]] = 0
    seen[values.shape[0]] = 0
    if count < TILE:
        rows[:] = 0
        seen[:] = 0
    state[SHIFT : SHIFT + TILE] = 0
    for t in range(min(8, values.shape[0]) - 1, -1, -1):
        date = values[t, at : at + count]  # a slice: an index that might be negative would cost the vector instructions
        for p in range(count):
            v = date[p]
            state[SHIFT + p] = v if abs(v) < LARGEST else state[SHIFT + p]
    for t in range(values.shape[0]):
        date = values[t, at : at + count]
        for p in range(count):
            v = date[p]
            ok = abs(v) < LARGEST
            rows[t, p] = v - state[SHIFT + p] if ok else np.float32(0)
            seen[t, p] = np.float32(1) if ok else np.float32(0)


@compiled
def add_up(rows: F32, seen: F32, waves: F32, dates: int, state: F32) -> None:
    """X'X and X'y over the first ``dates`` dates.

    Products of cosine and sine are sums of those of twice the frequency, so that five sums make the six products. Dates
    are taken two at a time, to touch the sums half as often; the last row of all is empty and pairs with an odd one.
    """
    state[VIEWS : XY2 + TILE] = 0
    for t in range(0, dates, 2):
        u = t + 1 if t + 1 < dates else rows.shape[0] - 1
        c, s, c2, s2 = waves[t, 0], waves[t, 1], waves[t, 2], waves[t, 3]
        d, z, d2, z2 = waves[u, 0], waves[u, 1], waves[u, 2], waves[u, 3]
        for p in range(TILE):
            n, y, m, x = seen[t, p], rows[t, p], seen[u, p], rows[u, p]
            state[VIEWS + p] += n + m
            state[SUM_C + p] += c * n + d * m
            state[SUM_S + p] += s * n + z * m
            state[SUM_C2 + p] += c2 * n + d2 * m
            state[SUM_S2 + p] += s2 * n + z2 * m
            state[XY0 + p] += y + x
            state[XY1 + p] += c * y + d * x
            state[XY2 + p] += s * y + z * x


@compiled
def invert(ridge: float, state: F32) -> None:
    """(X'X)^-1 by elimination; ``ridge`` times the number of views keeps a season that was never seen finite."""
    half, one = np.float32(0.5), np.float32(1)
    for p in range(TILE):
        n, c, s = max(state[VIEWS + p], TINY), state[SUM_C + p], state[SUM_S + p]
        c2, s2 = state[SUM_C2 + p], state[SUM_S2 + p]
        first, second = c / n, s / n
        extra = np.float32(ridge) * n
        cc = max(half * (n + c2) + extra - c * first, TINY)
        cs = half * s2 - c * second
        ss = half * (n - c2) + extra - s * second
        turn = cs / cc
        a22 = one / max(ss - cs * turn, TINY)
        a12 = -turn * a22
        a11 = one / cc - turn * a12
        a01 = -(first * a11 + second * a12)
        a02 = -(first * a12 + second * a22)
        state[A00 + p] = one / n - (first * a01 + second * a02)
        state[A01 + p] = a01
        state[A02 + p] = a02
        state[A11 + p] = a11
        state[A12 + p] = a12
        state[A22 + p] = a22


@compiled
def solve_step(state: F32) -> None:
    """Step = (X'X)^-1 X'y, added to the coefficients."""
    for p in range(TILE):
        x, y, z = state[XY0 + p], state[XY1 + p], state[XY2 + p]
        level = state[A00 + p] * x + state[A01 + p] * y + state[A02 + p] * z
        cosine = state[A01 + p] * x + state[A11 + p] * y + state[A12 + p] * z
        sine = state[A02 + p] * x + state[A12 + p] * y + state[A22 + p] * z
        state[STEP0 + p] = level
        state[STEP1 + p] = cosine
        state[STEP2 + p] = sine
        state[LEVEL + p] += level
        state[COSINE + p] += cosine
        state[SINE + p] += sine


@compiled
def residuals(rows: F32, seen: F32, waves: F32, dates: int, squared: bool, state: F32) -> None:
    """Take the last step off the rows; SIZE = sum of their absolutes, or of their squares when held within LIMIT."""
    state[SIZE : SIZE + TILE] = 0
    for t in range(dates):
        c, s = waves[t, 0], waves[t, 1]
        for p in range(TILE):
            season = state[STEP0 + p] + c * state[STEP1 + p] + s * state[STEP2 + p]
            r = rows[t, p] - season * seen[t, p]
            rows[t, p] = r
            held = min(max(r, -state[LIMIT + p]), state[LIMIT + p])
            state[SIZE + p] += held * held if squared else abs(r)


@compiled
def huber_round(rows: F32, seen: F32, waves: F32, dates: int, state: F32) -> None:
    """Take the last step off the rows; X'y and SIZE (squares) of the rows held within LIMIT, the pseudo-values.

    Dates are taken two at a time, as in ``add_up``.
    """
    state[SIZE : SIZE + TILE] = 0
    state[XY0 : XY2 + TILE] = 0
    for t in range(0, dates, 2):
        u = t + 1 if t + 1 < dates else rows.shape[0] - 1
        c, s, d, z = waves[t, 0], waves[t, 1], waves[u, 0], waves[u, 1]
        for p in range(TILE):
            level, cosine, sine = state[STEP0 + p], state[STEP1 + p], state[STEP2 + p]
            x = rows[t, p] - (level + c * cosine + s * sine) * seen[t, p]
            y = rows[u, p] - (level + d * cosine + z * sine) * seen[u, p]
            rows[t, p] = x
            rows[u, p] = y
            x = min(max(x, -state[LIMIT + p]), state[LIMIT + p])
            y = min(max(y, -state[LIMIT + p]), state[LIMIT + p])
            state[SIZE + p] += x * x + y * y
            state[XY0 + p] += x + y
            state[XY1 + p] += c * x + d * y
            state[XY2 + p] += s * x + z * y


@compiled
def fit(
    rows: F32, seen: F32, waves: F32, dates: int, numbers: tuple[float, float, float, int, float], state: F32
) -> None:
    """Season and noise of the first ``dates`` dates by Huber's proposal 2, with pseudo-values.

    Each round moves the coefficients by (X'X)^-1 X' psi(residuals): the matrix stays that of least squares, so one
    inverse serves all rounds (Huber and Dutter 1974; Huber 1981, doi:10.1002/0471725250, chapter 7).

    ``rows`` become residuals. ``numbers`` = ridge; Huber's tuning in sigma and its efficiency E min(z^2, tuning^2);
    rounds (0 = least squares); and the clip in sigma of SIZE, which comes out as the residuals' sum of squares.
    """
    ridge, tuning, efficiency, rounds, clip = numbers
    one = np.float32(1)
    add_up(rows, seen, waves, dates, state)
    invert(ridge, state)
    state[LEVEL : SINE + TILE] = 0
    solve_step(state)
    residuals(rows, seen, waves, dates, False, state)
    for p in range(TILE):  # scale from the mean absolute residual, which outliers move less than the standard deviation
        free, n = max(state[VIEWS + p] - COEFFICIENTS, one), max(state[VIEWS + p], one)
        state[SIGMA + p] = state[SIZE + p] * MEAN_ABSOLUTE_TO_SIGMA / np.sqrt(free * n)
    state[STEP0 : STEP2 + TILE] = 0
    for _ in range(rounds):
        for p in range(TILE):
            state[LIMIT + p] = np.float32(tuning) * state[SIGMA + p]
        huber_round(rows, seen, waves, dates, state)
        solve_step(state)
        for p in range(TILE):
            free = max(state[VIEWS + p] - COEFFICIENTS, one)
            state[SIGMA + p] = np.sqrt(state[SIZE + p] / (np.float32(efficiency) * free))
    for p in range(TILE):
        state[SIGMA + p] = max(state[SIGMA + p], RESOLUTION * abs(state[SHIFT + p]) + TINY)
        state[LIMIT + p] = np.float32(clip) * state[SIGMA + p]
    residuals(rows, seen, waves, dates, True, state)


@compiled
def prediction_errors(rows: F32, seen: F32, waves: F32, start: int, state: F32) -> None:
    """Turn the rows from ``start`` on, but for the empty last one, into standardised one-step prediction errors.

    Each view is predicted from all views before it and its error divided by what that prediction's own uncertainty
    makes of the noise; under "nothing happened" they are independent with one variance, however few views the season
    was fitted on (Brown, Durbin and Evans 1975, doi:10.1111/j.2517-6161.1975.tb01532.x). Errors are held within LIMIT
    before they move the season, as in robust filtering (Masreliez and Martin 1977, doi:10.1109/TAC.1977.1101538).
    Coefficients and (X'X)^-1 are brought up to the last date by recursive least squares.
    """
    one = np.float32(1)
    for t in range(start, rows.shape[0] - 1):
        c, s = waves[t, 0], waves[t, 1]
        for p in range(TILE):
            n = seen[t, p]
            g0 = state[A00 + p] + c * state[A01 + p] + s * state[A02 + p]
            g1 = state[A01 + p] + c * state[A11 + p] + s * state[A12 + p]
            g2 = state[A02 + p] + c * state[A12 + p] + s * state[A22 + p]
            spread = one / np.sqrt(one + g0 + c * g1 + s * g2)
            season = state[LEVEL + p] + c * state[COSINE + p] + s * state[SINE + p]
            error = min(max((rows[t, p] - season) * spread, -state[LIMIT + p]), state[LIMIT + p]) * n
            rows[t, p] = error
            error *= spread
            weight = n * spread * spread
            state[LEVEL + p] += g0 * error
            state[COSINE + p] += g1 * error
            state[SINE + p] += g2 * error
            state[A00 + p] -= g0 * g0 * weight
            state[A01 + p] -= g0 * g1 * weight
            state[A02 + p] -= g0 * g2 * weight
            state[A11 + p] -= g1 * g1 * weight
            state[A12 + p] -= g1 * g2 * weight
            state[A22 + p] -= g2 * g2 * weight

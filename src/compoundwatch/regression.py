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
SLOTS = 52
"""Rows of ``state``."""
VIEWS, SUM_C, SUM_S, SUM_C2, SUM_S2 = 0 * TILE, 1 * TILE, 2 * TILE, 3 * TILE, 4 * TILE
"""Number of views in the reference period; sums of cosine and sine of one and of two cycles a year over them."""
XY0, XY1, XY2 = 5 * TILE, 6 * TILE, 7 * TILE
"""X'y."""
A00, A01, A02, A11, A12, A22 = 8 * TILE, 9 * TILE, 10 * TILE, 11 * TILE, 12 * TILE, 13 * TILE
"""(X'X)^-1, symmetric."""
LEVEL, COSINE, SINE = 14 * TILE, 15 * TILE, 16 * TILE
"""Coefficients."""
SHIFT, SIGMA, LIMIT, SIZE = 17 * TILE, 18 * TILE, 19 * TILE, 20 * TILE
"""Taken off all values; standard deviation; bound of residuals; sum of absolute or squared residuals."""
CROSS, HELD = 21 * TILE, 22 * TILE
"""Sum of the products of neighbouring residuals, or errors; the last one."""
FREE_SLOT = 23 * TILE
"""First of the rows that this module does not use."""

ZERO, ONE = np.float32(0), np.float32(1)
"""Bare numbers would turn every comparison and sum into double precision, of half the speed."""
COEFFICIENTS = np.float32(3)
LARGEST = np.float32(3e38)
TINY = np.float32(1e-30)
RESOLUTION = np.float32(1e-6)
"""Smallest noise, as a share of the values: below it, float32 cannot tell noise from rounding."""
MEAN_ABSOLUTE_TO_SIGMA = np.float32(np.sqrt(np.pi / 2))


def compiled(function: F) -> F:
    """Compile a kernel at its first call and keep the result on disk.

    NaN and infinity keep their meaning, which the tests for missing values need. A division by zero gives infinity, not
    an exception, without which loops would not become vector instructions. No other liberty is taken with arithmetic
    (``fastmath``): numba compiles a kernel alone and again inside its callers, and with liberties the copies may round
    differently, so that a result would hang on whether it was compiled just now or loaded from disk.
    """
    return cast(F, njit(error_model="numpy", cache=True)(function))


def compiled_parallel(function: F) -> F:
    """As ``compiled``, for functions that share their outer loop among threads."""
    return cast(F, njit(parallel=True, error_model="numpy", cache=True)(function))


@intrinsic
def _bits(context: Any, x: Any) -> Any:
    """The bits of a float32 as int32."""
    return types.int32(types.float32), lambda c, b, s, a: b.bitcast(a[0], ir.IntType(32))


@intrinsic
def _from_bits(context: Any, x: Any) -> Any:
    return types.float32(types.int32), lambda c, b, s, a: b.bitcast(a[0], ir.FloatType())


def _pick(context: Any, condition: Any, a: Any, b: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        frozen = ir.instructions.Instruction(builder.block, args[2].type, "freeze", [args[2]])
        builder._insert(frozen)  # the builder has no method of this name
        return builder.select(args[0], args[1], frozen)

    return a(types.boolean, a, a), build


pick = cast(Callable[[Any, Any, Any], Any], intrinsic(_pick))
"""``pick(condition, a, b)`` = ``a`` where the condition holds, else ``b``; both are worked out, no branch is taken.

"x[p] = a if condition else x[p]" would become a store under a mask, which some processors do many times slower than a
plain one. ``freeze``, which costs nothing, keeps the compiler from seeing that ``b`` is what stands in ``x[p]``.
"""


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
            state[SHIFT + p] = pick(abs(v) < LARGEST, v, state[SHIFT + p])
    for t in range(values.shape[0]):
        date = values[t, at : at + count]
        for p in range(count):
            v = date[p]
            ok = abs(v) < LARGEST
            rows[t, p] = pick(ok, v - state[SHIFT + p], ZERO)
            seen[t, p] = pick(ok, ONE, ZERO)


@compiled
def aligned(rows: int, columns: int) -> F32:
    """float32 (rows, columns) that begins where a vector register's worth of memory does; not set to anything.

    A vector that straddles two lines of the cache is loaded at half the speed.
    """
    raw = np.empty(rows * columns + 16, np.float32)
    skip = (-np.int64(raw.ctypes.data) // 4) % 16
    return raw[skip : skip + rows * columns].reshape(rows, columns)


@compiled
def add_up(rows: F32, seen: F32, waves: F32, dates: int, state: F32) -> None:
    """X'X and X'y over the first ``dates`` dates.

    Products of cosine and sine are sums of those of twice the frequency, so that five sums make the six products. Dates
    are taken four at a time, to touch the sums a quarter as often; the last row of all is empty and fills the four up.
    """
    empty = rows.shape[0] - 1
    state[VIEWS : XY2 + TILE] = 0
    for i in range(0, dates, 4):
        j = i + 1 if i + 1 < dates else empty
        k = i + 2 if i + 2 < dates else empty
        m = i + 3 if i + 3 < dates else empty
        ci, si, c2i, s2i = waves[i, 0], waves[i, 1], waves[i, 2], waves[i, 3]
        cj, sj, c2j, s2j = waves[j, 0], waves[j, 1], waves[j, 2], waves[j, 3]
        ck, sk, c2k, s2k = waves[k, 0], waves[k, 1], waves[k, 2], waves[k, 3]
        cm, sm, c2m, s2m = waves[m, 0], waves[m, 1], waves[m, 2], waves[m, 3]
        for p in range(TILE):
            ni, nj, nk, nm = seen[i, p], seen[j, p], seen[k, p], seen[m, p]
            yi, yj, yk, ym = rows[i, p], rows[j, p], rows[k, p], rows[m, p]
            state[VIEWS + p] += (ni + nj) + (nk + nm)
            state[SUM_C + p] += (ci * ni + cj * nj) + (ck * nk + cm * nm)
            state[SUM_S + p] += (si * ni + sj * nj) + (sk * nk + sm * nm)
            state[SUM_C2 + p] += (c2i * ni + c2j * nj) + (c2k * nk + c2m * nm)
            state[SUM_S2 + p] += (s2i * ni + s2j * nj) + (s2k * nk + s2m * nm)
            state[XY0 + p] += (yi + yj) + (yk + ym)
            state[XY1 + p] += (ci * yi + cj * yj) + (ck * yk + cm * ym)
            state[XY2 + p] += (si * yi + sj * yj) + (sk * yk + sm * ym)


@compiled
def invert(ridge: float, state: F32) -> None:
    """(X'X)^-1 by elimination; ``ridge`` times the number of views keeps a season that was never seen finite."""
    half = np.float32(0.5)
    for p in range(TILE):
        n, c, s = max(state[VIEWS + p], TINY), state[SUM_C + p], state[SUM_S + p]
        c2, s2 = state[SUM_C2 + p], state[SUM_S2 + p]
        first, second = c / n, s / n
        extra = np.float32(ridge) * n
        cc = max(half * (n + c2) + extra - c * first, TINY)
        cs = half * s2 - c * second
        ss = half * (n - c2) + extra - s * second
        turn = cs / cc
        a22 = ONE / max(ss - cs * turn, TINY)
        a12 = -turn * a22
        a11 = ONE / cc - turn * a12
        a01 = -(first * a11 + second * a12)
        a02 = -(first * a12 + second * a22)
        state[A00 + p] = ONE / n - (first * a01 + second * a02)
        state[A01 + p] = a01
        state[A02 + p] = a02
        state[A11 + p] = a11
        state[A12 + p] = a12
        state[A22 + p] = a22


@compiled
def solve(state: F32) -> None:
    """(X'X)^-1 X'y, added to the coefficients."""
    for p in range(TILE):
        x, y, z = state[XY0 + p], state[XY1 + p], state[XY2 + p]
        state[LEVEL + p] += state[A00 + p] * x + state[A01 + p] * y + state[A02 + p] * z
        state[COSINE + p] += state[A01 + p] * x + state[A11 + p] * y + state[A12 + p] * z
        state[SINE + p] += state[A02 + p] * x + state[A12 + p] * y + state[A22 + p] * z


@compiled
def absolute_residuals(rows: F32, seen: F32, waves: F32, dates: int, state: F32) -> None:
    """SIZE = sum of the absolute residuals; four dates at a time, as in ``add_up``."""
    empty = rows.shape[0] - 1
    state[SIZE : SIZE + TILE] = 0
    for i in range(0, dates, 4):
        j = i + 1 if i + 1 < dates else empty
        k = i + 2 if i + 2 < dates else empty
        m = i + 3 if i + 3 < dates else empty
        ci, si, cj, sj = waves[i, 0], waves[i, 1], waves[j, 0], waves[j, 1]
        ck, sk, cm, sm = waves[k, 0], waves[k, 1], waves[m, 0], waves[m, 1]
        for p in range(TILE):
            level, c, s = state[LEVEL + p], state[COSINE + p], state[SINE + p]
            ri = (rows[i, p] - (level + ci * c + si * s)) * seen[i, p]
            rj = (rows[j, p] - (level + cj * c + sj * s)) * seen[j, p]
            rk = (rows[k, p] - (level + ck * c + sk * s)) * seen[k, p]
            rm = (rows[m, p] - (level + cm * c + sm * s)) * seen[m, p]
            state[SIZE + p] += (abs(ri) + abs(rj)) + (abs(rk) + abs(rm))


@compiled
def pseudo_values(rows: F32, seen: F32, waves: F32, dates: int, state: F32) -> None:
    """X'y and SIZE (squares) of the residuals held within LIMIT, the pseudo-values; four dates at a time."""
    empty = rows.shape[0] - 1
    state[SIZE : SIZE + TILE] = 0
    state[XY0 : XY2 + TILE] = 0
    for i in range(0, dates, 4):
        j = i + 1 if i + 1 < dates else empty
        k = i + 2 if i + 2 < dates else empty
        m = i + 3 if i + 3 < dates else empty
        ci, si, cj, sj = waves[i, 0], waves[i, 1], waves[j, 0], waves[j, 1]
        ck, sk, cm, sm = waves[k, 0], waves[k, 1], waves[m, 0], waves[m, 1]
        for p in range(TILE):
            level, c, s, limit = state[LEVEL + p], state[COSINE + p], state[SINE + p], state[LIMIT + p]
            ri = (rows[i, p] - (level + ci * c + si * s)) * seen[i, p]
            rj = (rows[j, p] - (level + cj * c + sj * s)) * seen[j, p]
            rk = (rows[k, p] - (level + ck * c + sk * s)) * seen[k, p]
            rm = (rows[m, p] - (level + cm * c + sm * s)) * seen[m, p]
            ri, rj = min(max(ri, -limit), limit), min(max(rj, -limit), limit)
            rk, rm = min(max(rk, -limit), limit), min(max(rm, -limit), limit)
            state[SIZE + p] += (ri * ri + rj * rj) + (rk * rk + rm * rm)
            state[XY0 + p] += (ri + rj) + (rk + rm)
            state[XY1 + p] += (ci * ri + cj * rj) + (ck * rk + cm * rm)
            state[XY2 + p] += (si * ri + sj * rj) + (sk * rk + sm * rm)


@compiled
def held_residuals(rows: F32, seen: F32, waves: F32, dates: int, state: F32) -> None:
    """SIZE = sum of the squares, CROSS = sum of the products of neighbours, of the residuals held within LIMIT."""
    empty = rows.shape[0] - 1
    state[SIZE : SIZE + TILE] = 0
    state[CROSS : HELD + TILE] = 0
    for i in range(0, dates, 2):
        j = i + 1 if i + 1 < dates else empty
        ci, si, cj, sj = waves[i, 0], waves[i, 1], waves[j, 0], waves[j, 1]
        for p in range(TILE):
            level, c, s, limit = state[LEVEL + p], state[COSINE + p], state[SINE + p], state[LIMIT + p]
            ri = (rows[i, p] - (level + ci * c + si * s)) * seen[i, p]
            rj = (rows[j, p] - (level + cj * c + sj * s)) * seen[j, p]
            ri, rj = min(max(ri, -limit), limit), min(max(rj, -limit), limit)
            last = state[HELD + p]
            then = pick(seen[i, p] > ZERO, ri, last)
            state[SIZE + p] += ri * ri + rj * rj
            state[CROSS + p] += ri * last + rj * then
            state[HELD + p] = pick(seen[j, p] > ZERO, rj, then)


@compiled
def fit(
    rows: F32, seen: F32, waves: F32, dates: int, numbers: tuple[float, float, float, int, float], state: F32
) -> None:
    """Season and noise of the first ``dates`` dates by Huber's proposal 2, with pseudo-values.

    Each round moves the coefficients by (X'X)^-1 X' psi(residuals): the matrix stays that of least squares, so one
    inverse serves all rounds (Huber and Dutter 1974; Huber 1981, doi:10.1002/0471725250, chapter 7).

    ``numbers`` = ridge; Huber's tuning in sigma and its efficiency E min(z^2, tuning^2); rounds (0 = least squares);
    and the bound in sigma within which the residuals of SIZE and CROSS are held at the end.
    """
    ridge, tuning, efficiency, rounds, clip = numbers
    add_up(rows, seen, waves, dates, state)
    invert(ridge, state)
    state[LEVEL : SINE + TILE] = 0
    solve(state)
    absolute_residuals(rows, seen, waves, dates, state)
    for p in range(TILE):  # scale from the mean absolute residual, which outliers move less than the standard deviation
        free, n = max(state[VIEWS + p] - COEFFICIENTS, ONE), max(state[VIEWS + p], ONE)
        state[SIGMA + p] = state[SIZE + p] * MEAN_ABSOLUTE_TO_SIGMA / np.sqrt(free * n)
    for _ in range(rounds):
        for p in range(TILE):
            state[LIMIT + p] = np.float32(tuning) * state[SIGMA + p]
        pseudo_values(rows, seen, waves, dates, state)
        solve(state)
        for p in range(TILE):
            free = max(state[VIEWS + p] - COEFFICIENTS, ONE)
            state[SIGMA + p] = np.sqrt(state[SIZE + p] / (np.float32(efficiency) * free))
    for p in range(TILE):
        state[SIGMA + p] = max(state[SIGMA + p], RESOLUTION * abs(state[SHIFT + p]) + TINY)
        state[LIMIT + p] = np.float32(clip) * state[SIGMA + p]
    held_residuals(rows, seen, waves, dates, state)


@compiled
def prediction_errors(rows: F32, seen: F32, waves: F32, start: int, state: F32) -> None:
    """Turn the rows from ``start`` on, but for the empty last one, into standardised one-step prediction errors.

    Each view is predicted from all views before it and its error divided by what that prediction's own uncertainty
    makes of the noise; under "nothing happened" they are independent with one variance, however few views the season
    was fitted on (Brown, Durbin and Evans 1975, doi:10.1111/j.2517-6161.1975.tb01532.x). Errors are held within LIMIT
    before they move the season, as in robust filtering (Masreliez and Martin 1977, doi:10.1109/TAC.1977.1101538).
    Coefficients and (X'X)^-1 are brought up to the last date by recursive least squares.
    """
    for t in range(start, rows.shape[0] - 1):
        c, s = waves[t, 0], waves[t, 1]
        for p in range(TILE):
            n = seen[t, p]
            g0 = state[A00 + p] + c * state[A01 + p] + s * state[A02 + p]
            g1 = state[A01 + p] + c * state[A11 + p] + s * state[A12 + p]
            g2 = state[A02 + p] + c * state[A12 + p] + s * state[A22 + p]
            spread = ONE / np.sqrt(ONE + g0 + c * g1 + s * g2)
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

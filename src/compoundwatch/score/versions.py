"""Does a change of platform or processing move the picture or its level, though nothing changed on the ground?

Terrain corrected radar of one track has been seen to jump by up to two pixels when another platform or another
processing takes over. Everything with an edge then looks as if it had changed. Here such a jump is measured against
the jumps that views of one and the same version show among themselves.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import stats
from scipy.linalg import hadamard

from compoundwatch.formulas import image_shift
from compoundwatch.model import BoolArray, FloatArray, Skipped

Float64 = npt.NDArray[np.float64]

MIN_VIEWS = 4
"""Views that each version needs: fewer cannot be halved and still be means."""
LARGEST_SHIFT_PIXELS = 6.0


@dataclass(frozen=True)
class VersionStep:
    """What changed between two versions of one track.

    ``before`` and ``after`` name the versions, ``day`` is the first day of the later one, ``n_before`` and ``n_after``
    count views. ``shift_x_m`` and ``shift_y_m`` say how much further east and north (metres) the picture lies
    afterwards, ``shift_se_m`` the standard error of each of the two, ``shift_p`` the chance of a shift this long where
    there is none. ``level_step`` is the mean after minus before in the unit of the values, with ``level_se`` and
    ``level_p``; it still holds what the season does. All are None where a version has fewer than MIN_VIEWS views.
    """

    before: str
    after: str
    day: dt.date
    n_before: int
    n_after: int
    shift_x_m: float | None = None
    shift_y_m: float | None = None
    shift_se_m: float | None = None
    shift_p: float | None = None
    level_step: float | None = None
    level_se: float | None = None
    level_p: float | None = None

    @property
    def shift_m(self) -> float | None:
        """Length of the shift in metres, None where it was not measured."""
        if self.shift_x_m is None or self.shift_y_m is None:
            return None
        return float(np.hypot(self.shift_x_m, self.shift_y_m))


MOVED_PIXELS, MOVED_P = 0.3, 0.001
"""A shift this long (pixels), and this improbable without one, makes views of two versions incomparable."""


def without_moved(stack: xr.Dataset, feature: str, pixel_m: float) -> tuple[xr.Dataset, list[Skipped]]:
    """Blank the views whose version lies elsewhere than the first version of their look, and say so.

    Parameters
    ----------
    stack : a stack of a sensor whose scenes are not aligned (contract of ``model.check_stack``).
    feature : name of the feature in decibels that the shift is measured on.
    pixel_m : size of a pixel in metres.
    """
    looks, versions = stack["look"].values, stack["version"].values
    blank = np.zeros(looks.size, dtype=bool)
    told: list[Skipped] = []
    for look in dict.fromkeys(looks.tolist()):
        at = np.flatnonzero(looks == look)
        if len(set(versions[at].tolist())) < 2:
            continue
        for step in version_steps(stack[feature].values[at], stack["day"].values[at], list(versions[at]), pixel_m):
            if step.shift_m is None or step.shift_p is None or step.shift_p >= MOVED_P:
                continue
            if step.shift_m >= MOVED_PIXELS * pixel_m:
                blank[at[versions[at] == step.after]] = True
                reason = (
                    f"from {step.day} on ({step.after} instead of {step.before}) the picture lies {step.shift_m:.1f} m "
                    f"off (error {step.shift_se_m:.1f} m, p {step.shift_p:.1g}); {step.n_after} views are not compared"
                )
                told.append(Skipped(f"{look}: {step.after}", "load", reason))
    if not blank.any():
        return stack, told
    kept = stack.copy()
    for name, layer in stack.data_vars.items():
        if layer.dims == ("time", "y", "x"):
            empty = False if layer.dtype == np.bool_ else np.float32(np.nan)
            kept[name] = (layer.dims, np.where(blank[:, None, None], empty, layer.values))
    return kept, told


def version_steps(
    values: FloatArray,
    days: npt.NDArray[np.int64],
    versions: Sequence[str],
    pixel_m: float,
    level_of: BoolArray | None = None,
) -> tuple[VersionStep, ...]:
    """The step from each version of one track to the one that came next, in the order of their first days.

    Means of the views of either version are laid over one another (``formulas.image_shift``). What such a shift is
    worth is learned within each version, from halves of its views that share nothing: balanced half-samples by the rows
    of a Hadamard matrix (McCarthy 1969, doi:10.2307/1402255), whose shifts are noise only. Length and noise make an F
    with 2 and n - 2 degrees of freedom.

    Parameters
    ----------
    values : float32 (n_dates, rows, cols), decibels of one orbit, direction and polarisation; NaN = no view. The
        surroundings belong to it: a few hundred metres on every side hold the edges that a shift is seen by.
    days : int64 (n_dates,), days since 1970-01-01, sorted.
    versions : text (n_dates,), as the sensor names them.
    pixel_m : size of a pixel in metres; rows run south.
    level_of : bool (rows, cols), True where the level is measured, best on ground known to be unchanged; None =
        everywhere.
    """
    names = np.array(versions, dtype=object)
    order = list(dict.fromkeys(versions))
    where = np.ones(values.shape[1:], dtype=bool) if level_of is None else level_of
    return tuple(_step(values, days, names, a, b, pixel_m, where) for a, b in pairwise(order))


def _step(
    values: FloatArray,
    days: npt.NDArray[np.int64],
    names: npt.NDArray[np.object_],
    before: str,
    after: str,
    pixel_m: float,
    level_of: BoolArray,
) -> VersionStep:
    seen = np.isfinite(values).any(axis=(1, 2))
    a, b = values[seen & (names == before)], values[seen & (names == after)]
    first = dt.date(1970, 1, 1) + dt.timedelta(days=int(days[names == after][0]))
    step = VersionStep(before, after, first, len(a), len(b))
    if min(len(a), len(b)) < MIN_VIEWS:
        return step
    x, y, error, p = _shift(a, b)
    level, level_error, level_p = _level(a[:, level_of], b[:, level_of])
    return replace(
        step,
        shift_x_m=x * pixel_m,
        shift_y_m=-y * pixel_m,
        shift_se_m=error * pixel_m,
        shift_p=p,
        level_step=level,
        level_se=level_error,
        level_p=level_p,
    )


def _shift(a: FloatArray, b: FloatArray) -> tuple[float, float, float, float]:
    """Columns, rows, standard error of each, p-value."""
    found = np.array(image_shift(_mean(a), _mean(b), LARGEST_SHIFT_PIXELS))
    spread = np.concatenate([_noise(a), _noise(b)])
    error = np.sqrt(spread.mean() * (1 / len(a) + 1 / len(b)))
    degrees = len(a) + len(b) - 2
    f = float(np.mean((found / max(error, 1e-9)) ** 2))
    return float(found[0]), float(found[1]), float(error), float(stats.f.sf(f, 2, degrees))


def _noise(views: FloatArray) -> Float64:
    """Squared shifts between halves of the views of one version, as if each half were a single view."""
    size = 1 << (len(views) - 1).bit_length()
    squared = []
    for row in hadamard(size)[1:, : len(views)]:
        one, other = views[row > 0], views[row < 0]
        if min(len(one), len(other)) >= MIN_VIEWS // 2:
            shift = np.array(image_shift(_mean(one), _mean(other), LARGEST_SHIFT_PIXELS))
            squared.append(np.mean(shift**2) / (1 / len(one) + 1 / len(other)))
    return np.array(squared)


def _level(a: FloatArray, b: FloatArray) -> tuple[float | None, float | None, float | None]:
    """Step of the mean over all pixels, its standard error and p-value from the scatter of the dates (Welch)."""
    with np.errstate(invalid="ignore"):
        known = [part[np.isfinite(part).any(axis=1)] for part in (a, b)]
    if min(len(k) for k in known) < MIN_VIEWS:
        return None, None, None
    means = [np.nanmean(k, axis=1).astype(np.float64) for k in known]
    error = float(np.sqrt(sum(np.var(m, ddof=1) / len(m) for m in means)))
    test = stats.ttest_ind(means[1], means[0], equal_var=False)
    return float(means[1].mean() - means[0].mean()), error, float(test.pvalue)


def _mean(views: FloatArray) -> Float64:
    """Mean of the views, NaN where none of them saw the pixel."""
    known = np.isfinite(views)
    count = known.sum(axis=0)
    total = np.where(known, views, 0).sum(axis=0, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

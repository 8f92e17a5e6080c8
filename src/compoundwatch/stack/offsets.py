"""Whether the numbers of a scene mean what its item says, judged by the ground.

A misstated offset makes every pixel of every band wrong by the same known step. Hardly anything on the ground or in
the air does so: cloud and haze add most to dark pixels and to short wavelengths; rain, fire, crops and construction
change some bands or some pixels and not others. The rule: a scene is suspected where the low percentile of one band
lies more than half a step off those of the same season; it is convicted where each of its bands differs by the step
from scenes that are not suspected, on the pixels that both show, evenly over the place, and no further off the step
than those scenes differ from one another. A low percentile below any possible reflectance convicts by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from compoundwatch.model import FloatArray

LOW_PERCENTILE = 5.0
MIN_PIXELS = 200
"""A scene is judged where it shows so many pixels."""
MIN_SCENES, SEASON_SHARE = 10, 0.25
"""The season of a scene: this share of all scenes, and at least so many, nearest to it in the year."""
WITNESSES, MIN_WITNESSES = 5, 2
"""Scenes that are not suspected, with which a suspected one is compared."""
YEAR_DAYS = 365.25
SUSPECTED, MINORITY, IMPOSSIBLE = 1 / 2, 1 / 4, 1 / 3
"""Parts of a step by which a level must lie off its season, off all scenes, or below zero."""
TOLERANCE, CHANGEABLE, MOST_CHANGEABLE = 0.2, 2.0, 0.75
"""How far, in steps, the difference may lie off one step: in each band by TOLERANCE and CHANGEABLE standard deviations
among the witnesses, though by no more than MOST_CHANGEABLE; on average over bands, weighted by that, by TOLERANCE."""
SPREAD_TOLERANCE = 0.35
"""Largest robust standard deviation of the difference over the pixels of the evenest band, in steps."""


def level(values: FloatArray) -> float:
    """Low percentile of the pixels that may be used (not NaN); NaN where they are too few."""
    known = values[np.isfinite(values)]
    return float(np.percentile(known, LOW_PERCENTILE)) if known.size >= MIN_PIXELS else float("nan")


def impossible(levels: FloatArray, step: float) -> npt.NDArray[np.bool_]:
    """Which levels are too far below zero for any ground."""
    return np.asarray(np.nan_to_num(levels, nan=0.0) < -IMPOSSIBLE * step)


def suspected(levels: FloatArray, days: npt.NDArray[np.int64], step: float, whole_year: bool = False) -> list[int]:
    """Indices of scenes whose level lies off that of their season.

    Parameters
    ----------
    levels : of each scene, NaN = not known.
    days : of each scene, since 1970-01-01.
    step : what a misstated offset adds or takes.
    whole_year : also those that lie off the level of all scenes.
    """
    known = np.flatnonzero(np.isfinite(levels))
    if known.size < 2:
        return []
    size = max(MIN_SCENES, round(SEASON_SHARE * known.size))
    found = []
    for k in known:
        others = known[known != k]
        season = others[np.argsort(_apart(days[others], days[k]), kind="stable")][:size]
        off = abs(levels[k] - np.median(levels[season]))
        if whole_year:
            off = max(off, abs(levels[k] - np.median(levels[known])))
        if off > SUSPECTED * step:
            found.append(int(k))
    return found


def minority(levels: FloatArray, scene: int, sign: int, step: float) -> bool:
    """Whether a scene lies off the level of all scenes the way it is said to be wrong.

    Where most scenes of one season are wrong, it is the right ones that lie off their season.
    """
    return bool(sign * (levels[scene] - np.nanmedian(levels)) > MINORITY * step)


def witnesses(scene: int, days: npt.NDArray[np.int64], able: Sequence[int]) -> list[int]:
    """The scenes to compare one with: nearest to it in the year, then in time."""
    order = sorted(able, key=lambda k: (_apart(days[k], days[scene]) + 0.05 * abs(days[k] - days[scene]), k))
    return order[:WITNESSES]


def _apart(days: npt.NDArray[np.int64], day: int) -> FloatArray:
    """Days between places in the year."""
    gap = np.abs(days - day) % YEAR_DAYS
    return np.asarray(np.minimum(gap, YEAR_DAYS - gap))


def misstated(scene: Mapping[str, FloatArray], others: Sequence[Mapping[str, FloatArray]], step: float) -> int:
    """Whether a scene differs from others as a misstated offset would make it: +1 too bright, -1 too dark, 0 no.

    Parameters
    ----------
    scene, others : each band's reflectance float32 (rows, cols), NaN = not usable.
    step : what a misstated offset adds or takes.
    """
    compared = [c for c in (_compared(scene, other, step) for other in others) if c is not None]
    if len(compared) < MIN_WITNESSES:
        return 0
    differences, spreads = np.array(compared).transpose(1, 0, 2)
    difference, spread = np.median(differences, axis=0), np.median(spreads, axis=0)
    tolerance = TOLERANCE + np.minimum(CHANGEABLE * differences.std(axis=0), MOST_CHANGEABLE)
    sign = 1 if np.sum(difference / tolerance**2) > 0 else -1
    off = sign * difference - 1
    mean = np.sum(off / tolerance**2) / np.sum(1 / tolerance**2)
    fits = abs(mean) <= TOLERANCE and bool(np.all(np.abs(off) <= tolerance))
    return sign if fits and spread.min() <= SPREAD_TOLERANCE else 0


def _compared(
    scene: Mapping[str, FloatArray], other: Mapping[str, FloatArray], step: float
) -> tuple[list[float], list[float]] | None:
    """Median and robust standard deviation of the difference in each band, in steps; None = too little in common."""
    middles, spreads = [], []
    for band, values in scene.items():
        common = np.isfinite(values) & np.isfinite(other[band])
        if common.sum() < MIN_PIXELS:
            return None
        difference = (values[common] - other[band][common]) / np.float32(step)
        middles.append(float(np.median(difference)))
        spreads.append(1.4826 * float(np.median(np.abs(difference - middles[-1]))))
    return middles, spreads

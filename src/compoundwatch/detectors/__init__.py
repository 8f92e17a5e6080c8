"""Change detectors: this folder is their register, one file each; here they are listed and mapped over a stack.

The significance level and the direction are applied here, the same way for all series detectors.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.stats import norm

from compoundwatch import images, plugins
from compoundwatch.errors import SettingsError
from compoundwatch.formulas import linear_power, stouffer
from compoundwatch.model import FloatArray, PairDetector, PixelChange, SeriesDetector

__all__ = ["available", "change_map", "choose_pair", "combine", "pair_detector", "series_detector", "suits"]


def available() -> dict[str, Any]:
    """All detectors by name, those of other installed packages included."""
    return plugins.find(sys.modules[__name__], "DETECTOR", "compoundwatch.detectors")


def series_detector(name: str) -> SeriesDetector:
    """The series detector of this name.

    Raises
    ------
    SettingsError : there is none; the message lists those there are.
    """
    return _pick(name, "series")  # type: ignore[no-any-return]


def pair_detector(name: str) -> PairDetector:
    """The pair detector of this name.

    Raises
    ------
    SettingsError : there is none; the message lists those there are.
    """
    return _pick(name, "pair")  # type: ignore[no-any-return]


SPECKLE = 0.06
"""Noise of the logarithm per pixel in the quietest places of the quietest band that parts radar from optical images.

Radar has 0.5 / root of looks in amplitude and twice that in intensity; optical images, measured in 38 pairs of Landsat
and Sentinel-2, 0.001-0.035. Between two thirds and one and a half of it the answer is in doubt.
"""
RADAR_NAMES = re.compile(
    r"(?<![a-z0-9])(vv|vh|hh|hv|sar|rtc|grdh?|s1[a-d]?|sentinel-?1[a-d]?|(sigma|gamma|beta)_?0|alos-?2?|palsar-?2?|"
    r"radarsat-?\d?|terrasar-?x?|tandem-?x|cosmo|iceye|capella|nisar)(?![a-z0-9])",
    re.IGNORECASE,
)
OPTICAL_NAMES = re.compile(
    r"(?<![a-z0-9])(b0[1-9]|b1[0-2]|b8a|red|green|blue|nir|swir-?\d?|rededge-?\d?|msi\w*|oli|s2[a-c]?|sentinel-?2[a-c]?|"
    r"l[ceto]0[4-9]|landsat-?\d?|spot-?\d|pleiades|planet\w*|worldview-?\d|modis)(?![a-z0-9])",
    re.IGNORECASE,
)
"""Words of file names, band names and tags that tell a sensor; single letters and numbers tell nothing."""


def choose_pair(before: FloatArray, after: FloatArray, names: Sequence[str] = ()) -> tuple[str, str]:
    """The pair detector that suits two images, and one sentence of why, which says so where it is in doubt.

    What is looked at, in this order: names that tell a radar or an optical sensor; decibels; whether the noise
    multiplies, as speckle does, or is fine in at least one band, as in optical images; the number of bands.

    Parameters
    ----------
    before, after : float32 (bands, rows, cols), NaN = no view.
    names : what the files say of themselves: file names, names of bands, platform, polarisation.
    """
    bands = min(before.shape[0], after.shape[0])
    said = " ".join(names)
    radar, optical = RADAR_NAMES.search(said), OPTICAL_NAMES.search(said)
    count = "one band" if bands == 1 else f"{bands} bands"
    if radar and not optical:
        return (
            "log_ratio",
            f"{count}; the name '{radar[0]}' tells radar, whose speckle multiplies, so that ratios compare",
        )
    levels = [np.nanmedian(x) if np.isfinite(x).any() else np.nan for pair in (before, after) for x in pair]
    negative = [v for v in levels if v < 0]
    if negative and _decibels(before) and _decibels(after):
        return "log_ratio", f"{count} of negative numbers as decibels have, hence taken for radar"
    noise = [images.ratio_noise(a, b) for a, b in zip(before, after, strict=False)]
    known = [n for n in noise if n[0] > 0]
    advice = "name the detector if that is wrong"
    if negative or not known:
        if negative or bands > 2:
            told = "with negative numbers that are no decibels " if negative else ""
            return "irmad", f"{count} {told}taken for optical, in doubt, since noise could not be measured; {advice}"
        return "log_ratio", f"{count} taken for radar, in doubt, since noise could not be measured; {advice}"
    quiet, slope = min(known)
    speckled = quiet > SPECKLE and not slope < -0.6
    measured = f"the quietest places vary by {quiet:.1%} from pixel to pixel"
    if optical and not radar:
        doubt = f"; in doubt, since {measured}, as with speckle; {advice}" if speckled else ""
        return "irmad", f"{count}; the name '{optical[0]}' tells optical{doubt}"
    doubt = f", in doubt; {advice}" if 1 / 1.5 < quiet / SPECKLE < 1.5 else ""
    if speckled:
        return "log_ratio", f"{count}; {measured}, as with speckle: taken for radar, where ratios compare{doubt}"
    if bands <= 2 and not doubt:
        doubt = f"; radar freed from speckle looks the same: {advice}"
    return "irmad", f"{count}; {measured}, without speckle: taken for optical{doubt}"


def _decibels(image: FloatArray) -> bool:
    """Whether all bands of an image (bands, rows, cols) lie as backscatter in decibels does.

    Most of it between -60 and 30 and below -1 in the middle, over a range that no index of two bands has.
    """
    low, middle, high = np.nanquantile(image, (0.01, 0.5, 0.99)) if np.isfinite(image).any() else (0.0, 0.0, 0.0)
    return bool(low > -60 and middle < -1 and high < 30 and high - low > 1)


def _pick(name: str, kind: str) -> Any:
    choices = {n: d for n, d in available().items() if d.kind == kind}
    if name not in choices:
        raise SettingsError(f"there is no {kind} detector '{name}'; choose one of {', '.join(choices)}")
    return choices[name]


def suits(detector: SeriesDetector, unit: str) -> bool:
    """Whether a detector can test a feature of this unit: some need intensities, which decibels can be turned into."""
    return detector.unit is None or unit in (detector.unit, "dB")


def change_map(
    values: FloatArray,
    days: npt.NDArray[np.int64],
    looks: npt.NDArray[Any],
    reference_end: int,
    detector: SeriesDetector,
    alpha: float,
    unit: str = "1",
) -> xr.Dataset:
    """Test every pixel of a series of images, each look apart, and combine the looks.

    Parameters
    ----------
    values : float32 (time, rows, cols), NaN = no view.
    days : int64 (time,), days since 1970-01-01, sorted.
    looks : text (time,), the viewing geometry of each date; only equal ones are compared.
    reference_end : first day (since 1970-01-01) that may hold a change.
    detector : the test.
    alpha : false-alarm rate per pixel, 0-1.
    unit : unit of the values; decibels become linear power for a detector that needs it.

    Returns
    -------
    Dataset with the variables of ``model.CHANGE_VARIABLES`` on dims (y, x); dates only where there is a direction.
    """
    shape = values.shape[1:]
    if detector.unit == "linear power" and unit == "dB":
        values = linear_power(values)
    flat = values.reshape(values.shape[0], -1)
    found = []
    for look in dict.fromkeys(looks.tolist()):
        at = np.flatnonzero(looks == look)
        found.append(detector.test(flat[at] if at.size < flat.shape[0] else flat, days[at], reference_end))
    return as_change_map(found[0] if len(found) == 1 else combine(found), shape, alpha)


def combine(found: Sequence[PixelChange]) -> PixelChange:
    """One answer from several looks at the same pixels: signed z of all looks that could test, added up.

    See ``formulas.stouffer``: looks that contradict one another cancel. ``effect`` is the mean weighted by 1/se²; the
    dates are those of the look that says most in the direction of the whole.

    Parameters
    ----------
    found : one PixelChange per look, all of the same pixels.

    Returns
    -------
    PixelChange whose ``statistic`` is z. The p-value supposes that the looks' noise is independent.
    """
    p = np.stack([np.asarray(f.p_value, dtype=np.float64) for f in found])
    sign = np.sign(np.stack([f.statistic for f in found]))
    tested = np.isfinite(p)
    z = np.where(tested, norm.isf(np.clip(p, 1e-300, 1) / 2) * sign, np.nan)
    whole = stouffer(z)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(tested, 1 / np.stack([f.effect_se for f in found]).astype(np.float64) ** 2, 0.0)
        weight = np.where(np.isfinite(weight), weight, 0.0)
        effects = np.nan_to_num(np.stack([f.effect for f in found]))
        effect = (weight * effects).sum(axis=0) / weight.sum(axis=0)
        error = 1 / np.sqrt(weight.sum(axis=0))
    most = np.argmax(np.where(tested, z * np.sign(whole), -np.inf), axis=0)

    def of_most(name: str) -> FloatArray:
        return np.take_along_axis(np.stack([getattr(f, name) for f in found]), most[None], axis=0)[0]  # type: ignore[no-any-return]

    return PixelChange(
        statistic=whole.astype(np.float32),
        p_value=(2 * norm.sf(np.abs(whole))).astype(np.float32),
        effect=effect.astype(np.float32),
        effect_se=error.astype(np.float32),
        day=of_most("day"),
        day_earliest=of_most("day_earliest"),
        day_latest=of_most("day_latest"),
        n_before=np.sum([f.n_before for f in found], axis=0, dtype=np.int32),
        n_after=np.sum([f.n_after for f in found], axis=0, dtype=np.int32),
    )


def as_change_map(found: PixelChange, shape: tuple[int, ...], alpha: float) -> xr.Dataset:
    """Give per-pixel results their place and apply the significance level."""
    changed = np.less(found.p_value, alpha, where=np.isfinite(found.p_value), out=np.zeros(found.p_value.shape, bool))
    direction = np.where(changed, np.sign(found.statistic), 0).astype(np.int8)
    layers: dict[str, npt.NDArray[Any]] = {
        "statistic": found.statistic.astype(np.float32),
        "p_value": found.p_value.astype(np.float32),
        "effect": found.effect.astype(np.float32),
        "effect_se": found.effect_se.astype(np.float32),
        "direction": direction,
        "n_before": found.n_before.astype(np.int32),
        "n_after": found.n_after.astype(np.int32),
    }
    for name, day in (("date", found.day), ("date_earliest", found.day_earliest), ("date_latest", found.day_latest)):
        layers[name] = _dates(np.where(direction != 0, day, np.nan))
    return xr.Dataset({name: (("y", "x"), layer.reshape(shape)) for name, layer in layers.items()})


def _dates(days: FloatArray) -> npt.NDArray[np.datetime64]:
    dates = np.full(days.shape, np.datetime64("NaT"), dtype="datetime64[s]")
    known = np.isfinite(days)
    dates[known] = days[known].astype(np.int64).astype("datetime64[D]")
    return dates

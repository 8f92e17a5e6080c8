"""Change detectors: this folder is their register, one file each; here they are listed and mapped over a stack.

The significance level and the direction are applied here, the same way for all series detectors.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from compoundwatch import plugins
from compoundwatch.errors import SettingsError
from compoundwatch.model import FloatArray, PairDetector, PixelChange, SeriesDetector

__all__ = ["available", "change_map", "choose_pair", "pair_detector", "series_detector"]


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


def choose_pair(before: FloatArray, after: FloatArray) -> tuple[str, str]:
    """The pair detector that suits two images (bands, rows, cols), and one sentence of why.

    Radar has one or two bands (polarisations) and optical images more; the number of bands is all that is looked at.
    """
    bands = min(before.shape[0], after.shape[0])
    if bands <= 2:
        number = "one band is" if bands == 1 else f"{bands} bands are"
        return "log_ratio", f"{number} taken for radar, whose speckle multiplies, so that ratios compare"
    return "irmad", f"{bands} bands are taken for optical, where each band is measured against the unchanged pixels"


def _pick(name: str, kind: str) -> Any:
    choices = {n: d for n, d in available().items() if d.kind == kind}
    if name not in choices:
        raise SettingsError(f"there is no {kind} detector '{name}'; choose one of {', '.join(choices)}")
    return choices[name]


def change_map(
    values: FloatArray,
    days: npt.NDArray[np.int64],
    reference_end: int,
    detector: SeriesDetector,
    alpha: float,
) -> xr.Dataset:
    """Test every pixel of a series of images.

    Parameters
    ----------
    values : float32 (time, rows, cols), NaN = no view.
    days : int64 (time,), days since 1970-01-01, sorted.
    reference_end : first day (since 1970-01-01) that may hold a change.
    detector : the test.
    alpha : false-alarm rate per pixel, 0-1.

    Returns
    -------
    Dataset with the variables of ``model.CHANGE_VARIABLES`` on dims (y, x).
    """
    shape = values.shape[1:]
    found = detector.test(values.reshape(values.shape[0], -1), days, reference_end)
    return as_change_map(found, shape, alpha)


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
        layers[name] = _dates(day)
    return xr.Dataset({name: (("y", "x"), layer.reshape(shape)) for name, layer in layers.items()})


def _dates(days: FloatArray) -> npt.NDArray[np.datetime64]:
    dates = np.full(days.shape, np.datetime64("NaT"), dtype="datetime64[s]")
    known = np.isfinite(days)
    dates[known] = days[known].astype(np.int64).astype("datetime64[D]")
    return dates

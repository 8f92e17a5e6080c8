"""From pixels to site series: a few numbers per date that a whole site can be judged by.

For each feature of the sensor: its plain mean (for charts) and its mean anomaly from the usual season (``_anomaly``).
For each restless feature also how much of the site shows a *persistent* anomaly upwards and downwards (``_up``,
``_down``), and from all of them together: ``activity``, how much the site's pixels change from one view to the next,
which falls when yards and roads fall still. Views of different looks are never compared with one another.

Sums are kept per tile and added up, so a site of any size is judged without holding it whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from compoundwatch.formulas import huber_season
from compoundwatch.model import SERIES_COLUMNS, BoolArray, Feature, FloatArray, check_series

ACTIVITY = "activity"
NANOSECONDS_PER_DAY = 86_400_000_000_000
PARTNERS = 4
"""Number of following views that a persistent anomaly must last through."""
CLIP = 5.0
"""Standardised residuals are clipped here: a cloud that the mask missed must not outweigh a site."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sums:
    """Counts, sums and sums of squares of one measurement per date, each float64 (n_dates,)."""

    count: Float64
    total: Float64
    square: Float64

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.count + other.count, self.total + other.total, self.square + other.square)

    @staticmethod
    def none(n_dates: int) -> Sums:
        """Nothing measured on any date."""
        return Sums(*(np.zeros(n_dates) for _ in range(3)))

    def into(self, whole: Sums, at: npt.NDArray[np.intp]) -> None:
        """Write these dates to the places ``at`` (dates,) of a longer series."""
        whole.count[at], whole.total[at], whole.square[at] = self.count, self.total, self.square


@dataclass(frozen=True)
class TileSeries:
    """What one tile adds to the series of its site: ``days`` int64 (n_dates,) and sums per measurement."""

    days: npt.NDArray[np.int64]
    scene_ids: tuple[str, ...]
    looks: tuple[str, ...]
    n_pixels: int
    n_valid: Float64
    sums: dict[str, Sums]


def tile_series(
    stack: xr.Dataset, features: Sequence[Feature], mask: BoolArray, reference_end: int, min_valid_fraction: float
) -> TileSeries:
    """Measure the pixels of a site in one tile.

    Parameters
    ----------
    stack : a stack (contract of ``model.check_stack``).
    features : the features of the sensor.
    mask : bool (rows, cols), True inside the site.
    reference_end : first day (since 1970-01-01) that may hold a change.
    min_valid_fraction : share of the pixels that must be usable for a date to be compared with others.
    """
    days = stack["day"].values.astype(np.int64)
    n_pixels = int(mask.sum())
    valid = stack["valid"].values[:, mask]
    usable = valid.mean(axis=1) >= min_valid_fraction if n_pixels else np.zeros(len(days), dtype=bool)
    scene_ids, looks = tuple(stack["scene_id"].values), tuple(stack["look"].values)
    sums: dict[str, Sums] = {}
    for look in dict.fromkeys(looks):
        at = np.flatnonzero([other == look for other in looks])
        own = _look_sums(stack, features, mask, at, days[at], usable[at], reference_end)
        for name, part in own.items():
            part.into(sums.setdefault(name, Sums.none(len(days))), at)
    return TileSeries(days, scene_ids, looks, n_pixels, valid.sum(axis=1).astype(np.float64), sums)


def _look_sums(
    stack: xr.Dataset,
    features: Sequence[Feature],
    mask: BoolArray,
    at: npt.NDArray[np.intp],
    days: npt.NDArray[np.int64],
    usable: BoolArray,
    reference_end: int,
) -> dict[str, Sums]:
    """Sums of every measurement over the dates ``at`` of one look."""
    sums: dict[str, Sums] = {}
    squared: list[Float64] = []
    for feature in features:
        name = feature.name
        values = stack[name].values[at][:, mask]
        sums[name] = _sums(values, np.ones(len(days), dtype=bool))
        residual, sigma = huber_season(values, days, reference_end)
        anomaly, z = _standardise(residual, sigma, usable)
        sums[f"{name}_anomaly"] = _sums(anomaly, usable)
        if feature.restless:
            up, down = _persistent(z, usable)
            sums[f"{name}_up"], sums[f"{name}_down"] = _sums(up, usable), _sums(down, usable)
            squared.append(_steps(z, usable))
    if squared:
        sums[ACTIVITY] = _sums(np.mean(squared, axis=0), usable)
    return sums


def _standardise(residual: FloatArray, sigma: FloatArray, usable: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Anomalies clipped at 3 robust standard deviations, and standardised residuals without the scene's median."""
    with np.errstate(invalid="ignore"), _no_empty_slices():
        centre = np.nanmedian(residual, axis=1, keepdims=True)
        scale = np.maximum(sigma, 0.5 * np.nanmedian(sigma))
    centre[~usable] = np.nan
    anomaly = np.clip(residual, centre - 3 * scale, centre + 3 * scale)
    return anomaly, np.clip((residual - centre) / scale, -CLIP, CLIP)


def _persistent(z: FloatArray, usable: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Product of each residual with the mean of the next few, apart for positive and negative means.

    Independent noise has mean zero here (a U-statistic), so a lasting change of a few pixels stands out.
    """
    up, down = np.full_like(z, np.nan), np.full_like(z, np.nan)
    dates = np.flatnonzero(usable)
    for k, date in enumerate(dates):
        partners = z[dates[k + 1 : k + 1 + PARTNERS]]
        if len(partners) < 2:
            break
        with _no_empty_slices():
            mean = np.nanmean(partners, axis=0)
        product = z[date] * mean
        known = np.isfinite(product)
        up[date] = np.where(known, np.where(mean > 0, product, 0), np.nan)
        down[date] = np.where(known, np.where(mean < 0, product, 0), np.nan)
    return up, down


def _steps(z: FloatArray, usable: BoolArray) -> Float64:
    """Squared change since the last usable view, stored at the later date; NaN where either is missing."""
    squared = np.full(z.shape, np.nan)
    dates = np.flatnonzero(usable)
    squared[dates[1:]] = np.minimum((z[dates[1:]] - z[dates[:-1]]) ** 2, 16.0)
    return squared


def _sums(values: FloatArray, usable: BoolArray) -> Sums:
    known = np.isfinite(values) & usable[:, None]
    clean = np.where(known, values, 0.0).astype(np.float64)
    return Sums(known.sum(axis=1).astype(np.float64), clean.sum(axis=1), (clean**2).sum(axis=1))


def site_series(site_id: str, sensor: str, tiles: Iterable[TileSeries]) -> pd.DataFrame:
    """Add up the tiles of a site: a table with the columns of ``model.SERIES_COLUMNS``.

    ``value`` is NaN on a date without enough usable pixels; ``activity`` is the natural logarithm of the mean squared
    change between consecutive views, in units of each pixel's usual variance.
    """
    parts = [t for t in tiles if t.n_pixels]
    if not parts:
        return pd.DataFrame({c: pd.Series(dtype=t) for c, t in SERIES_COLUMNS.items()})
    first = parts[0]
    n_pixels = sum(t.n_pixels for t in parts)
    n_valid = np.sum([t.n_valid for t in parts], axis=0)
    frames = []
    for name in first.sums:
        total = first.sums[name]
        for part in parts[1:]:
            total = total + part.sums[name]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(total.count > 0, total.total / total.count, np.nan)
            spread = np.sqrt(np.maximum(total.square / total.count - mean**2, 0))
            value = np.log(mean) if name == ACTIVITY else mean
        frames.append(
            pd.DataFrame(
                {
                    "site_id": site_id,
                    "sensor": sensor,
                    "feature": name,
                    "look": list(first.looks),
                    "scene_id": list(first.scene_ids),
                    "acquired": pd.to_datetime(first.days, unit="D", utc=True).as_unit("ns"),
                    "value": np.where(np.isfinite(value), value, np.nan),
                    "spread": spread,
                    "valid_fraction": n_valid / n_pixels,
                    "n_valid": total.count.astype(np.int64),
                }
            )
        )
    series = pd.concat(frames, ignore_index=True)
    check_series(series)
    return series


def usable_days(series: pd.DataFrame, min_valid_fraction: float) -> Sequence[int]:
    """Days (since 1970-01-01) on which enough of the site was seen, sorted."""
    seen = series.loc[series["valid_fraction"] >= min_valid_fraction, "acquired"]
    return sorted(set(day_numbers(seen).tolist()))


def day_numbers(acquired: pd.Series) -> pd.Series:
    """Days since 1970-01-01 (int64) of times in UTC with nanoseconds."""
    return acquired.astype("int64") // NANOSECONDS_PER_DAY


@contextmanager
def _no_empty_slices() -> Iterator[None]:
    """All-NaN columns are pixels without a view; numpy's warning about them is no news."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(Mean of empty slice|All-NaN slice)", RuntimeWarning)
        yield

"""What lies between a satellite of the day and the ground: the sun's place, clouds and their shadows."""

from __future__ import annotations

import datetime as dt

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from compoundwatch.simulate.climate import day_number, rainy
from compoundwatch.simulate.fields import Float32, cloudy_field

LATITUDE = 9.0
CLOUDY_DRY, CLOUDY_WET = 0.28, 0.77
"""Chance that a date is fully or mostly cloudy, at the height of the dry and of the wet season."""
SCATTERED = 0.5
"""Chance that one of the other dates has scattered clouds; the rest is clear."""
SEEN_FROM, THICK_FROM = 0.12, 0.70
"""Opacity from which a pixel counts as cloud, and from which quality bands never miss it."""
SHADOW_FROM = 0.12
"""Loss of light from which a pixel counts as shadowed."""


def sun(date: dt.date, solar_hour: float) -> tuple[float, float]:
    """Elevation above the horizon and azimuth from north of the sun at a local solar time, degrees (Cooper 1969)."""
    declination = np.radians(23.45) * np.sin(2 * np.pi * (284 + date.timetuple().tm_yday) / 365)
    hour, latitude = np.radians(15 * (solar_hour - 12)), np.radians(LATITUDE)
    up = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(hour)
    east = -np.cos(declination) * np.sin(hour)
    north = np.cos(latitude) * np.sin(declination) - np.sin(latitude) * np.cos(declination) * np.cos(hour)
    return float(np.degrees(np.arcsin(up))), float(np.degrees(np.arctan2(east, north)) % 360)


def cover(date: dt.date, rng: np.random.Generator, cloudiness: float = 1.0) -> float:
    """Share of the sky under cloud on a date, 0 to 1: mostly cloudy often in the wet season, seldom in the dry.

    ``cloudiness`` multiplies the odds of a mostly cloudy date.
    """
    wet = float(rainy(np.array([day_number(date)]))[0])
    kind, size = rng.random(), rng.random()
    cloudy = CLOUDY_DRY + (CLOUDY_WET - CLOUDY_DRY) * wet
    if cloudiness != 1.0:
        cloudy = cloudiness * cloudy / (1 + (cloudiness - 1) * cloudy)
    if kind < 0.7 * cloudy:
        return 1.0
    if kind < cloudy:
        return float(0.65 + 0.3 * size)
    if kind < cloudy + SCATTERED * (1 - cloudy):
        return float(0.03 + 0.3 * size**1.5)
    return 0.0


def clouds(
    rng: np.random.Generator,
    shape: tuple[int, int],
    share: float,
    elevation: float,
    azimuth: float,
    pixel_m: float = 10.0,
) -> tuple[Float32, Float32, bool]:
    """Opacity and shadow float32 ``shape``, 0 to 1, of clouds over a share of the sky; and whether they are cirrus."""
    cirrus = bool(rng.random() < 0.15)
    height = rng.uniform(600, 2200) if not cirrus else rng.uniform(7000, 11000)
    field = cloudy_field(rng, shape, 4.2 if cirrus else 3.5, largest=900 / pixel_m if share < 0.6 else None)
    if share <= 0:
        empty = np.zeros(shape, dtype=np.float32)
        return empty, empty.copy(), False
    level = float(np.quantile(field, 1 - share)) if share < 1 else float(field.min()) - 0.6
    depth = np.maximum(field - level, 0) * (0.5 if cirrus else 3.0)
    opacity = (1 - np.exp(-depth)).astype(np.float32)
    reach = height / np.tan(np.radians(elevation)) / pixel_m  # in pixels, away from the sun
    down, right = np.cos(np.radians(azimuth)) * reach, -np.sin(np.radians(azimuth)) * reach
    cast = np.roll(opacity, (round(down), round(right)), axis=(0, 1))  # the field is periodic, so the sky goes on
    return opacity, (gaussian_filter(cast, 10.0 / pixel_m) * (1 - opacity)).astype(np.float32), cirrus


def lowest(field: Float32, where: npt.NDArray[np.bool_], share: float) -> npt.NDArray[np.bool_]:
    """The ``share`` of the True pixels of ``where`` with the lowest values of a field: they come in clumps."""
    if not where.any():
        return where
    return np.asarray(where & (field < np.quantile(field[where], share)))


def share_of(part: npt.NDArray[np.bool_], whole: npt.NDArray[np.bool_]) -> float | None:
    """How much of a mask another one is (None = the mask is empty)."""
    return float(part.sum() / whole.sum()) if whole.any() else None

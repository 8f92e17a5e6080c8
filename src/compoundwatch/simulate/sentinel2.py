"""How Sentinel-2 sees the ground: sun, haze, clouds and their shadows, small misregistration, noise, and the SCL.

What is imitated: each scene lies up to half a pixel off; the short-wave infrared comes at 20 m; haze that nobody flags
brightens the blue most; scenes differ by a few per cent in gain; and the scene classification misses part of thin
cloud and of cloud shadow.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from compoundwatch.simulate.climate import rainy
from compoundwatch.simulate.fields import Float32, block_mean, cloudy_field, displaced
from compoundwatch.simulate.materials import BANDS

LATITUDE = 9.0
LOCAL_SOLAR_HOUR = 10.4
"""Local solar time of an acquisition, about 03:30 UTC at 103 degrees east."""

SHIFT_SD, SHIFT_MAX = 0.25, 0.5
"""Misregistration per axis in pixels of 10 m; ESA reports better than 8 m at 95 % (Data Quality Report)."""
NOISE = 0.003
"""Noise of one pixel, as reflectance: instrument and atmospheric correction together."""
GAIN_SD, BAND_GAIN_SD, PLATFORM_GAIN = 0.015, 0.004, 0.004
HAZE_SD = 0.010
HAZE_COLOUR = np.array([1.0, 0.55, 0.28, 0.10, 0.03], dtype=np.float32)
CLOUD_COLOUR = np.array([0.62, 0.60, 0.60, 0.62, 0.42], dtype=np.float32)
SHADOW_DEPTH = np.array([0.40, 0.45, 0.50, 0.55, 0.58], dtype=np.float32)
"""Share of the light that the shadow of a thick cloud takes."""

CLOUDY_DRY, CLOUDY_WET = 0.28, 0.77
"""Chance that a date is fully or mostly cloudy, at the height of the dry and of the wet season."""
SCATTERED = 0.5
"""Chance that one of the other dates has scattered clouds; the rest is clear."""

MISSED_CLOUD, MISSED_SHADOW = 0.15, 0.30
"""Share of thin and medium cloud, and of shadow, that the scene classification takes for clear ground."""
SEEN_FROM, THICK_FROM = 0.12, 0.70
"""Opacity from which a pixel counts as cloud, and from which the classification never misses it."""
SHADOW_FROM = 0.12
"""Loss of light from which a pixel counts as shadowed."""

NODATA, DARK, SHADOW, VEGETATION, BARE, WATER, UNCLASSIFIED, MEDIUM, HIGH, CIRRUS = 0, 2, 3, 4, 5, 6, 7, 8, 9, 10
"""Codes of the scene classification (SCL)."""


@dataclass(frozen=True)
class Scene:
    """One look of Sentinel-2 at the region.

    ``bands`` name -> reflectance float32, (rows, cols) at 10 m, or half of both for ``swir16`` at 20 m. ``scl`` uint8
    at 20 m. ``shift`` (down, right) in pixels of 10 m: how far the picture lies from where it should. ``opacity`` and
    ``shadow`` float32 (rows, cols), 0 to 1, are the truth about the sky. ``missed_cloud`` and ``missed_shadow`` are the
    shares of the 20 m pixels under cloud or shadow that SCL calls clear (None = there was none).
    """

    bands: dict[str, Float32]
    scl: npt.NDArray[np.uint8]
    shift: tuple[float, float]
    opacity: Float32
    shadow: Float32
    missed_cloud: float | None
    missed_shadow: float | None
    sun_elevation: float
    sun_azimuth: float

    @property
    def cloud_percent(self) -> float:
        """Share of the pixels that SCL calls cloud or cirrus, 0 to 100."""
        return 100 * float(np.isin(self.scl, (MEDIUM, HIGH, CIRRUS)).mean())


def sun(date: dt.date) -> tuple[float, float]:
    """Elevation above the horizon and azimuth from north of the sun at an acquisition, degrees (Cooper 1969)."""
    declination = np.radians(23.45) * np.sin(2 * np.pi * (284 + date.timetuple().tm_yday) / 365)
    hour, latitude = np.radians(15 * (LOCAL_SOLAR_HOUR - 12)), np.radians(LATITUDE)
    up = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(hour)
    east = -np.cos(declination) * np.sin(hour)
    north = np.cos(latitude) * np.sin(declination) - np.sin(latitude) * np.cos(declination) * np.cos(hour)
    return float(np.degrees(np.arcsin(up))), float(np.degrees(np.arctan2(east, north)) % 360)


def look(
    ground: Float32, date: dt.date, platform: str, rng: np.random.Generator, cloud_share: float | None = None
) -> Scene:
    """Look at the ground on a date.

    Parameters
    ----------
    ground : surface reflectance float32 (5, rows, cols), rows and cols even.
    platform : "A" or "B".
    cloud_share : share of the sky under cloud, 0 to 1; None = drawn from the season.
    """
    shape = (ground.shape[1], ground.shape[2])
    elevation, azimuth = sun(date)
    share = sky(date, rng) if cloud_share is None else cloud_share
    opacity, shadow, cirrus = clouds(rng, shape, share, elevation, azimuth)
    shift = np.clip(rng.normal(0, SHIFT_SD, 2), -SHIFT_MAX, SHIFT_MAX)
    seen = np.stack([displaced(band, *shift) for band in ground])
    gain = (1 + rng.normal(0, GAIN_SD)) * (1 + rng.normal(0, BAND_GAIN_SD, 5)) * (1 + PLATFORM_GAIN * (platform == "B"))
    haze = abs(rng.normal(0, HAZE_SD)) * np.exp(0.5 * cloudy_field(rng, shape, 3.5)) + 0.06 * gaussian_filter(
        opacity, 6
    )
    white = 1 + 0.08 * cloudy_field(rng, shape, 3.6, largest=80)
    for b in range(5):
        lit = seen[b] * gain[b] * (1 - SHADOW_DEPTH[b] * shadow) + haze * HAZE_COLOUR[b]
        seen[b] = lit * (1 - opacity) + opacity * CLOUD_COLOUR[b] * (0.75 + 0.35 * opacity) * white
    bands = {name: seen[b] for b, name in enumerate(BANDS)}
    bands["swir16"] = block_mean(bands["swir16"], 2)
    bands = {name: v + NOISE * rng.standard_normal(v.shape, dtype=np.float32) for name, v in bands.items()}
    scl, missed_cloud, missed_shadow = classify(rng, bands, opacity, shadow, cirrus)
    return Scene(
        bands, scl, (float(shift[0]), float(shift[1])), opacity, shadow, missed_cloud, missed_shadow, elevation, azimuth
    )


def sky(date: dt.date, rng: np.random.Generator) -> float:
    """Share of the sky under cloud on a date, 0 to 1: mostly cloudy often in the wet season, seldom in the dry."""
    wet = float(rainy(np.array([(date - dt.date(1970, 1, 1)).days]))[0])
    kind, size = rng.random(), rng.random()
    cloudy = CLOUDY_DRY + (CLOUDY_WET - CLOUDY_DRY) * wet
    if kind < 0.7 * cloudy:
        return 1.0
    if kind < cloudy:
        return float(0.65 + 0.3 * size)
    if kind < cloudy + SCATTERED * (1 - cloudy):
        return float(0.03 + 0.3 * size**1.5)
    return 0.0


def clouds(
    rng: np.random.Generator, shape: tuple[int, int], share: float, elevation: float, azimuth: float
) -> tuple[Float32, Float32, bool]:
    """Opacity and shadow float32 ``shape``, 0 to 1, of clouds over a share of the sky; and whether they are cirrus."""
    cirrus = bool(rng.random() < 0.15)
    height = rng.uniform(600, 2200) if not cirrus else rng.uniform(7000, 11000)
    field = cloudy_field(rng, shape, 4.2 if cirrus else 3.5, largest=90 if share < 0.6 else None)
    if share <= 0:
        empty = np.zeros(shape, dtype=np.float32)
        return empty, empty.copy(), False
    level = float(np.quantile(field, 1 - share)) if share < 1 else float(field.min()) - 0.6
    depth = np.maximum(field - level, 0) * (0.5 if cirrus else 3.0)
    opacity = (1 - np.exp(-depth)).astype(np.float32)
    reach = height / np.tan(np.radians(elevation)) / 10  # in pixels, away from the sun
    down, right = np.cos(np.radians(azimuth)) * reach, -np.sin(np.radians(azimuth)) * reach
    cast = np.roll(opacity, (round(down), round(right)), axis=(0, 1))  # the field is periodic, so the sky goes on
    return opacity, (gaussian_filter(cast, 1.0) * (1 - opacity)).astype(np.float32), cirrus


def classify(
    rng: np.random.Generator, bands: dict[str, Float32], opacity: Float32, shadow: Float32, cirrus: bool
) -> tuple[npt.NDArray[np.uint8], float | None, float | None]:
    """Scene classification at 20 m, and the shares of cloud and of shadow that it misses (None = there was none)."""
    red, nir, green = (block_mean(bands[name], 2) for name in ("red", "nir", "green"))
    swir = bands["swir16"]
    cloud, shade = block_mean(opacity, 2), block_mean(shadow, 2)
    ndvi = (nir - red) / np.maximum(nir + red, 0.01)
    doubt = cloudy_field(rng, swir.shape, 2.4, largest=30)
    scl = np.where(ndvi > 0.42 + 0.04 * doubt, VEGETATION, BARE).astype(np.uint8)
    scl[(ndvi > 0.33) & (ndvi < 0.42) & (doubt > 1.2)] = UNCLASSIFIED
    scl[(green > nir) & (swir < 0.07)] = WATER
    scl[(nir < 0.11) & (green < 0.06) & (swir < 0.08) & (scl != WATER)] = DARK
    is_cloud, is_shadow = cloud > SEEN_FROM, (shade > SHADOW_FROM) & (cloud <= SEEN_FROM)
    thin = is_cloud & (cloud < THICK_FROM)
    miss_cloud, miss_shadow = _lowest(doubt, thin, MISSED_CLOUD), _lowest(-doubt, is_shadow, MISSED_SHADOW)
    scl[is_shadow & ~miss_shadow] = SHADOW
    kinds = np.where(cloud > 0.55, HIGH, np.where(cirrus | (cloud < 0.25), CIRRUS, MEDIUM))
    flagged = is_cloud & ~miss_cloud
    scl[flagged] = kinds[flagged]
    return scl, _share(miss_cloud, is_cloud), _share(miss_shadow, is_shadow)


def _lowest(field: Float32, where: npt.NDArray[np.bool_], share: float) -> npt.NDArray[np.bool_]:
    """The ``share`` of the True pixels of ``where`` with the lowest values of a field: they come in clumps."""
    if not where.any():
        return where
    return np.asarray(where & (field < np.quantile(field[where], share)))


def _share(part: npt.NDArray[np.bool_], whole: npt.NDArray[np.bool_]) -> float | None:
    return float(part.sum() / whole.sum()) if whole.any() else None

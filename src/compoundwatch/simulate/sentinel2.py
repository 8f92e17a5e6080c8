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

from compoundwatch.simulate import sky
from compoundwatch.simulate.conditions import DESCRIBED, Conditions
from compoundwatch.simulate.fields import Float32, block_mean, cloudy_field, displaced
from compoundwatch.simulate.materials import BANDS
from compoundwatch.simulate.sky import SEEN_FROM, SHADOW_FROM, THICK_FROM

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

MISSED_CLOUD, MISSED_SHADOW = 0.15, 0.30
"""Share of thin and medium cloud, and of shadow, that the scene classification takes for clear ground."""
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


def look(
    ground: Float32,
    date: dt.date,
    platform: str,
    rng: np.random.Generator,
    cloud_share: float | None = None,
    conditions: Conditions = DESCRIBED,
) -> Scene:
    """Look at the ground on a date.

    Parameters
    ----------
    ground : surface reflectance float32 (5, rows, cols), rows and cols even.
    platform : "A" or "B".
    cloud_share : share of the sky under cloud, 0 to 1; None = drawn from the season.
    conditions : how noisy and cloudy the world is.
    """
    shape = (ground.shape[1], ground.shape[2])
    noisy = conditions.noise
    elevation, azimuth = sky.sun(date, LOCAL_SOLAR_HOUR)
    share = sky.cover(date, rng, conditions.cloudiness) if cloud_share is None else cloud_share
    opacity, shadow, cirrus = sky.clouds(rng, shape, share, elevation, azimuth)
    shift = np.clip(rng.normal(0, SHIFT_SD * noisy, 2), -SHIFT_MAX, SHIFT_MAX)
    seen = np.stack([displaced(band, *shift) for band in ground])
    gain = (1 + rng.normal(0, GAIN_SD * noisy)) * (1 + rng.normal(0, BAND_GAIN_SD * noisy, 5))
    gain *= 1 + PLATFORM_GAIN * (platform == "B")
    haze = abs(rng.normal(0, HAZE_SD * conditions.haze)) * np.exp(
        0.5 * cloudy_field(rng, shape, 3.5)
    ) + 0.06 * gaussian_filter(opacity, 6)
    white = 1 + 0.08 * cloudy_field(rng, shape, 3.6, largest=80)
    for b in range(5):
        lit = seen[b] * gain[b] * (1 - SHADOW_DEPTH[b] * shadow) + haze * HAZE_COLOUR[b]
        seen[b] = lit * (1 - opacity) + opacity * CLOUD_COLOUR[b] * (0.75 + 0.35 * opacity) * white
    bands = {name: seen[b] for b, name in enumerate(BANDS)}
    bands["swir16"] = block_mean(bands["swir16"], 2)
    bands = {
        name: v + np.float32(NOISE * noisy) * rng.standard_normal(v.shape, dtype=np.float32)
        for name, v in bands.items()
    }
    scl, missed_cloud, missed_shadow = classify(rng, bands, opacity, shadow, cirrus, conditions.missed)
    return Scene(
        bands, scl, (float(shift[0]), float(shift[1])), opacity, shadow, missed_cloud, missed_shadow, elevation, azimuth
    )


def classify(
    rng: np.random.Generator,
    bands: dict[str, Float32],
    opacity: Float32,
    shadow: Float32,
    cirrus: bool,
    missed: float = 1.0,
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
    miss_cloud, miss_shadow = (
        sky.lowest(doubt, thin, MISSED_CLOUD * missed),
        sky.lowest(-doubt, is_shadow, MISSED_SHADOW * missed),
    )
    scl[is_shadow & ~miss_shadow] = SHADOW
    kinds = np.where(cloud > 0.55, HIGH, np.where(cirrus | (cloud < 0.25), CIRRUS, MEDIUM))
    flagged = is_cloud & ~miss_cloud
    scl[flagged] = kinds[flagged]
    return scl, sky.share_of(miss_cloud, is_cloud), sky.share_of(miss_shadow, is_shadow)

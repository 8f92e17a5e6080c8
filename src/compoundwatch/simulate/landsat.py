"""How Landsat sees the ground: reflectance and surface temperature at 30 m, clouds of its own, and the quality bits.

Pixels of 30 m are means of what lies under them, blurred as the instruments blur it; they do not begin where those of
Sentinel-2 do. The temperature comes at 100 m, is resampled, and follows season, weather, surface and rain; that busy
places are warmer is an assumption, and a weak one: nobody has shown it for such places (docs/simulator.md).
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation
from scipy.special import ndtr

from compoundwatch.grid import Grid
from compoundwatch.simulate import sky
from compoundwatch.simulate.climate import day_number
from compoundwatch.simulate.fields import Float32, cloudy_field, wander
from compoundwatch.simulate.layout import FACTOR, draw
from compoundwatch.simulate.materials import BANDS, Material
from compoundwatch.simulate.sky import SEEN_FROM, SHADOW_FROM, THICK_FROM
from compoundwatch.simulate.world import Ground, World

PIXEL_M, EDGE_M = 30.0, 15.0
"""Size of a pixel, and what is left of its edges' coordinates after division by it: centres are whole multiples."""
LOCAL_SOLAR_HOUR = 10.2
OPTICAL_SIGMA_M, THERMAL_SIGMA_M = 9.0, 42.0
"""Blur beyond the pixel's own square; that of the temperature belongs to 100 m between half powers."""
SHIFT_SD_M, SHIFT_MAX_M = 4.0, 12.0
"""Misregistration per axis; USGS keeps Tier 1 within 12 m."""
NOISE, GAIN_SD, BAND_GAIN_SD = 0.002, 0.015, 0.004
BAND_FACTOR = np.array([1.01, 1.00, 0.99, 1.01, 1.00], dtype=np.float32)
"""What the bands see against those of Sentinel-2, whose filters differ a little."""
HAZE_SD = 0.010
HAZE_COLOUR = np.array([1.0, 0.55, 0.28, 0.08, 0.03], dtype=np.float32)
CLOUD_COLOUR = np.array([0.62, 0.60, 0.60, 0.62, 0.42], dtype=np.float32)
SHADOW_DEPTH = np.array([0.40, 0.45, 0.50, 0.55, 0.58], dtype=np.float32)

MEAN_K, SEASON_K, HOTTEST_DAY, WEATHER_K, WEATHER_DAYS = 299.0, 3.0, 105, 1.5, 8.0
"""Temperature of shaded ground at 10:15: mean, season, day of the year of its top, and weather (sd, memory)."""
SURFACE_K = {
    Material.SOIL: 8.0, Material.CONCRETE: 6.0, Material.ASPHALT: 8.0, Material.GRASS: 5.0, Material.TREES: -1.0,
    Material.FIELD: 6.0, Material.FALLOW: 7.0, Material.WATER: -2.0,
}  # fmt: skip
"""How much warmer a dry surface is than that."""
ROOF_K, RUBBLE_K, ROOF_SPREAD_K = 7.0, 7.0, 2.5
WET_K = {Material.SOIL: -6.0, Material.CONCRETE: -2.0, Material.ASPHALT: -2.0, Material.FALLOW: -4.0}
GREEN_K = {Material.GRASS: -4.0, Material.TREES: -1.0, Material.FALLOW: -4.0, Material.FIELD: -5.0}
"""What soaked ground, and full green, take."""
BUSY_K = 0.8
"""What a busy place adds on a usual day: an assumption."""
RETRIEVAL_K, THERMAL_NOISE_K, CLOUD_K, CIRRUS_K, SHADOW_K = 0.8, 0.2, 285.0, 265.0, 4.0

MISSED_CLOUD, MISSED_SHADOW = 0.15, 0.30
"""Share of thin and medium cloud, and of shadow, that the quality bits call clear."""
RIM_PIXELS = 3
FILL, RIM, CIRRUS, CLOUD, SHADOW, CLEAR, WATER = 1, 2, 4, 8, 16, 64, 128
LOW = 1 << 8 | 1 << 10 | 1 << 12 | 1 << 14
"""Bits of QA_PIXEL (USGS, LSDS-1328): low confidence of cloud, shadow, snow and cirrus; three of a pair means high."""
HIGH_CLOUD, HIGH_SHADOW, HIGH_CIRRUS = 3 << 8, 3 << 10, 3 << 14


@dataclass(frozen=True)
class LandsatScene:
    """One look of Landsat at the region, on its own grid of 30 m.

    ``bands`` name -> reflectance float32 (rows, cols); ``kelvin`` the surface temperature; ``quality`` uint16, the
    words of QA_PIXEL. ``shift_m`` (down, right) is how far the picture lies from where it should. ``opacity`` and
    ``shadow`` float32 are the truth about the sky; ``missed_cloud`` and ``missed_shadow`` the shares of the pixels
    under cloud or shadow that the quality bits call clear (None = there was none).
    """

    bands: dict[str, Float32]
    kelvin: Float32
    quality: npt.NDArray[np.uint16]
    shift_m: tuple[float, float]
    opacity: Float32
    shadow: Float32
    missed_cloud: float | None
    missed_shadow: float | None
    sun_elevation: float
    sun_azimuth: float


class Landsat:
    """Looks of Landsat at a world.

    Parameters
    ----------
    grid : the region's grid of 10 m.
    rng : source of the weather that only temperature shows, and of how warm each roof is.
    """

    def __init__(self, world: World, grid: Grid, rng: np.random.Generator) -> None:
        self.world = world
        left = math.ceil((grid.left - EDGE_M) / PIXEL_M) * PIXEL_M + EDGE_M
        top = math.floor((grid.top - EDGE_M) / PIXEL_M) * PIXEL_M + EDGE_M
        _, bottom, right, _ = grid.bounds
        self.grid = Grid(grid.epsg, left, top, PIXEL_M, int((top - bottom) // PIXEL_M), int((right - left) // PIXEL_M))
        self.offset_m = (grid.top - top, left - grid.left)
        self.pixel_m = grid.pixel_m
        n_days = world.weather.regional.size
        self.weather_k = wander(rng, (n_days,), WEATHER_K, WEATHER_DAYS)
        self.roof_k = ROOF_K + ROOF_SPREAD_K * cloudy_field(rng, world.shape, 1.0, largest=10)
        fine = (world.shape[0] * FACTOR, world.shape[1] * FACTOR)
        inside = [draw([(p.outline, 1)], fine)[FACTOR // 2 :: FACTOR, FACTOR // 2 :: FACTOR] > 0 for p in world.places]
        self.places = [np.nonzero(where) for where in inside]

    def coarse(self, image: Float32, sigma_m: float, shift_m: tuple[float, float] = (0.0, 0.0)) -> Float32:
        """Means over the pixels of 30 m of an image (..., rows, cols) on those of 10 m, blurred and shifted."""
        down, right = shift_m
        rows = _weights(image.shape[-2], self.grid.rows, self.pixel_m, self.offset_m[0] - down, sigma_m)
        cols = _weights(image.shape[-1], self.grid.cols, self.pixel_m, self.offset_m[1] - right, sigma_m)
        return np.asarray(rows @ image @ cols.T, dtype=np.float32)

    def temperature(self, day: int, ground: Ground) -> Float32:
        """Surface temperature of a day in kelvin on the pixels of 10 m, float32 (rows, cols)."""
        world = self.world
        k = world.weather.index(day)
        season = SEASON_K * math.cos(2 * math.pi * (day % 365.25 - HOTTEST_DAY) / 365.25)
        field_green = np.maximum(ground.planted, 0.45 * ground.green)
        out = np.full(world.shape, MEAN_K + season + self.weather_k[k], dtype=np.float32)
        for m in Material:
            warmer: Any = SURFACE_K[m]
            if m in WET_K:
                warmer = warmer + WET_K[m] * ground.wet
            if m in GREEN_K:
                warmer = warmer + GREEN_K[m] * (field_green if m is Material.FIELD else ground.green)
            if m is Material.FIELD:
                warmer = warmer + ground.flooded * (1 - ground.planted) * (SURFACE_K[Material.WATER] - warmer)
            out += ground.cover[m] * warmer
        roof = np.maximum(1 - ground.cover.sum(axis=0) - ground.rubble, 0)
        out += roof * self.roof_k + ground.rubble * RUBBLE_K
        for yard, where in zip(world.yards, self.places, strict=True):
            out[where] += BUSY_K * world.conditions.contrast * world.activity(yard, day)
        return out

    def look(self, date: dt.date, rng: np.random.Generator, cloud_share: float | None = None) -> LandsatScene:
        """Look at the world on a date; ``cloud_share`` is the share of the sky under cloud (None = by the season)."""
        world, conditions, day = self.world, self.world.conditions, day_number(date)
        ground = world.ground(day)
        surface = world.with_activity(world.reflectance(day, ground), day, rng)
        elevation, azimuth = sky.sun(date, LOCAL_SOLAR_HOUR)
        share = sky.cover(date, rng, conditions.cloudiness) if cloud_share is None else cloud_share
        opacity, shadow, cirrus = sky.clouds(rng, self.grid.shape, share, elevation, azimuth, PIXEL_M)
        drawn = np.clip(rng.normal(0, SHIFT_SD_M * conditions.noise, 2), -SHIFT_MAX_M, SHIFT_MAX_M)
        shift = (float(drawn[0]), float(drawn[1]))
        seen = self.coarse(surface, OPTICAL_SIGMA_M, shift) * BAND_FACTOR[:, None, None]
        gain = (1 + rng.normal(0, GAIN_SD * conditions.noise)) * (1 + rng.normal(0, BAND_GAIN_SD * conditions.noise, 5))
        haze = abs(rng.normal(0, HAZE_SD * conditions.haze)) * np.exp(0.5 * cloudy_field(rng, self.grid.shape, 3.5))
        for b in range(len(BANDS)):
            lit = seen[b] * gain[b] * (1 - SHADOW_DEPTH[b] * shadow) + haze * HAZE_COLOUR[b]
            seen[b] = lit * (1 - opacity) + opacity * CLOUD_COLOUR[b] * (0.75 + 0.35 * opacity)
        seen += np.float32(NOISE * conditions.noise) * rng.standard_normal(seen.shape, dtype=np.float32)
        bands = dict(zip(BANDS, seen, strict=True))
        kelvin = self.coarse(self.temperature(day, ground), THERMAL_SIGMA_M, shift)
        kelvin += np.float32(rng.normal(0, RETRIEVAL_K * conditions.noise))
        kelvin += (CIRRUS_K if cirrus else CLOUD_K) * opacity - kelvin * opacity - SHADOW_K * shadow
        kelvin += np.float32(THERMAL_NOISE_K * conditions.noise) * rng.standard_normal(kelvin.shape, dtype=np.float32)
        quality, missed_cloud, missed_shadow = self._quality(rng, bands, opacity, shadow, cirrus)
        return LandsatScene(
            bands, kelvin, quality, shift, opacity, shadow, missed_cloud, missed_shadow, elevation, azimuth
        )

    def _quality(
        self, rng: np.random.Generator, bands: dict[str, Float32], opacity: Float32, shadow: Float32, cirrus: bool
    ) -> tuple[npt.NDArray[np.uint16], float | None, float | None]:
        """QA_PIXEL, and the shares of cloud and of shadow that it misses (None = there was none)."""
        missed = self.world.conditions.missed
        doubt = cloudy_field(rng, opacity.shape, 2.4, largest=20)
        is_cloud = opacity > SEEN_FROM
        is_shadow = (shadow > SHADOW_FROM) & ~is_cloud
        lost_cloud = sky.lowest(doubt, is_cloud & (opacity < THICK_FROM), MISSED_CLOUD * missed)
        lost_shadow = sky.lowest(-doubt, is_shadow, MISSED_SHADOW * missed)
        cloud, shade = is_cloud & ~lost_cloud, is_shadow & ~lost_shadow
        thin = cloud & cirrus & (opacity < THICK_FROM)
        rim = binary_dilation(cloud & ~thin, iterations=RIM_PIXELS) & ~cloud
        quality = np.full(opacity.shape, LOW, dtype=np.uint16)
        red, nir = bands["red"], bands["nir"]
        ndvi = (nir - red) / np.maximum(nir + red, 0.01)
        # The test for water of Zhu and Woodcock 2012, doi:10.1016/j.rse.2011.10.028.
        water = ((ndvi < 0.01) & (nir < 0.11)) | ((ndvi < 0.1) & (nir < 0.05))
        quality[water & ~cloud] |= WATER
        quality[cloud & ~thin] |= CLOUD | HIGH_CLOUD
        quality[thin] |= CIRRUS | HIGH_CIRRUS
        quality[shade] |= SHADOW | HIGH_SHADOW
        quality[rim] |= RIM
        quality[~(cloud & ~thin) & ~rim] |= CLEAR
        return quality, sky.share_of(lost_cloud, is_cloud), sky.share_of(lost_shadow, is_shadow)


def _weights(n_fine: int, n_coarse: int, fine_m: float, offset_m: float, sigma_m: float) -> Float32:
    """Weights (n_coarse, n_fine) of means over pixels of 30 m that begin ``offset_m`` behind the first fine one.

    Each is the integral, over a fine pixel, of the coarse pixel's square blurred by a Gaussian (taken at its middle).
    """
    middle = (np.arange(n_fine) + 0.5) * fine_m
    begin = offset_m + PIXEL_M * np.arange(n_coarse)[:, None]
    weights = ndtr((middle - begin) / sigma_m) - ndtr((middle - begin - PIXEL_M) / sigma_m)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)

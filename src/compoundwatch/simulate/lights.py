"""How VIIRS sees the region at night: each place's own light and its neighbours', through a footprint larger than both.

What is imitated: places and roads give off light of their own brightness; a pixel of the day/night band is 742 m wide
and falls elsewhere every night, while the product's cells are 15 arc-seconds, so a cell mixes several places and not
the same ones every night; walls and roofs send light into some directions more than into others, and the direction
comes back every 16 nights; air, moonlight and the lamps themselves differ from night to night, those of dark cells
more; weekends and festivals; clouds, of which the cloud mask misses part.

Strengths are chosen by hand so that lit cells vary by 15 to 40 % from night to night, the darker the more; which causes
matter follows Wang et al. (2021, doi:10.1016/j.rse.2021.112557). A granule's day is that of its evening: the night that
begins on it.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, uniform_filter
from shapely.geometry.base import BaseGeometry

from compoundwatch.grid import transformer
from compoundwatch.simulate import sky
from compoundwatch.simulate.climate import day_number
from compoundwatch.simulate.fields import Float32, aside, block_mean, cloudy_field, wander
from compoundwatch.simulate.layout import FACTOR, Place, draw
from compoundwatch.simulate.lights_files import CELLS_PER_DEGREE, GranuleFiles, Platform
from compoundwatch.simulate.materials import Material
from compoundwatch.simulate.region import Region
from compoundwatch.simulate.scenarios import PEOPLE_LIGHT

Float64 = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]

# ------------------------------------------------------------------------------------------------------- the ground

BRIGHTNESS = {"compound": 60.0, "factory": 20.0, "market": 20.0, "village": 6.0}
"""Median radiance of a cell that such a place would fill, nW cm-2 sr-1."""
BRIGHTNESS_SD = 0.5
"""Places of one kind differ by this, natural logarithm."""
ROOF_SHARE = 0.7
"""Share of a place's light that comes from its buildings; the rest from its yards."""
ROAD, HOUSE, TOWN, COUNTRY = 10.0, 8.0, 12.0, (0.3, 5.0)
"""Radiance of a cell full of paved road, or of lone houses; median peak of a near town; least and greatest mean of the
scattered lamps around, which differ from region to region."""
TOWN_M, TOWN_AWAY_M = 900.0, (1500.0, 4000.0)
"""Radius of the town (Gaussian), and its distance from the region's edge."""
COUNTRY_GENERATORS = 0.05

# ------------------------------------------------------------------------------------------------------ the instrument

FOOTPRINT_M = 742.0
"""Side of a pixel of the day/night band, the same at all angles (Liao et al. 2013, doi:10.1002/2013JD020475)."""
BLUR_M, HALO_M, HALO = 340.0, 1200.0, 0.10
"""Optics, pointing and gridding; air spreads HALO of the light over HALO_M (Gaussian standard deviations)."""
HEADING = math.radians(-168.0)
"""Direction of the descending passes at night, from north."""
ORBITS, CYCLE_NIGHTS = 227, 16
"""Orbits after which the ground track comes back, and the nights they take."""
ALTITUDE_M, EARTH_M = 829_000.0, 6_371_000.0

ANGLE_SD, SIDE_SD, ANGLE_MEAN = 0.25, 0.11, 0.05
"""How a place's light changes from nadir to 60 degrees, and from one side to the other, natural logarithm."""
TWINKLE, ADDED, SHOT = 0.08, 0.20, 0.35
"""Noise of a pixel at radiance L: TWINKLE x L, ADDED (nW cm-2 sr-1) and SHOT x sqrt(L), all standard deviations."""
AIR_SD, AIR_DAYS, SEASON_SD = 0.05, 4.0, 0.04
OWN_SD, OWN_DAYS, OWN_FAST_SD, OWN_FAST_DAYS = 0.06, 60.0, 0.06, 3.0
REGION_SD, REGION_DAYS = 0.05, 30.0
"""Wandering of the air, of each place's lamps (slow and fast) and of all of them together, natural logarithm."""
WEEKEND, WEEKEND_SD, FESTIVAL_SD = 0.03, 0.04, 0.15
MOON, MOON_SD = 0.15, 0.15
"""Light of a full moon that the product's correction leaves, mean and standard deviation, nW cm-2 sr-1."""
NEW_MOON, SYNODIC = 10962.76, 29.530588
"""A new moon (6 January 2000, 18:14 UTC, days since 1970-01-01) and the days to the next."""

# ------------------------------------------------------------------------------------------------------------ the sky

SURE_FROM, CLOUD_FROM, NEAR_FROM = 0.35, 0.12, 0.04
"""Opacity from which the mask says confidently cloudy, probably cloudy, probably clear."""
MISSED = 0.20
"""Share of thin cloud (opacity below sky.THICK_FROM) that the mask calls confidently clear: at night it sees less."""
DIMMING = 0.8
"""Share of the light that an opaque cloud takes; the rest comes through, spread out."""
POOR, MEDIUM_MASK, LOST = 0.03, 0.04, 0.015
"""Share of retrievals called poor, of nights whose cloud mask is of medium quality, of nights without a granule."""

PLATFORMS = (Platform("snpp", "VNP46A2", 0.0), Platform("noaa20", "VJ146A2", 0.5))
"""Suomi NPP and NOAA-20, which flies half an orbit ahead, so that its track lies half-way between."""
MARGIN, FINE, PAD, SUB = 4, 8, 2, 4
"""Cells written around the region; fine cells per cell and direction; cells beyond, where footprints reach; parts of a
cell per direction when pixels are gridded."""


@dataclass(frozen=True)
class Cells:
    """A window of cells of 15 arc-seconds: first row and column counted from 90 degrees north, 180 degrees west."""

    row: int
    col: int
    rows: int
    cols: int

    @classmethod
    def around(cls, region: Region, margin: int = MARGIN) -> Cells:
        """The cells that a region touches, and a margin."""
        west, south, east, north = region.grid.lonlat_bounds
        top, left = (
            math.floor((90 - north) * CELLS_PER_DEGREE) - margin,
            math.floor((west + 180) * CELLS_PER_DEGREE) - margin,
        )
        bottom, right = math.ceil((90 - south) * CELLS_PER_DEGREE), math.ceil((east + 180) * CELLS_PER_DEGREE)
        return cls(top, left, bottom + margin - top, right + margin - left)

    @property
    def metres(self) -> tuple[float, float]:
        """Height and width of a cell in the middle of the window."""
        latitude = math.radians(90 - (self.row + self.rows / 2) / CELLS_PER_DEGREE)
        return 110_574.0 / CELLS_PER_DEGREE, 111_320.0 * math.cos(latitude) / CELLS_PER_DEGREE


class Lamps:
    """Light on the ground of a region, place by place, as a footprint centred anywhere would see it.

    ``layers`` float32 (n_layers, fine rows, fine cols), radiance (nW cm-2 sr-1) that each source adds to a footprint
    centred there on a usual night: one per place in the order of ``region.world.places``, then roads and houses outside
    and inside the zone of the regional event, then everything beyond. FINE steps make a cell, PAD cells lie around.
    """

    def __init__(self, region: Region, rng: np.random.Generator) -> None:
        self.region, self.cells = region, Cells.around(region)
        self.fine = ((self.cells.rows + 2 * PAD) * FINE, (self.cells.cols + 2 * PAD) * FINE)
        self._index = self._fine_index()
        places = [self._place(place, rng) for place in region.world.places]
        self.layers = np.stack([self._spread(layer) for layer in (*places, *self._roads(), self._beyond(rng))])

    def _fine_index(self) -> Index:
        """Fine cell of every 10 m pixel of the region, flattened."""
        grid, cells = self.region.grid, self.cells
        x = grid.left + (np.arange(grid.cols) + 0.5) * grid.pixel_m
        y = grid.top - (np.arange(grid.rows) + 0.5) * grid.pixel_m
        lon, lat = transformer(grid.epsg, 4326).transform(*np.meshgrid(x, y))
        row = np.floor(((90 - lat) * CELLS_PER_DEGREE - cells.row + PAD) * FINE).astype(np.int64)
        col = np.floor(((lon + 180) * CELLS_PER_DEGREE - cells.col + PAD) * FINE).astype(np.int64)
        return np.asarray(row * self.fine[1] + col)

    def _collect(self, light: Float32) -> Float64:
        """Radiance of the fine cells, from that of the 10 m pixels: no light is lost."""
        height, width = self.cells.metres
        pixels = height * width / FINE**2 / self.region.grid.pixel_m**2
        total = np.bincount(self._index.ravel(), light.ravel(), self.fine[0] * self.fine[1])
        return np.asarray(total.reshape(self.fine) / pixels)

    def _cover(self, shapes: Sequence[BaseGeometry]) -> Float32:
        """Share of each 10 m pixel under outlines."""
        shape = self.region.world.shape
        return block_mean(draw([(s, 1) for s in shapes], (shape[0] * FACTOR, shape[1] * FACTOR)) > 0, FACTOR)

    def _place(self, place: Place, rng: np.random.Generator) -> Float64:
        level = BRIGHTNESS[place.kind] * float(np.exp(rng.normal(0, BRIGHTNESS_SD)))
        ground, roofs = self._cover([place.outline]), self._cover([r.outline for r in place.roofs])
        light = ground if not roofs.any() else (1 - ROOF_SHARE) * ground + ROOF_SHARE * roofs * _ratio(ground, roofs)
        return self._collect(np.asarray(level * light, dtype=np.float32))

    def _roads(self) -> tuple[Float64, Float64]:
        """Paved roads and lone houses, outside and inside the zone of the regional event."""
        world = self.region.world
        lone = [r.outline for k, r in enumerate(world.roofs) if r.place is None and k in world.standing]
        light = ROAD * world.cover[Material.ASPHALT] + HOUSE * self._cover(lone)
        return self._collect(light * (1 - world.zone)), self._collect(light * world.zone)

    def _beyond(self, rng: np.random.Generator) -> Float64:
        """Scattered lamps everywhere, and a town at some distance."""
        field = np.exp(0.8 * cloudy_field(rng, self.fine, 2.0, largest=20))
        height, width = (side / FINE for side in self.cells.metres)
        away, bearing = rng.uniform(*TOWN_AWAY_M), rng.uniform(0, 2 * np.pi)
        half = (self.fine[0] * height / 2, self.fine[1] * width / 2)
        y = np.arange(self.fine[0])[:, None] * height - half[0] - np.sin(bearing) * (half[0] + away)
        x = np.arange(self.fine[1])[None, :] * width - half[1] - np.cos(bearing) * (half[1] + away)
        town = TOWN * float(np.exp(rng.normal(0, 0.5))) * np.exp(-0.5 * (x**2 + y**2) / TOWN_M**2)
        country = float(np.exp(rng.uniform(*np.log(COUNTRY))))
        return np.asarray(country * field / field.mean() + town)

    def _spread(self, light: Float64) -> Float32:
        """What a footprint centred on each fine cell receives."""
        step = [side / FINE for side in self.cells.metres]
        core = uniform_filter(light, [round(FOOTPRINT_M / s) for s in step], mode="nearest")
        core = gaussian_filter(core, [BLUR_M / s for s in step], mode="nearest")
        halo = gaussian_filter(light, [HALO_M / s for s in step], mode="nearest")
        return np.asarray((1 - HALO) * core + HALO * halo, dtype=np.float32)

    def usual(self) -> Float32:
        """What each layer adds to a footprint centred on each cell on a usual night: float32 (n_layers, rows, cols)."""
        inner = slice(PAD * FINE + FINE // 2, -PAD * FINE, FINE)
        return self.layers[:, inner, inner]


def _ratio(whole: Float32, part: Float32) -> float:
    return float(whole.sum() / part.sum())


# --------------------------------------------------------------------------------------------------------- the nights


@dataclass(frozen=True)
class Night:
    """What one satellite makes of the window in one night.

    ``radiance`` float32 (rows, cols) in nW cm-2 sr-1; ``quality`` uint8, 0 good, 1 poor, 255 no retrieval (radiance is
    not to be used); ``clouds`` uint8, 0 confidently clear to 3 confidently cloudy; ``mask_quality`` 2 medium or 3
    high; ``cirrus`` whether its clouds are thin and high; ``opacity`` float32, 0 to 1, the truth about the sky;
    ``view_zenith`` degrees, negative where the satellite stands in the west.
    """

    radiance: Float32
    quality: npt.NDArray[np.uint8]
    clouds: npt.NDArray[np.uint8]
    mask_quality: int
    cirrus: bool
    opacity: Float32
    view_zenith: float


def view_zenith(day: int, latitude: float, phase: float) -> float:
    """Angle from which a satellite sees a place on a night: degrees from the zenith, negative from the west.

    Each night the nearest track lies 3/16 of the spacing of the tracks farther; after 16 nights all is as before.

    Parameters
    ----------
    day : days since 1970-01-01.
    phase : where the track lies on day 0, in spacings of the tracks of one night.
    """
    spacing = 360.0 * CYCLE_NIGHTS / ORBITS
    shift = (phase + day * (ORBITS % CYCLE_NIGHTS) / CYCLE_NIGHTS + 0.5) % 1 - 0.5
    away = math.radians(shift * spacing) * math.cos(math.radians(latitude))
    nadir = math.atan2(math.sin(abs(away)), 1 + ALTITUDE_M / EARTH_M - math.cos(away))
    return math.copysign(math.degrees(nadir + abs(away)), away)


def moonlit(day: int) -> float:
    """Lit share of the moon's disc in a night, 0 to 1."""
    return 0.5 - 0.5 * math.cos(2 * math.pi * (day + 0.77 - NEW_MOON) / SYNODIC)


class Nights:
    """All nights of a region: which light its sources give off, and how the satellites see it.

    ``factors`` float64 (n_days, n_layers): light of each layer of ``Lamps`` on each day as a share of the usual.
    """

    def __init__(self, region: Region, dates: Sequence[dt.date], rng: np.random.Generator) -> None:
        self.region, self.lamps = region, Lamps(region, aside(rng, "lamps"))
        self.first = day_number(min(dates))
        own = aside(rng, "lights")
        self.factors = self._factors(np.arange(self.first, day_number(max(dates)) + 1), own)
        self.air = wander(own, (len(self.factors),), AIR_SD * region.conditions.haze, AIR_DAYS)
        n = self.lamps.layers.shape[0]
        self.angle, self.side = own.normal(ANGLE_MEAN, ANGLE_SD, n), own.normal(0, SIDE_SD, n)
        self.phase = float(own.uniform())
        self.sky_seed = int(own.integers(2**62))

    def _factors(self, days: Index, rng: np.random.Generator) -> Float64:
        world, n = self.region.world, self.lamps.layers.shape[0]
        light = np.ones((days.size, n))
        for j, place in enumerate(world.places):
            light[:, j] = [world.light(place, int(day)) for day in days]
        at = [world.weather.index(int(day)) for day in days]
        power = COUNTRY_GENERATORS + (1 - COUNTRY_GENERATORS) * world.weather.grid[at]
        away = PEOPLE_LIGHT * (1 - world.zone_activity_left) * world.weather.regional[at]
        light[:, -3:] = np.column_stack([power, power * (1 - away), power])
        loose = self.region.conditions.mismatch
        moods = wander(rng, (days.size,), REGION_SD, REGION_DAYS)[:, None]
        moods = moods + wander(rng, (days.size, n), OWN_SD * loose, OWN_DAYS)
        moods = moods + wander(rng, (days.size, n), OWN_FAST_SD * loose, OWN_FAST_DAYS)
        year = 2 * np.pi * days[:, None] / 365.25
        moods += SEASON_SD * np.sqrt(2) * np.sin(year + rng.uniform(0, 2 * np.pi, n))
        weekend = ((days + 3) % 7 >= 5)[:, None]  # day 0 was a Thursday
        moods += weekend * rng.normal(WEEKEND, WEEKEND_SD, n)
        moods += (festive(days)[:, :, None] * rng.normal(0, FESTIVAL_SD, (2, n))).sum(axis=1)
        return np.asarray(light * np.exp(moods))

    def look(self, date: dt.date, platform: Platform, rng: np.random.Generator) -> Night:
        """One satellite's look at the window in the night that begins on a date."""
        day, settings = day_number(date), self.region.conditions
        latitude = 90 - (self.lamps.cells.row + self.lamps.cells.rows / 2) / CELLS_PER_DEGREE
        zenith = view_zenith(day, latitude, self.phase + platform.track)
        z = zenith / 60
        seen = self.factors[day - self.first] * np.exp(self.angle * (z**2 - 0.4) + self.side * z)
        through = np.exp(self.air[day - self.first] / max(0.35, math.cos(math.radians(zenith))))
        row, col, node = self._footprints(rng)
        light = through * np.tensordot(seen, self.lamps.layers[:, row, col], 1)
        noisy, full = settings.noise, moonlit(day)
        light *= np.exp(rng.normal(0, TWINKLE * noisy, light.shape))
        light += rng.normal(0, noisy, light.shape) * np.sqrt(ADDED**2 + SHOT**2 * light)
        gridded = block_mean(light[node], SUB)
        moon = full * rng.normal(MOON, MOON_SD * noisy)
        opacity, cirrus = self._sky(date, platform, rng)
        radiance = gridded * (1 - DIMMING * opacity) + moon
        quality, clouds = _flags(rng, opacity, settings.missed)
        mask_quality = 2 if rng.random() < MEDIUM_MASK else 3
        return Night(radiance.astype(np.float32), quality, clouds, mask_quality, cirrus, opacity, zenith)

    def _footprints(self, rng: np.random.Generator) -> tuple[Index, Index, Index]:
        """Fine row and column of the centre of each pixel of this night, and which pixel each part of a cell lies in.

        Cells are cut into SUB x SUB parts, so that the mean over parts weights the pixels by the area that they share
        with a cell, as the product does.
        """
        cells = self.lamps.cells
        height, width = cells.metres
        south, east = np.meshgrid(
            (np.arange(cells.rows * SUB) + 0.5) * height / SUB,
            (np.arange(cells.cols * SUB) + 0.5) * width / SUB,
            indexing="ij",
        )
        up, right = math.cos(HEADING), math.sin(HEADING)
        start = rng.uniform(0, FOOTPRINT_M, 2)
        along = np.round((-up * south + right * east - start[0]) / FOOTPRINT_M)
        across = np.round((right * south + up * east - start[1]) / FOOTPRINT_M)
        along, across = along - (low := along.min()), across - (left := across.min())
        node = (along * (across.max() + 1) + across).astype(np.int64)
        down, over = np.meshgrid(np.arange(along.max() + 1), np.arange(across.max() + 1), indexing="ij")
        y, x = (down.ravel() + low) * FOOTPRINT_M + start[0], (over.ravel() + left) * FOOTPRINT_M + start[1]
        fine = [
            np.clip(np.floor((at / side + PAD) * FINE), 0, size - 1).astype(np.int64)
            for at, side, size in (
                (-up * y + right * x, height, self.lamps.fine[0]),
                (right * y + up * x, width, self.lamps.fine[1]),
            )
        ]
        return fine[0], fine[1], node

    def _sky(self, date: dt.date, platform: Platform, rng: np.random.Generator) -> tuple[Float32, bool]:
        """Opacity of the clouds over each cell; both satellites of one night pass under much the same sky."""
        shape = (self.lamps.cells.rows, self.lamps.cells.cols)
        night = np.random.default_rng([self.sky_seed, day_number(date)])
        share = sky.cover(date, night, self.region.conditions.cloudiness)
        cirrus = bool(night.random() < 0.15)
        field = 0.8 * cloudy_field(night, shape, 3.0) + 0.6 * cloudy_field(rng, shape, 3.0)
        if share <= 0:
            return np.zeros(shape, dtype=np.float32), False
        level = np.quantile(field, 1 - share) if share < 1 else field.min() - 0.6
        depth = np.maximum(field - level, 0) * (0.5 if cirrus else 3.0)
        return (1 - np.exp(-depth)).astype(np.float32), cirrus


def festive(days: Index) -> BoolArray:
    """Whether days lie in Khmer New Year (14 to 17 April) or the week of the lunar New Year: bool (n_days, 2)."""
    dates = [dt.date(1970, 1, 1) + dt.timedelta(days=int(day)) for day in days]
    khmer = [date.month == 4 and 14 <= date.day <= 17 for date in dates]
    age = (np.asarray(days) + 0.77 - NEW_MOON) % SYNODIC
    begins = [d - dt.timedelta(days=int(a)) for d, a in zip(dates, age, strict=True)]
    lunar = [a < 7 and (1, 21) <= (b.month, b.day) <= (2, 20) for a, b in zip(age, begins, strict=True)]
    return np.column_stack([khmer, lunar])


def _flags(
    rng: np.random.Generator, opacity: Float32, missed: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Quality of the retrievals and confidence of the cloud mask, which misses part of thin cloud."""
    clouds = sum((opacity > level).astype(np.uint8) for level in (NEAR_FROM, CLOUD_FROM, SURE_FROM))
    clouds = np.asarray(clouds, dtype=np.uint8)
    thin = (opacity > CLOUD_FROM) & (opacity < sky.THICK_FROM)
    clouds[thin & (rng.random(opacity.shape) < MISSED * missed)] = 0
    quality = np.where((clouds == 2) | (rng.random(opacity.shape) < POOR), 1, 0).astype(np.uint8)
    quality[clouds == 3] = 255
    return quality, clouds


def write_nights(
    folder: Path, region: Region, dates: Sequence[dt.date], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Write the granules of both satellites for the nights that begin on ``dates``, and tell the truth about each.

    Files go to ``folder/granules``. A few nights have none, as in the archive. The truth about a granule is how cloudy
    the window truly was, how much of that its mask missed (None = no cloud), and from where it was seen.

    Parameters
    ----------
    dates : days within the region's climate.

    Raises
    ------
    SettingsError : h5py is missing.
    """
    nights = Nights(region, dates, rng)
    files = GranuleFiles(folder / "granules", nights.lamps.cells)
    seeds = rng.integers(2**63, size=(len(dates), len(PLATFORMS)))
    rows = []
    for k, date in enumerate(dates):
        for j, platform in enumerate(PLATFORMS):
            own = np.random.default_rng(seeds[k, j])
            if own.random() < LOST:
                continue
            night = nights.look(date, platform, own)
            names = files.write(platform, date, night)
            rows += [_row(name, date, platform, night) for name in names]
    return rows


def _row(name: str, date: dt.date, platform: Platform, night: Night) -> dict[str, Any]:
    cloudy = night.opacity > CLOUD_FROM
    missed = float((cloudy & (night.clouds == 0)).sum() / cloudy.sum()) if cloudy.any() else None
    return {
        "item_id": name,
        "date": date.isoformat(),
        "platform": platform.name,
        "view_zenith": round(night.view_zenith, 2),
        "moonlit": round(moonlit(day_number(date)), 3),
        "cloud_share": round(float(cloudy.mean()), 4),
        "missed_cloud": None if missed is None else round(missed, 4),
        "clear_share": round(float(((night.clouds == 0) & (night.quality == 0)).mean()), 4),
    }

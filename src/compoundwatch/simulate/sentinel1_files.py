"""Writes looks of Sentinel-1 as the Planetary Computer gives its items, and decides when they come.

Orbits repeat after 12 days and 175 revolutions; numbers and times continue from two real acquisitions, so that days,
hours and orbit numbers fit together as they do in the archive: S1A orbit 43068 (relative 121) on 2022-05-04, S1C orbit
3013 (relative 42) on 2025-06-30. A second satellite may join a made-up series before S1C was launched; its orbits then
count from the end of a large number. Form of items and pictures: notebook sentinel-1-rtc-example.ipynb of
github.com/microsoft/PlanetaryComputerExamples.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compoundwatch.grid import Grid
from compoundwatch.simulate.climate import day_number
from compoundwatch.simulate.fields import Float32
from compoundwatch.simulate.files import Collection, View, Written, cog_asset, item, text, write_cog, write_json
from compoundwatch.simulate.region import PIXEL_M, Region
from compoundwatch.simulate.sentinel1 import ORBITS, Orbit, Radar, RadarScene

COLLECTION = Collection("sentinel-1-rtc", "Sentinel-1 gamma0, terrain corrected", ("Sentinel-1", "radar", "RTC"))
NODATA = -32768.0
LOOKS = 4.4
CYCLE_DAYS, CYCLE_ORBITS = 12, 175
KNOWN = {  # platform -> a real revolution: when it rises past 9 degrees north, number, relative orbit; its designator
    "A": (dt.datetime(2022, 5, 4, 23, 32, 10, tzinfo=dt.UTC), 43068, 121, "2014-016A"),
    "C": (dt.datetime(2025, 6, 30, 13, 31, 0, tzinfo=dt.UTC), 3013, 42, "2024-235A"),
}
DESCENDING_LATER = dt.timedelta(minutes=44)
"""From 9 degrees north on the way up to 9 degrees north on the way down."""
SLICE = dt.timedelta(seconds=25)
SLICES_EVERY, SLICES_FROM = 15, 6
"""Every so many passes, from this one on, the region lies across two slices: two items, each with a part missing."""
KEPT_BITS = 12
"""Bits of the mantissa that are kept, so that files are small: a step of 0.0005 dB at most."""
TITLES = {"vv": "VV: vertical transmit, vertical receive", "vh": "VH: vertical transmit, horizontal receive"}
EXTENSIONS = [
    "https://stac-extensions.github.io/sar/v1.0.0/schema.json",
    "https://stac-extensions.github.io/sat/v1.0.0/schema.json",
    "https://stac-extensions.github.io/projection/v1.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
]


@dataclass(frozen=True)
class Pass:
    """One pass over the region: platform, which of the looks, and which revolution, counted from the launch."""

    platform: str
    number: int
    turn: int

    @property
    def orbit(self) -> Orbit:
        """Its geometry."""
        return ORBITS[self.number]

    @property
    def absolute(self) -> int:
        """Number of the revolution; before the launch, one that keeps the relative orbit."""
        return self.turn if self.turn > 0 else self.turn + 1000 * CYCLE_ORBITS

    @property
    def time(self) -> dt.datetime:
        """When it is above the region."""
        known, absolute, _, _ = KNOWN[self.platform]
        turns = self.turn - absolute
        later = DESCENDING_LATER if self.orbit.state == "descending" else dt.timedelta(0)
        return known + dt.timedelta(seconds=round(turns * CYCLE_DAYS * 86400 / CYCLE_ORBITS)) + later


def passes(start: dt.date, end: dt.date, second_from: float | None) -> list[Pass]:
    """All passes from ``start`` to ``end`` (UTC, both included) in order of time.

    ``second_from`` is the share of the series after which the second satellite joins (None = never).
    """
    joins = None if second_from is None else start + dt.timedelta(days=math.ceil(second_from * (end - start).days))
    found = []
    for platform in KNOWN:
        begin = start if platform == "A" else joins
        if begin is None:
            continue
        known, absolute, relative, _ = KNOWN[platform]
        for number, orbit in enumerate(ORBITS):
            first = absolute + orbit.relative - relative
            skipped = ((begin - known.date()).days - CYCLE_DAYS) // CYCLE_DAYS - 1
            every = range(first + skipped * CYCLE_ORBITS, first + 10**6, CYCLE_ORBITS)
            for at in every:
                new = Pass(platform, number, at)
                if new.time.date() > end:
                    break
                if new.time.date() >= begin:
                    found.append(new)
    return sorted(found, key=lambda p: p.time)


def views(region: Region, start: dt.date, end: dt.date, rng: np.random.Generator) -> list[View[RadarScene]]:
    """All passes of a series, in order."""
    radar = Radar(region.world, rng)
    flown = passes(start, end, region.conditions.second_radar)
    seeds = rng.integers(2**63, size=len(flown))

    def look(k: int) -> RadarScene:
        now = flown[k]
        return radar.look(day_number(now.time.date()), now.number, now.platform, np.random.default_rng(seeds[k]))

    def write(k: int, root: Path, scene: RadarScene) -> list[Written]:
        parts = _slices(region.grid, flown[k].orbit) if k % SLICES_EVERY == SLICES_FROM else [None]
        return [_write(root, flown[k], scene, region.grid, part, number) for number, part in enumerate(parts)]

    return [View(now.time, now.platform, partial(look, k), partial(write, k)) for k, now in enumerate(flown)]


def _slices(grid: Grid, orbit: Orbit) -> list[npt.NDArray[np.bool_]]:
    """What the first and the second slice of a pass see when they meet within the region: they overlap a little."""
    row, col = np.mgrid[0 : grid.rows, 0 : grid.cols]
    tilt = math.tan(math.radians(orbit.look_azimuth - 90 if orbit.state == "ascending" else orbit.look_azimuth - 270))
    along = row - grid.rows / 2 - (col - grid.cols / 2) * tilt
    overlap = max(2.0, 0.03 * grid.rows)
    south, north = along > -overlap, along < overlap
    return [south, north] if orbit.state == "ascending" else [north, south]


def rounded(power: Float32) -> Float32:
    """The same numbers with KEPT_BITS of the 24 bits of their mantissa."""
    bits = np.ascontiguousarray(power, dtype=np.float32).view(np.uint32)
    drop = 24 - KEPT_BITS
    return ((bits + np.uint32(1 << (drop - 1))) >> np.uint32(drop) << np.uint32(drop)).view(np.float32)


def _write(
    root: Path, now: Pass, scene: RadarScene, grid: Grid, part: npt.NDArray[np.bool_] | None, number: int
) -> Written:
    """Write the pictures and the item of one slice; truth about it, and the item."""
    start = now.time - SLICE / 2 + number * SLICE
    product = f"S1{now.platform}_IW_GRDH_1SDV_{start:%Y%m%dT%H%M%S}_{start + SLICE:%Y%m%dT%H%M%S}_{now.absolute:06d}"
    item_id = f"{product}_{_datatake(now):06X}_rtc"
    folder = root / COLLECTION.collection_id / item_id
    folder.mkdir(parents=True)
    assets = {}
    for key, values in (("vv", scene.vv), ("vh", scene.vh)):
        name = f"iw-{key}.rtc.tiff"
        power = rounded(values) if part is None else np.where(part, rounded(values), np.float32(NODATA))
        write_cog(folder / name, power[None], grid, nodata=NODATA)
        about = {"nodata": NODATA, "data_type": "float32", "spatial_resolution": PIXEL_M}
        assets[key] = cog_asset(name, TITLES[key], ("data",)) | {"raster:bands": [about]}
    made = item(item_id, COLLECTION, grid, _properties(now, start, number, grid), assets, EXTENSIONS)
    write_json(folder / f"{item_id}.json", made)
    down, right = scene.shift
    truth = {
        "item_id": item_id,
        "sensor": "sentinel1",
        "shift_x_m": round(PIXEL_M * right, 3),
        "shift_y_m": round(-PIXEL_M * down, 3),
        "level_db": round(scene.level_db, 4),
        "missing_share": 0.0 if part is None else round(float(1 - part.mean()), 4),
    }
    return truth, made


def _datatake(now: Pass) -> int:
    """A number that grows with the revolutions, as that of datatakes does."""
    return now.absolute * 7 + 35576


def _properties(now: Pass, start: dt.datetime, number: int, grid: Grid) -> dict[str, Any]:
    left, bottom, right, top = grid.bounds
    shape = [grid.rows, grid.cols]
    made = text(start + dt.timedelta(hours=20))
    return {
        "datetime": text(start + SLICE / 2), "start_datetime": text(start), "end_datetime": text(start + SLICE),
        "created": made, "updated": made,
        "platform": f"SENTINEL-1{now.platform}", "constellation": "Sentinel-1",
        "sar:frequency_band": "C", "sar:center_frequency": 5.405, "sar:observation_direction": "right",
        "sar:instrument_mode": "IW", "sar:polarizations": ["VV", "VH"], "sar:product_type": "GRD",
        "sar:resolution_range": 20, "sar:resolution_azimuth": 22, "sar:pixel_spacing_range": 10,
        "sar:pixel_spacing_azimuth": 10, "sar:looks_range": 5, "sar:looks_azimuth": 1,
        "sar:looks_equivalent_number": LOOKS,
        "sat:platform_international_designator": KNOWN[now.platform][3], "sat:orbit_state": now.orbit.state,
        "sat:absolute_orbit": now.absolute, "sat:relative_orbit": now.orbit.relative,
        "proj:epsg": grid.epsg, "proj:bbox": [left, bottom, right, top], "proj:shape": shape,
        "proj:transform": [*tuple(grid.transform)],
        "s1:datatake_id": str(_datatake(now)), "s1:instrument_configuration_ID": "7", "s1:orbit_source": "RESORB",
        "s1:processing_level": "1", "s1:processing_datetime": made, "s1:product_timeliness": "Fast-24h",
        "s1:resolution": "high", "s1:shape": shape, "s1:slice_number": str(9 + number), "s1:total_slices": "19",
    }  # fmt: skip

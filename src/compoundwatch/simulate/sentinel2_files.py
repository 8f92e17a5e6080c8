"""Writes looks of Sentinel-2 as Earth Search v1 gives its items, and decides when they come and in which processing.

Each item says for itself how its numbers become reflectance, and both ways occur: before processing baseline 04.00
without an offset, from it on with an offset of -0.1.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compoundwatch.grid import Grid, Tile
from compoundwatch.simulate import sentinel2, sky
from compoundwatch.simulate.climate import day_number
from compoundwatch.simulate.fields import Float32
from compoundwatch.simulate.files import Collection, View, Written, cog_asset, item, text, write_cog, write_json
from compoundwatch.simulate.region import PIXEL_M, Region
from compoundwatch.simulate.sentinel2 import CIRRUS, HIGH, MEDIUM, SHADOW, Scene

COLLECTION = Collection("sentinel-2-l2a", "Sentinel-2 level 2A", ("Sentinel-2", "level 2A"))
TILES = ("48PTQ", "48PUQ")
BASELINES = ("03.01", "04.00", "05.10")
"""Processing baselines in the order of the series; the offset of the stored numbers comes with the second."""
REPROCESSED = "05.11"
"""Baseline of the second processing that two acquisitions have."""
HALVES_EVERY, HALVES_FROM = 17, 8
"""Every so many acquisitions, from this one on, two overlapping items are written instead of one."""
SCALE, OFFSET, OFFSET_SINCE = 0.0001, -0.1, "04.00"
EXTENSIONS = [
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/grid/v1.0.0/schema.json",
    "https://stac-extensions.github.io/mgrs/v1.0.0/schema.json",
    "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    "https://stac-extensions.github.io/view/v1.0.0/schema.json",
]
ASSETS = {  # asset key -> band of the instrument, title, centre and width in micrometres (ESA, MSI instrument guide)
    "blue": ("B02", "Blue (band 2) - 10m", 0.490, 0.098),
    "green": ("B03", "Green (band 3) - 10m", 0.560, 0.045),
    "red": ("B04", "Red (band 4) - 10m", 0.665, 0.038),
    "nir": ("B08", "NIR 1 (band 8) - 10m", 0.842, 0.145),
    "swir16": ("B11", "SWIR 1 (band 11) - 20m", 1.610, 0.143),
    "scl": ("SCL", "Scene classification map (SCL)", None, None),
}


@dataclass(frozen=True)
class Granule:
    """One item of the catalogue: part of a look, as one processing of it.

    ``part`` is the rectangle of the region's 10 m pixels it covers, ``tile`` its MGRS tile, ``sequence`` 0 for the
    first processing of an acquisition, 1 for the next.
    """

    acquired: dt.datetime
    platform: str
    baseline: str
    sequence: int
    tile: str
    part: Tile
    created: dt.datetime

    @property
    def item_id(self) -> str:
        """Name in the manner of Earth Search."""
        return f"S2{self.platform}_{self.tile}_{self.acquired:%Y%m%d}_{self.sequence}_L2A"

    @property
    def offset(self) -> float:
        """Reflectance that a stored 0 would mean."""
        return OFFSET if self.baseline >= OFFSET_SINCE else 0.0


def views(
    region: Region, start: dt.date, end: dt.date, rng: np.random.Generator, revisit_days: int
) -> list[View[Scene]]:
    """One look every ``revisit_days`` from ``start`` to ``end``, in order."""
    dates = acquired(start, end, revisit_days)
    seeds = rng.integers(2**63, size=len(dates))

    def look(k: int, platform: str) -> Scene:
        own, day = np.random.default_rng(seeds[k]), day_number(dates[k])
        ground = region.world.with_activity(region.world.reflectance(day), day, own)
        return sentinel2.look(ground, dates[k], platform, own, conditions=region.conditions)

    def write(granules: Sequence[Granule], root: Path, scene: Scene) -> list[Written]:
        return [(_truth(g, scene), write_granule(root, g, scene, region.grid)) for g in granules]

    out = []
    for k in range(len(dates)):
        granules = _granules(k, dates, region.grid)
        first = granules[0]
        out.append(View(first.acquired, first.platform, partial(look, k, first.platform), partial(write, granules)))
    return out


def acquired(start: dt.date, end: dt.date, revisit_days: int) -> list[dt.date]:
    """Dates of a series."""
    return [start + dt.timedelta(days=k) for k in range(0, (end - start).days + 1, revisit_days)]


def baseline_change(dates: Sequence[dt.date]) -> dt.date:
    """First date with the offset: within the first year, and within the first quarter of the series."""
    return dates[0] + dt.timedelta(days=min(219, (dates[-1] - dates[0]).days // 4))


def _granules(k: int, dates: Sequence[dt.date], grid: Grid) -> list[Granule]:
    """The items of one acquisition: usually one, sometimes two halves, sometimes a second processing."""
    date, change = dates[k], baseline_change(dates)
    renewed = change + (dates[-1] - change) // 2
    baseline = BASELINES[(date >= change) + (date >= renewed)]
    seen = dt.datetime.combine(date, dt.time(3, 30, 11, (k * 37 % 1000) * 1000), dt.UTC)
    first = Granule(seen, "AB"[k % 2], baseline, 0, TILES[0], Tile(0, 0, *grid.shape), seen + dt.timedelta(hours=9))
    n_before = sum(d < change for d in dates)
    if k in (n_before // 2, (n_before + len(dates)) // 2):
        later = seen + dt.timedelta(days=400)
        again = Granule(seen, first.platform, REPROCESSED, 1, TILES[0], first.part, later)
        return [first, again]
    if k % HALVES_EVERY == HALVES_FROM:
        cols = grid.cols
        end, begin = 2 * round(0.3 * cols), 2 * round(0.2 * cols)
        parts = Tile(0, 0, grid.rows, end), Tile(0, begin, grid.rows, cols - begin)
        return [
            Granule(seen, first.platform, baseline, 0, tile, part, first.created)
            for tile, part in zip(TILES, parts, strict=True)
        ]
    return [first]


def _truth(granule: Granule, scene: Scene) -> dict[str, Any]:
    """Truth about one item: how far it lies off, and how cloudy the region truly was."""
    down, right = scene.shift
    cloudy, shadowed = scene.opacity > sky.SEEN_FROM, scene.shadow > sky.SHADOW_FROM
    return {
        "item_id": granule.item_id,
        "sensor": "sentinel2",
        "shift_x_m": round(PIXEL_M * right, 3),
        "shift_y_m": round(-PIXEL_M * down, 3),
        "cloud_share": round(float(cloudy.mean()), 4),
        "shadow_share": round(float((shadowed & ~cloudy).mean()), 4),
        "missed_cloud": None if scene.missed_cloud is None else round(scene.missed_cloud, 4),
        "missed_shadow": None if scene.missed_shadow is None else round(scene.missed_shadow, 4),
    }


def stored(reflectance: Float32, offset: float) -> npt.NDArray[np.uint16]:
    """Reflectance as the numbers in the file: uint16, never 0, which means "no data"."""
    return np.asarray(np.clip(np.rint((reflectance - offset) / SCALE), 1, 65535), dtype=np.uint16)


def write_granule(root: Path, granule: Granule, scene: Scene, grid: Grid) -> dict[str, Any]:
    """Write the pictures and the item of a granule below ``root``; returns the item."""
    folder = root / COLLECTION.collection_id / granule.item_id
    folder.mkdir(parents=True)
    part, assets = grid.part(granule.part), {}
    rows, cols = granule.part.slices
    half = slice(rows.start // 2, rows.stop // 2), slice(cols.start // 2, cols.stop // 2)
    codes = scene.scl[half]
    for key in ASSETS:
        coarse = key in ("swir16", "scl")
        values = codes if key == "scl" else stored(scene.bands[key][half if coarse else (rows, cols)], granule.offset)
        place = Grid(part.epsg, part.left, part.top, part.pixel_m * (2 if coarse else 1), *values.shape)
        name = f"{ASSETS[key][0]}.tif"
        write_cog(folder / name, values[None], place)
        assets[key] = _asset(key, name, place, granule.offset)
    about = item(granule.item_id, COLLECTION, part, _properties(granule, scene, codes, part), assets, EXTENSIONS)
    write_json(folder / f"{granule.item_id}.json", about)
    return about


def _asset(key: str, name: str, grid: Grid, offset: float) -> dict[str, Any]:
    _, title, centre, width = ASSETS[key]
    raster: dict[str, Any] = {"nodata": 0, "data_type": "uint8", "spatial_resolution": int(grid.pixel_m)}
    asset = cog_asset(name, title, ("data",) if centre is None else ("data", "reflectance"))
    if centre is not None:
        about = {"name": key, "common_name": key, "description": title, "center_wavelength": centre}
        asset |= {"eo:bands": [about | {"full_width_half_max": width}]}
        raster |= {"data_type": "uint16", "bits_per_sample": 15, "scale": SCALE, "offset": offset}
    return asset | {
        "gsd": int(grid.pixel_m),
        "proj:shape": [grid.rows, grid.cols],
        "proj:transform": [grid.pixel_m, 0, grid.left, 0, -grid.pixel_m, grid.top],
        "raster:bands": [raster],
    }


def _properties(granule: Granule, scene: Scene, codes: npt.NDArray[np.uint8], grid: Grid) -> dict[str, Any]:
    time = granule.acquired.strftime("%Y%m%dT%H%M%S")
    made = text(granule.created)
    squeezed = granule.baseline.replace(".", "")
    return {
        "datetime": text(granule.acquired), "created": made, "updated": made,
        "platform": f"sentinel-2{granule.platform.lower()}", "constellation": "sentinel-2", "instruments": ["msi"],
        "eo:cloud_cover": _percent(codes, MEDIUM, HIGH, CIRRUS), "proj:epsg": grid.epsg,
        "mgrs:utm_zone": int(granule.tile[:2]), "mgrs:latitude_band": granule.tile[2],
        "mgrs:grid_square": granule.tile[3:], "grid:code": f"MGRS-{granule.tile}",
        "view:sun_elevation": round(scene.sun_elevation, 4), "view:sun_azimuth": round(scene.sun_azimuth, 4),
        "view:off_nadir": 3.2,
        "s2:product_type": "S2MSI2A", "s2:processing_baseline": granule.baseline, "s2:generation_time": made,
        "s2:product_uri": f"S2{granule.platform}_MSIL2A_{time}_N{squeezed}_R018_T{granule.tile}_"
        f"{granule.created:%Y%m%dT%H%M%S}.SAFE",
        "s2:datatake_id": f"GS2{granule.platform}_{time}_{_orbit(granule):06d}_N{granule.baseline}",
        "s2:datatake_type": "INS-NOBS", "s2:sequence": str(granule.sequence), "s2:nodata_pixel_percentage": 0,
        "s2:cloud_shadow_percentage": _percent(codes, SHADOW), "s2:thin_cirrus_percentage": _percent(codes, CIRRUS),
        "s2:medium_proba_clouds_percentage": _percent(codes, MEDIUM),
        "s2:high_proba_clouds_percentage": _percent(codes, HIGH),
        "earthsearch:boa_offset_applied": False,
    }  # fmt: skip


def _orbit(granule: Granule) -> int:
    """A number that grows with time, as the absolute orbit does."""
    return (granule.acquired.date() - dt.date(2015, 6, 23)).days * 14 + 5


def _percent(codes: npt.NDArray[np.uint8], *wanted: int) -> float:
    return round(100 * float(np.isin(codes, wanted).mean()), 3)

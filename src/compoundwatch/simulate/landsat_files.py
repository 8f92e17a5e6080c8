"""Writes looks of Landsat 8 and 9 as the Planetary Computer gives its items, and decides when they come.

Each satellite returns after 16 days, the other eight days later. Days continue from a real acquisition (Landsat 8, path
47, 2020-12-04: path 127 lies 80 paths, five whole days' worth, further on). Form of items: the examples of
github.com/stactools-packages/landsat, whose items the Planetary Computer serves.
"""

from __future__ import annotations

import datetime as dt
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compoundwatch.grid import Grid
from compoundwatch.simulate import sky
from compoundwatch.simulate.fields import Float32
from compoundwatch.simulate.files import Collection, View, Written, cog_asset, item, text, write_cog, write_json
from compoundwatch.simulate.landsat import CIRRUS, CLOUD, FILL, PIXEL_M, Landsat, LandsatScene
from compoundwatch.simulate.region import Region

COLLECTION = Collection("landsat-c2-l2", "Landsat Collection 2 Level-2", ("Landsat", "reflectance", "temperature"))
PATH, ROW = "127", "053"
KNOWN = {8: dt.date(2020, 12, 4), 9: dt.date(2020, 12, 12)}
"""A day on which each satellite passes, or would have passed, over the path."""
CYCLE_DAYS = 16
TIME = dt.time(3, 22, 41, 516000)
"""Of every acquisition (UTC)."""
REFLECTANCE, KELVIN = (0.0000275, -0.2), (0.00341802, 149.0)
"""Scale and offset of stored numbers (USGS, Collection 2 Level 2)."""
ASSETS = {  # asset key -> file, title, name of the band, centre and width in micrometres
    "blue": ("SR_B2", "Blue Band (B2)", "SR_B2", 0.48, 0.06),
    "green": ("SR_B3", "Green Band (B3)", "SR_B3", 0.56, 0.06),
    "red": ("SR_B4", "Red Band (B4)", "SR_B4", 0.65, 0.04),
    "nir08": ("SR_B5", "Near Infrared Band 0.8 (B5)", "SR_B5", 0.86, 0.03),
    "swir16": ("SR_B6", "Short-wave Infrared Band 1.6 (B6)", "SR_B6", 1.6, 0.08),
    "lwir11": ("ST_B10", "Surface Temperature Band (B10)", "ST_B10", 10.9, 0.59),
}
QUALITY = {
    "qa_pixel": ("QA_PIXEL", "Pixel Quality Assessment Band", ("cloud", "cloud-shadow", "snow-ice", "water-mask")),
    "qa_radsat": ("QA_RADSAT", "Radiometric Saturation and Terrain Occlusion Quality Assessment Band", ("saturation",)),
}
EXTENSIONS = [
    "https://stac-extensions.github.io/raster/v1.0.0/schema.json",
    "https://stac-extensions.github.io/eo/v1.0.0/schema.json",
    "https://stac-extensions.github.io/view/v1.0.0/schema.json",
    "https://stac-extensions.github.io/projection/v1.0.0/schema.json",
    "https://landsat.usgs.gov/stac/landsat-extension/v1.1.1/schema.json",
]


def acquired(start: dt.date, end: dt.date) -> list[tuple[dt.date, int]]:
    """Dates from ``start`` to ``end``, both included, and which satellite comes."""
    found = []
    for satellite, known in KNOWN.items():
        wait = (known - start).days % CYCLE_DAYS
        days = range(wait, (end - start).days + 1, CYCLE_DAYS)
        found += [(start + dt.timedelta(days=k), satellite) for k in days]
    return sorted(found)


def views(region: Region, start: dt.date, end: dt.date, rng: np.random.Generator) -> list[View[LandsatScene]]:
    """All acquisitions of a series, in order."""
    landsat = Landsat(region.world, region.grid, rng)
    dates = acquired(start, end)
    seeds = rng.integers(2**63, size=len(dates))

    def look(k: int) -> LandsatScene:
        return landsat.look(dates[k][0], np.random.default_rng(seeds[k]))

    def write(k: int, root: Path, scene: LandsatScene) -> list[Written]:
        return [_write(root, *dates[k], scene, landsat.grid)]

    return [
        View(dt.datetime.combine(date, TIME, dt.UTC), str(satellite), partial(look, k), partial(write, k))
        for k, (date, satellite) in enumerate(dates)
    ]


def stored(values: Float32, rule: tuple[float, float]) -> npt.NDArray[np.uint16]:
    """Physical values as the numbers in the file: uint16, never 0, which means "no data"."""
    scale, offset = rule
    return np.asarray(np.clip(np.rint((values.astype(np.float64) - offset) / scale), 1, 65535), dtype=np.uint16)


def _write(root: Path, date: dt.date, satellite: int, scene: LandsatScene, grid: Grid) -> Written:
    """Write the pictures and the item of a scene; truth about it, and the item."""
    made = date + dt.timedelta(days=9)
    item_id = f"LC0{satellite}_L2SP_{PATH}{ROW}_{date:%Y%m%d}_02_T1"
    product = f"LC0{satellite}_L2SP_{PATH}{ROW}_{date:%Y%m%d}_{made:%Y%m%d}_02_T1"
    folder = root / COLLECTION.collection_id / item_id
    folder.mkdir(parents=True)
    assets = {}
    for key, (suffix, title, band, centre, width) in ASSETS.items():
        name, warm = f"{product}_{suffix}.TIF", key == "lwir11"
        rule = KELVIN if warm else REFLECTANCE
        values = scene.kelvin if warm else scene.bands["nir" if key == "nir08" else key]
        write_cog(folder / name, stored(values, rule)[None], grid)
        about = {"nodata": 0, "data_type": "uint16", "scale": rule[0], "offset": rule[1]}
        assets[key] = cog_asset(name, title, ("temperature" if warm else "reflectance",)) | {
            "eo:bands": [{"name": band, "common_name": key, "center_wavelength": centre, "full_width_half_max": width}],
            "raster:bands": [about | ({"unit": "kelvin", "spatial_resolution": 30} if warm else {})],
        }
    for key, (suffix, title, roles) in QUALITY.items():
        name = f"{product}_{suffix}.TIF"
        words = scene.quality if key == "qa_pixel" else np.zeros_like(scene.quality)
        write_cog(folder / name, words[None], grid, nodata=FILL if key == "qa_pixel" else None)
        about = {"data_type": "uint16", "unit": "bit index"}
        assets[key] = cog_asset(name, title, roles) | {"raster:bands": [about]}
    about_item = item(item_id, COLLECTION, grid, _properties(date, made, satellite, scene, grid), assets, EXTENSIONS)
    write_json(folder / f"{item_id}.json", about_item)
    return _truth(item_id, scene), about_item


def _truth(item_id: str, scene: LandsatScene) -> dict[str, Any]:
    down, right = scene.shift_m
    cloudy, shadowed = scene.opacity > sky.SEEN_FROM, scene.shadow > sky.SHADOW_FROM
    return {
        "item_id": item_id,
        "sensor": "landsat",
        "shift_x_m": round(right, 3),
        "shift_y_m": round(-down, 3),
        "cloud_share": round(float(cloudy.mean()), 4),
        "shadow_share": round(float((shadowed & ~cloudy).mean()), 4),
        "missed_cloud": None if scene.missed_cloud is None else round(scene.missed_cloud, 4),
        "missed_shadow": None if scene.missed_shadow is None else round(scene.missed_shadow, 4),
    }


def _properties(date: dt.date, made: dt.date, satellite: int, scene: LandsatScene, grid: Grid) -> dict[str, Any]:
    cloud = round(100 * float((scene.quality & (CLOUD | CIRRUS) != 0).mean()), 2)
    return {
        "datetime": text(dt.datetime.combine(date, TIME, dt.UTC)),
        "created": text(dt.datetime.combine(made, dt.time(15), dt.UTC)),
        "platform": f"landsat-{satellite}", "instruments": ["oli", "tirs"], "gsd": int(PIXEL_M),
        "description": "Landsat Collection 2 Level-2", "eo:cloud_cover": cloud, "view:off_nadir": 0,
        "view:sun_elevation": round(scene.sun_elevation, 6), "view:sun_azimuth": round(scene.sun_azimuth, 6),
        "proj:epsg": grid.epsg, "proj:shape": [grid.rows, grid.cols],
        "proj:transform": [grid.pixel_m, 0.0, grid.left, 0.0, -grid.pixel_m, grid.top],
        "landsat:cloud_cover_land": cloud, "landsat:wrs_type": "2", "landsat:wrs_path": PATH, "landsat:wrs_row": ROW,
        "landsat:collection_category": "T1", "landsat:collection_number": "02", "landsat:correction": "L2SP",
        "landsat:scene_id": f"LC{satellite}{PATH}{ROW}{date:%Y%j}LGN00",
    }  # fmt: skip

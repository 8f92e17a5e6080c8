"""Writes looks of Sentinel-2 as a static STAC catalogue, in the form that Earth Search v1 gives its items.

Each item says for itself how its numbers become reflectance, and both ways occur: before processing baseline 04.00
without an offset, from it on with an offset of -0.1.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.crs import CRS

from compoundwatch.errors import OutputError
from compoundwatch.grid import Grid, Tile, project
from compoundwatch.simulate.fields import Float32
from compoundwatch.simulate.sentinel2 import CIRRUS, HIGH, MEDIUM, SHADOW, Scene

COLLECTION = "sentinel-2-l2a"
STAC_VERSION = "1.0.0"
SCALE, OFFSET, OFFSET_SINCE = 0.0001, -0.1, "04.00"
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
SMALL, BLOCK = 512, 256
"""Sides in pixels: of pictures that need no overviews, and of their tiles."""
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


def stored(reflectance: Float32, offset: float) -> npt.NDArray[np.uint16]:
    """Reflectance as the numbers in the file: uint16, never 0, which means "no data"."""
    return np.asarray(np.clip(np.rint((reflectance - offset) / SCALE), 1, 65535), dtype=np.uint16)


def write_granule(root: Path, granule: Granule, scene: Scene, grid: Grid) -> dict[str, Any]:
    """Write the pictures and the item of a granule below ``root``; returns the item."""
    folder = root / COLLECTION / granule.item_id
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
    item = _item(granule, scene, codes, part, assets)
    write_json(folder / f"{granule.item_id}.json", item)
    return item


def write_cog(path: Path, values: npt.NDArray[Any], grid: Grid, names: Sequence[str] = ()) -> None:
    """Write (bands, rows, cols) as a cloud-optimised GeoTIFF with nodata 0."""
    profile = {
        "dtype": values.dtype.name, "count": values.shape[0], "height": grid.rows, "width": grid.cols,
        "crs": CRS.from_epsg(grid.epsg), "transform": grid.transform, "nodata": 0, "compress": "DEFLATE",
    }  # fmt: skip
    wide = values.dtype.itemsize > 1
    if names or max(grid.shape) > SMALL:
        profile |= {"driver": "COG", "blocksize": SMALL, "predictor": "STANDARD" if wide else "NO"}
    else:  # without overviews a tiled GeoTIFF is cloud-optimised as it is, and twice as fast to write
        profile |= {"driver": "GTiff", "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK}
        profile |= {"predictor": 2 if wide else 1}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
        for k, name in enumerate(names):
            file.set_band_description(k + 1, name)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON the same way everywhere."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def write_catalog(root: Path, items: Sequence[Mapping[str, Any]], grid: Grid, title: str, note: str) -> None:
    """Write the catalogue and its one collection around items that are there already."""
    west, south, east, north = grid.lonlat_bounds
    times = sorted(item["properties"]["datetime"] for item in items)
    top = {"rel": "root", "href": "../catalog.json", "type": "application/json"}
    collection = {
        "type": "Collection", "stac_version": STAC_VERSION, "id": COLLECTION, "title": f"{title}: Sentinel-2 level 2A",
        "description": note, "license": "CC0-1.0", "keywords": ["simulated", "Sentinel-2", "level 2A"],
        "extent": {
            "spatial": {"bbox": [[round(v, 7) for v in (west, south, east, north)]]},
            "temporal": {"interval": [[times[0], times[-1]]]},
        },
        "links": [
            top, {**top, "rel": "parent"},
            *(
                {"rel": "item", "href": f"./{i['id']}/{i['id']}.json", "type": "application/geo+json"} for i in items
            ),
        ],
    }  # fmt: skip
    write_json(root / COLLECTION / "collection.json", collection)
    catalog = {
        "type": "Catalog", "stac_version": STAC_VERSION, "id": "simulated-region", "title": title, "description": note,
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            {"rel": "child", "href": f"./{COLLECTION}/collection.json", "type": "application/json"},
        ],
    }  # fmt: skip
    write_json(root / "catalog.json", catalog)


def outline(grid: Grid) -> tuple[dict[str, Any], list[float]]:
    """Footprint of a grid as GeoJSON geometry and bounding box, longitude and latitude."""
    shape = project(shapely.box(*grid.bounds, ccw=True), grid.epsg, 4326)
    ring = [[round(x, 7), round(y, 7)] for x, y in shape.exterior.coords]
    return {"type": "Polygon", "coordinates": [ring]}, [round(v, 7) for v in shape.bounds]


def _asset(key: str, name: str, grid: Grid, offset: float) -> dict[str, Any]:
    _, title, centre, width = ASSETS[key]
    raster: dict[str, Any] = {"nodata": 0, "data_type": "uint8", "spatial_resolution": int(grid.pixel_m)}
    asset: dict[str, Any] = {"href": f"./{name}", "type": COG_TYPE, "title": title}
    if centre is None:
        asset |= {"roles": ["data"]}
    else:
        about = {"name": key, "common_name": key, "description": title, "center_wavelength": centre}
        asset |= {"eo:bands": [about | {"full_width_half_max": width}], "roles": ["data", "reflectance"]}
        raster |= {"data_type": "uint16", "bits_per_sample": 15, "scale": SCALE, "offset": offset}
    return asset | {
        "gsd": int(grid.pixel_m),
        "proj:shape": [grid.rows, grid.cols],
        "proj:transform": [grid.pixel_m, 0, grid.left, 0, -grid.pixel_m, grid.top],
        "raster:bands": [raster],
    }


def _item(
    granule: Granule, scene: Scene, codes: npt.NDArray[np.uint8], grid: Grid, assets: Mapping[str, Any]
) -> dict[str, Any]:
    geometry, bbox = outline(grid)
    time = granule.acquired.strftime("%Y%m%dT%H%M%S")
    made = _text(granule.created)
    squeezed = granule.baseline.replace(".", "")
    properties = {
        "datetime": _text(granule.acquired), "created": made, "updated": made,
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
    up = {"rel": "collection", "href": "../collection.json", "type": "application/json"}
    return {
        "type": "Feature", "stac_version": STAC_VERSION, "stac_extensions": EXTENSIONS, "id": granule.item_id,
        "collection": COLLECTION, "geometry": geometry, "bbox": bbox, "properties": properties,
        "links": [
            {"rel": "root", "href": "../../catalog.json", "type": "application/json"}, {**up, "rel": "parent"}, up,
        ],
        "assets": dict(assets),
    }  # fmt: skip


def _orbit(granule: Granule) -> int:
    """A number that grows with time, as the absolute orbit does."""
    return (granule.acquired.date() - dt.date(2015, 6, 23)).days * 14 + 5


def _percent(codes: npt.NDArray[np.uint8], *wanted: int) -> float:
    return round(100 * float(np.isin(codes, wanted).mean()), 3)


def _text(time: dt.datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


def check_target(folder: Path) -> None:
    """Make sure that a folder is new or empty.

    Raises
    ------
    OutputError : it holds something, or is a file.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"{folder}: expected a new or empty folder, found files in it; choose another folder")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: expected a new or empty folder, found a file; choose another folder")

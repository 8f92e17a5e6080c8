"""Writes static STAC catalogues of made-up pictures: cloud-optimised GeoTIFFs, items, collections."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy.typing as npt
import rasterio
import shapely
from rasterio.crs import CRS

from compoundwatch.errors import OutputError
from compoundwatch.grid import Grid, project

STAC_VERSION = "1.0.0"
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
SMALL, BLOCK = 512, 256
"""Sides in pixels: of pictures that need no overviews, and of their tiles."""

Picture = TypeVar("Picture")
Written = tuple[dict[str, Any], dict[str, Any]]
"""Truth about one item, and the item."""


@dataclass(frozen=True)
class View(Generic[Picture]):
    """One look of a sensor: when, ``look()`` to take it, ``write(root, picture)`` to write its items below a folder.

    ``look`` gives the same picture whenever and wherever it is called.
    """

    time: dt.datetime
    platform: str
    look: Callable[[], Picture]
    write: Callable[[Path, Picture], list[Written]]

    def taken(self, root: Path) -> list[Written]:
        """Take the look and write it; truth about each item, and the item."""
        return self.write(root, self.look())


@dataclass(frozen=True)
class Collection:
    """What a catalogue calls a collection: its id, a title, and keywords."""

    collection_id: str
    title: str
    keywords: tuple[str, ...]


def write_cog(
    path: Path, values: npt.NDArray[Any], grid: Grid, names: Sequence[str] = (), nodata: float | None = 0
) -> None:
    """Write (bands, rows, cols) as a cloud-optimised GeoTIFF; numbers with a fraction are packed in haste."""
    profile = {
        "dtype": values.dtype.name, "count": values.shape[0], "height": grid.rows, "width": grid.cols,
        "crs": CRS.from_epsg(grid.epsg), "transform": grid.transform, "nodata": nodata, "compress": "DEFLATE",
    }  # fmt: skip
    real, wide = values.dtype.kind == "f", values.dtype.itemsize > 1
    if names or max(grid.shape) > SMALL:
        predictor = "FLOATING_POINT" if real else "STANDARD" if wide else "NO"
        profile |= {"driver": "COG", "blocksize": SMALL, "predictor": predictor}
    else:  # without overviews a tiled GeoTIFF is cloud-optimised as it is, and twice as fast to write
        profile |= {"driver": "GTiff", "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK}
        profile |= {"predictor": 3 if real else 2 if wide else 1}
    if real:  # noise does not get smaller with patience
        profile |= {"zlevel": 1} if profile["driver"] == "GTiff" else {"level": 1}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
        for k, name in enumerate(names):
            file.set_band_description(k + 1, name)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON the same way everywhere."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def text(time: dt.datetime) -> str:
    """A time as catalogues write it, to the millisecond."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


def cog_asset(name: str, title: str, roles: Sequence[str]) -> dict[str, Any]:
    """An asset that is a cloud-optimised GeoTIFF beside its item."""
    return {"href": f"./{name}", "type": COG_TYPE, "title": title, "roles": list(roles)}


def item(
    item_id: str,
    collection: Collection,
    grid: Grid,
    properties: Mapping[str, Any],
    assets: Mapping[str, Any],
    extensions: Sequence[str],
) -> dict[str, Any]:
    """An item whose footprint is a grid."""
    geometry, bbox = outline(grid)
    up = {"rel": "collection", "href": "../collection.json", "type": "application/json"}
    return {
        "type": "Feature", "stac_version": STAC_VERSION, "stac_extensions": list(extensions), "id": item_id,
        "collection": collection.collection_id, "geometry": geometry, "bbox": bbox, "properties": dict(properties),
        "links": [
            {"rel": "root", "href": "../../catalog.json", "type": "application/json"}, {**up, "rel": "parent"}, up,
        ],
        "assets": dict(assets),
    }  # fmt: skip


def write_catalog(
    root: Path,
    collections: Sequence[tuple[Collection, Sequence[Mapping[str, Any]]]],
    grid: Grid,
    title: str,
    note: str,
) -> None:
    """Write the catalogue and its collections around items that are there already."""
    for collection, items in collections:
        _write_collection(root, collection, items, grid, title, note)
    catalog = {
        "type": "Catalog", "stac_version": STAC_VERSION, "id": "simulated-region", "title": title, "description": note,
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            *(
                {"rel": "child", "href": f"./{c.collection_id}/collection.json", "type": "application/json"}
                for c, _ in collections
            ),
        ],
    }  # fmt: skip
    write_json(root / "catalog.json", catalog)


def _write_collection(
    root: Path, about: Collection, items: Sequence[Mapping[str, Any]], grid: Grid, title: str, note: str
) -> None:
    west, south, east, north = grid.lonlat_bounds
    times = sorted(i["properties"]["datetime"] for i in items)
    top = {"rel": "root", "href": "../catalog.json", "type": "application/json"}
    collection = {
        "type": "Collection", "stac_version": STAC_VERSION, "id": about.collection_id,
        "title": f"{title}: {about.title}", "description": note, "license": "CC0-1.0",
        "keywords": ["simulated", *about.keywords],
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
    write_json(root / about.collection_id / "collection.json", collection)


def outline(grid: Grid) -> tuple[dict[str, Any], list[float]]:
    """Footprint of a grid as GeoJSON geometry and bounding box, longitude and latitude."""
    shape = project(shapely.box(*grid.bounds, ccw=True), grid.epsg, 4326)
    ring = [[round(x, 7), round(y, 7)] for x, y in shape.exterior.coords]
    return {"type": "Polygon", "coordinates": [ring]}, [round(v, 7) for v in shape.bounds]


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

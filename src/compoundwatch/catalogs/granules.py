"""A folder of VIIRS granules on the longitude-latitude grid, found by their file names alone.

File names are those of the archive (LAADS DAAC): product, day of the year (UTC), tile, collection and time of
production, as in ``VNP46A2.A2025123.h28v07.002.2025130123456.h5``. Tiles are 10 x 10 degrees, counted from 180 degrees
west and 90 degrees north (Black Marble User Guide, Collection 2.0, NASA 2024, chapter 3).

A product's day is a day in UTC. The satellites pass at about 01:30 local solar time, so at each longitude the night
that belongs to a day passes at a fixed hour of it: in Cambodia at about 18:30 UTC, half past one *of the next day*
there. A scene is dated by that hour; its date in UTC is the product's day everywhere on Earth, which east of Greenwich
is the evening on which the night began, and west of it the morning on which it ended.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapely.geometry import box, mapping

from compoundwatch.catalogs.items import choose, folder_rule, to_scenes
from compoundwatch.errors import CatalogError
from compoundwatch.model import Scene, SearchSettings, Sensor, Skipped

TILE_DEGREES = 10.0
CELLS = 2400
OVERPASS_HOUR = 1.5
"""Local solar time of the passes at night, hours."""
PLATFORMS = {"VNP": "snpp", "VJ1": "noaa20", "VJ2": "noaa21"}
"""Satellites by the first letters of their products."""

_NAME = re.compile(
    r"(?P<product>(?P<prefix>VNP|VJ1|VJ2)[0-9A-Z]+)\.A(?P<day>\d{7})\.h(?P<h>\d\d)v(?P<v>\d\d)"
    r"\.(?P<collection>\d{3})\.(?P<produced>\d{13})\.h5"
)


@dataclass(frozen=True)
class Granule:
    """What the name of a granule says. ``day`` is UTC, ``produced`` UTC; the tile is ``column``, ``row``."""

    name: str
    product: str
    platform: str
    day: dt.date
    column: int
    row: int
    collection: str
    produced: dt.datetime

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees."""
        west, north = -180 + TILE_DEGREES * self.column, 90 - TILE_DEGREES * self.row
        return west, north - TILE_DEGREES, west + TILE_DEGREES, north

    @property
    def acquired(self) -> dt.datetime:
        """When the satellite passed the middle of the tile, about (UTC)."""
        middle = self.bounds[0] + TILE_DEGREES / 2
        midnight = dt.datetime.combine(self.day, dt.time(), tzinfo=dt.UTC)
        return midnight + dt.timedelta(hours=(OVERPASS_HOUR - middle / 15) % 24)


def parse_name(name: str) -> Granule | None:
    """The granule of a file name, None where it is not the name of one."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    column, row = int(match["h"]), int(match["v"])
    try:
        day = dt.datetime.strptime(match["day"], "%Y%j").date()
        produced = dt.datetime.strptime(match["produced"], "%Y%j%H%M%S").replace(tzinfo=dt.UTC)
    except ValueError:
        return None
    whole = f"{day:%Y%j}{produced:%Y%j}" == match["day"] + match["produced"][:7]  # a 366th day of 365 is none
    if not whole or column >= 36 or row >= 18:
        return None
    platform = PLATFORMS[match["prefix"]]
    return Granule(name, match["product"], platform, day, column, row, match["collection"], produced)


def covers(granule: Granule, bounds: tuple[float, float, float, float], start: dt.date, end: dt.date) -> bool:
    """Whether a granule lies over west, south, east, north (degrees) and in the days from ``start`` to ``end``."""
    west, south, east, north = granule.bounds
    over = west <= bounds[2] and bounds[0] <= east and south <= bounds[3] and bounds[1] <= north
    return over and start <= granule.day <= end


def tiles(bounds: tuple[float, float, float, float]) -> frozenset[tuple[int, int]]:
    """Column and row of the tiles over west, south, east, north (degrees)."""
    west, south, east, north = bounds
    columns = range(math.floor((west + 180) / TILE_DEGREES), math.floor((east + 180) / TILE_DEGREES) + 1)
    rows = range(math.floor((90 - north) / TILE_DEGREES), math.floor((90 - south) / TILE_DEGREES) + 1)
    return frozenset((column, row) for column in columns for row in rows)


class GranuleFolder:
    """The granules that lie in a folder and its subfolders."""

    def __init__(self, path: Path) -> None:
        self.name = path.resolve().name
        self._path = path
        self._found: list[tuple[Granule, Path]] | None = None
        self._strange: list[Skipped] = []
        self._scenes: dict[str, tuple[list[Scene], list[Skipped]]] = {}

    def granules(self) -> list[tuple[Granule, Path]]:
        """Every granule with its path, read once, sorted by path.

        Raises
        ------
        CatalogError : the folder cannot be read.
        """
        if self._found is None:
            found = []
            try:
                paths = sorted(p for p in self._path.rglob("*.h5") if p.is_file())
            except OSError as error:
                raise CatalogError(f"folder {self._path} cannot be read ({type(error).__name__})") from error
            for path in paths:
                if granule := parse_name(path.name):
                    found.append((granule, path))
                else:
                    reason = "its name is not that of a granule, as VNP46A2.A2025123.h28v07.002.2025130123456.h5 is"
                    self._strange.append(Skipped(path.name, "search", reason))
            self._found = found
        return self._found

    def serves(self, sensor: Sensor) -> bool:
        """Whether the folder holds a granule of the sensor; see ``catalogs.Catalog``."""
        return any(granule.product in sensor.collections for granule, _ in self.granules())

    def search(
        self,
        bounds: tuple[float, float, float, float],
        start: dt.date,
        end: dt.date,
        sensor: Sensor,
        settings: SearchSettings,
    ) -> tuple[list[Scene], list[Skipped]]:
        """Scenes over a place and time; see ``catalogs.Catalog``."""
        if sensor.name not in self._scenes:  # a region has many sites, and a year many nights
            items = to_items(self.granules(), sensor)
            self._scenes[sensor.name] = to_scenes(items, sensor, self.name, folder_rule(self._path))
        scenes, skipped = self._scenes[sensor.name]
        kept, left = choose(scenes, bounds, start, end, sensor, settings, self.name)
        return kept, skipped + left + self._strange


def to_items(granules: Iterable[tuple[Granule, Path]], sensor: Sensor) -> list[dict[str, Any]]:
    """Granules as STAC items of the sensor's bands, each band a layer of the one file."""
    return [_item(granule, path, sensor) for granule, path in granules]


def _item(granule: Granule, path: Path, sensor: Sensor) -> dict[str, Any]:
    size = TILE_DEGREES / CELLS
    west, _, _, north = granule.bounds
    asset = {"href": path.resolve().as_uri(), "proj:transform": [size, 0.0, west, 0.0, -size, north]}
    return {
        "id": granule.name.removesuffix(".h5"),
        "collection": granule.product,
        "geometry": mapping(box(*granule.bounds)),
        "properties": {
            "datetime": granule.acquired.isoformat(),
            "platform": granule.platform,
            "grid:code": f"h{granule.column:02d}v{granule.row:02d}",
            "processing:version": granule.collection,
            "processing:datetime": granule.produced.isoformat(),
        },
        "assets": {band.assets[0]: asset for band in sensor.bands},
    }

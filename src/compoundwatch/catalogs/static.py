"""A static STAC catalogue in a folder: the same items as an API gives, without a network."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pystac
from pystac.stac_io import DefaultStacIO

from compoundwatch.catalogs.items import below, choose, folder_rule, to_scenes
from compoundwatch.errors import CatalogError
from compoundwatch.model import Scene, SearchSettings, Sensor, Skipped, shown

MAX_JSON_BYTES = 20_000_000


class _FolderIO(DefaultStacIO):
    """Reads JSON below one folder and nothing else."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root.resolve()

    def read_text_from_href(self, href: str) -> str:
        try:
            path = below(self.root, href)
        except CatalogError:
            raise CatalogError(
                f"catalogue {self.root}: it links to {shown(href)}, which lies outside its folder or is no plain file"
            ) from None
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CatalogError(f"catalogue {self.root}: {path.name} is larger than {MAX_JSON_BYTES // 10**6} MB")
        return path.read_text(encoding="utf-8")


class StaticCatalog:
    """The scenes of a ``catalog.json`` and all it links to."""

    def __init__(self, path: Path) -> None:
        self.name = path.parent.resolve().name
        self._path = path
        self._items: list[dict[str, Any]] | None = None
        self._scenes: dict[str, tuple[list[Scene], list[Skipped]]] = {}

    def items(self) -> list[dict[str, Any]]:
        """All items as dicts with absolute hrefs, read once.

        Raises
        ------
        CatalogError : a file is missing, is no STAC, or lies outside the folder.
        """
        if self._items is None:
            try:
                io = _FolderIO(self._path.parent)
                catalog = pystac.Catalog.from_file(str(self._path.resolve()), stac_io=io)
                self._items = [_absolute(item) for item in _all_items(catalog)]
            except (
                OSError,
                ValueError,
                pystac.STACError,
                pystac.STACTypeError,
                KeyError,
                TypeError,
                AttributeError,
                RecursionError,
            ) as error:
                if isinstance(error.__cause__, CatalogError):  # pystac wraps what our reader refuses
                    raise error.__cause__ from error
                raise CatalogError(
                    f"catalogue {self._path}: expected a STAC catalogue, found {type(error).__name__}: "
                    f"{shown(str(error), 120)}"
                ) from error
        return self._items

    def serves(self, sensor: Sensor) -> bool:
        """Whether the catalogue has an item of the sensor; see ``catalogs.Catalog``."""
        return any(item.get("collection") in sensor.collections for item in self.items())

    def search(
        self,
        bounds: tuple[float, float, float, float],
        start: dt.date,
        end: dt.date,
        sensor: Sensor,
        settings: SearchSettings,
    ) -> tuple[list[Scene], list[Skipped]]:
        """Scenes over a place and time; see ``catalogs.Catalog``."""
        if sensor.name not in self._scenes:  # a region has many sites, and reading items costs more than choosing
            self._scenes[sensor.name] = to_scenes(self.items(), sensor, self.name, folder_rule(self._path.parent))
        scenes, skipped = self._scenes[sensor.name]
        kept, left = choose(scenes, bounds, start, end, sensor, settings, self.name)
        return kept, skipped + left


def _all_items(top: pystac.Catalog) -> Iterator[pystac.Item]:
    """The items of a catalogue and of all below it, each once, also where links lead in circles."""
    waiting, seen = [top], set()
    while waiting:
        catalog = waiting.pop()
        for item in catalog.get_items():
            if item.get_self_href() not in seen:
                seen.add(item.get_self_href())
                yield item
        for child in catalog.get_children():
            if child.get_self_href() not in seen:
                seen.add(child.get_self_href())
                waiting.append(child)


def _absolute(item: pystac.Item) -> dict[str, Any]:
    item.make_asset_hrefs_absolute()
    return item.to_dict(transform_hrefs=False)

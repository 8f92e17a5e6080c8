"""Catalogues of imagery: a STAC API at a URL, a static STAC catalogue or granules in a folder, or NASA's archive.

All give the same kind of scenes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from compoundwatch.errors import SettingsError
from compoundwatch.model import Scene, SearchSettings, Sensor, Skipped

__all__ = ["KNOWN", "Catalog", "open_catalog", "open_catalogs"]

KNOWN: Mapping[str, str] = {
    "earth-search": "https://earth-search.aws.element84.com/v1",
    "planetary-computer": "https://planetarycomputer.microsoft.com/api/stac/v1",
    "earthdata": "https://cmr.earthdata.nasa.gov/search",
}
"""Catalogues by short name, in the order in which they are asked when the user names none. "earthdata" is NASA's
archive of night lights, which has an interface of its own."""


class Catalog(Protocol):
    """Something that can be asked for scenes."""

    @property
    def name(self) -> str:
        """How it is called in results."""
        ...

    def serves(self, sensor: Sensor) -> bool:
        """Whether the catalogue has a collection of the sensor. Raises CatalogError when it cannot be read."""
        ...

    def search(
        self,
        bounds: tuple[float, float, float, float],
        start: dt.date,
        end: dt.date,
        sensor: Sensor,
        settings: SearchSettings,
    ) -> tuple[list[Scene], list[Skipped]]:
        """Scenes of ``sensor`` over west, south, east, north (degrees) from ``start`` to ``end`` (both included, UTC).

        Returns the scenes sorted by time, one per acquisition (the newest processing), and what was left out and why.
        Raises CatalogError when the catalogue cannot be read.
        """
        ...


def open_catalog(location: str | Path, settings: SearchSettings) -> Catalog:
    """Open the catalogue at a URL, a short name of KNOWN, or a path.

    A path is that of a catalog.json, of the folder that holds it, or of a folder with granules; the two may lie beside
    one another.

    Raises
    ------
    SettingsError : nothing is there.
    CatalogError : it is there, but is no STAC catalogue or does not answer.
    """
    if str(location) == "earthdata":
        from compoundwatch.catalogs.earthdata import Earthdata

        return Earthdata(settings)
    text = KNOWN.get(str(location), str(location))
    if text.startswith(("https://", "http://")):
        from compoundwatch.catalogs.stac import StacApi

        return StacApi(text, settings)
    path = Path(text)
    if "://" in text:
        raise SettingsError(f"catalogue {text}: expected an https address or a folder, found another kind of address")
    folder, path = (path, path / "catalog.json") if path.is_dir() else (path.parent, path)
    if path.is_file():
        return _Folder(path)
    if path.name == "catalog.json" and next(folder.rglob("*.h5"), None):
        from compoundwatch.catalogs.granules import GranuleFolder

        return GranuleFolder(folder)
    raise SettingsError(
        f"catalogue {location}: expected a STAC address, one of {', '.join(KNOWN)}, or a folder with a "
        f"catalog.json or with granules (*.h5); found no file {path}"
    )


def open_catalogs(locations: Sequence[str | Path], settings: SearchSettings) -> Catalog:
    """Several catalogues in an order, as one; none named = all of KNOWN.

    The first that has a sensor is asked, the next one where it fails or has gaps. Each is opened when it is needed.

    Raises
    ------
    SettingsError : (when a catalogue is needed) nothing is there.
    """
    from compoundwatch.catalogs.order import InOrder

    return InOrder(locations or list(KNOWN), settings, open_catalog)


class _Folder:
    """A static STAC catalogue, and the granules beside it, which STAC does not describe."""

    def __init__(self, path: Path) -> None:
        from compoundwatch.catalogs.granules import GranuleFolder
        from compoundwatch.catalogs.static import StaticCatalog

        self._items, self._granules = StaticCatalog(path), GranuleFolder(path.parent)
        self.name = self._items.name

    def serves(self, sensor: Sensor) -> bool:
        """Whether one of the two has a collection of the sensor; see ``Catalog``."""
        return self._items.serves(sensor) or self._granules.serves(sensor)

    def search(
        self,
        bounds: tuple[float, float, float, float],
        start: dt.date,
        end: dt.date,
        sensor: Sensor,
        settings: SearchSettings,
    ) -> tuple[list[Scene], list[Skipped]]:
        """Scenes of the items where these have the sensor, else of the granules; see ``Catalog``."""
        described = self._items.serves(sensor) or not self._granules.serves(sensor)
        chosen: Catalog = self._items if described else self._granules
        return chosen.search(bounds, start, end, sensor, settings)

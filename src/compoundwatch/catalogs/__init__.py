"""Catalogues of imagery: a STAC API at a URL, or a static STAC catalogue in a folder. Both give the same scenes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from compoundwatch.errors import SettingsError
from compoundwatch.model import Scene, SearchSettings, Sensor, Skipped

__all__ = ["KNOWN", "Catalog", "open_catalog"]

KNOWN: Mapping[str, str] = {
    "earth-search": "https://earth-search.aws.element84.com/v1",
    "planetary-computer": "https://planetarycomputer.microsoft.com/api/stac/v1",
}
"""Catalogues by short name, in the order in which they are asked when the user names none."""


class Catalog(Protocol):
    """Something that can be asked for scenes."""

    name: str

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
    """Open the catalogue at a URL, a short name of KNOWN, or a path (a catalog.json or the folder that holds it).

    Raises
    ------
    SettingsError : nothing is there.
    CatalogError : it is there, but is no STAC catalogue or does not answer.
    """
    text = KNOWN.get(str(location), str(location))
    if text.startswith(("https://", "http://")):
        from compoundwatch.catalogs.stac import StacApi

        return StacApi(text, settings)
    path = Path(text)
    if "://" in text:
        raise SettingsError(f"catalogue {text}: expected an https address or a folder, found another kind of address")
    path = path / "catalog.json" if path.is_dir() else path
    if not path.is_file():
        raise SettingsError(
            f"catalogue {location}: expected a STAC address, one of {', '.join(KNOWN)}, or a folder with a "
            f"catalog.json; found no file {path}"
        )
    from compoundwatch.catalogs.static import StaticCatalog

    return StaticCatalog(path)

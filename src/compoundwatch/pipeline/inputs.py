"""What a run starts from: areas, events and settings of the user, and a record of them for the result."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import platform
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compoundwatch import aoi, events
from compoundwatch.errors import SettingsError
from compoundwatch.model import AreaOfInterest, InputFile, Provenance, Settings


def read_settings(path: Path | None) -> Settings:
    """Settings from a TOML file; the defaults without one.

    Raises
    ------
    SettingsError : the file cannot be read, is no TOML, or has an unknown key or a value out of range.
    """
    if path is None:
        return Settings()
    try:
        return Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings {path}: cannot be read ({type(error).__name__})") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"settings {path}: expected TOML, found {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise SettingsError(f"settings {path}: key '{where}': {first['msg']}, found {first['input']!r:.80}") from error


def read_area(path: Path, events_path: Path | None = None) -> AreaOfInterest:
    """Areas from a GeoJSON file, with the events of a CSV file.

    Parameters
    ----------
    path : GeoJSON of sites and controls, longitude and latitude (docs/areas.md).
    events_path : CSV of dated, sourced events (docs/verdicts.md); None = no events.

    Raises
    ------
    AreaError : one of the files is wrong; the message says where.
    """
    area = aoi.read_areas(path)
    if events_path is None:
        return area
    return replace(area, events=events.read_events(events_path, area))


SOFTWARE = (
    "compoundwatch",
    "numpy",
    "scipy",
    "numba",
    "pandas",
    "xarray",
    "rasterio",
    "pyogrio",
    "shapely",
    "pyproj",
    "h5py",
    "pystac",
    "pystac-client",
    "scikit-image",
    "pydantic",
)


def provenance(
    settings: Settings, now: dt.datetime, inputs: Mapping[str, str], files: Sequence[InputFile] = ()
) -> Provenance:
    """Which software, settings and inputs a result rests on."""
    import rasterio

    values = settings.model_dump(mode="json")
    key = _digest(json.dumps(values, sort_keys=True).encode())[:16]
    run = _digest(json.dumps([key, dict(inputs)], sort_keys=True).encode())[:8]
    software = {"python": platform.python_version()}
    for name in SOFTWARE:
        try:
            software[name] = version(name)
        except PackageNotFoundError:
            continue
    software |= {"gdal": rasterio.__gdal_version__, "system": f"{platform.system()} {platform.machine()}"}
    return Provenance(f"{now:%Y%m%dT%H%M%SZ}-{run}", now, software, values, key, dict(inputs), tuple(files))


def check_outside(target: Path, folder: Path, what: str) -> None:
    """Refuse to write ``what`` ("file", "folder") into a result.

    Raises
    ------
    SettingsError : ``target`` lies in it.
    """
    if target.resolve().is_relative_to(folder.resolve()):
        raise SettingsError(
            f"{target}: expected a {what} outside of the result, whose manifest vouches for every file in it; choose "
            "another place"
        )


def input_files(**files: Any) -> tuple[InputFile, ...]:
    """Every input that is a file, with its size and SHA-256."""
    found = []
    for role, file in files.items():
        if isinstance(file, str | Path) and Path(file).is_file():
            with Path(file).open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
                found.append(InputFile(role, Path(file).name, handle.tell(), digest))
    return tuple(found)


def named(files: Iterable[InputFile]) -> dict[str, str]:
    """Input files in words, by what they were for."""
    return {file.role: f"{file.name} sha256:{file.sha256}" for file in files}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def day_number(date: dt.date) -> int:
    """Days since 1970-01-01."""
    return (date - dt.date(1970, 1, 1)).days

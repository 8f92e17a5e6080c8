"""True-colour pictures of the sites as cloud-optimised GeoTIFF with an alpha band, written and read back."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compoundwatch.errors import OutputError, SettingsError
from compoundwatch.grid import Grid
from compoundwatch.model import Picture, WatchResult
from compoundwatch.outputs.manifest import plain, utc
from compoundwatch.outputs.raster import safe_name

PICTURES = "pictures"
MAX_SIDE = 4096
"""Pixels; a picture that claims to be larger was not written here and is not read."""
WHEN = ("before", "after", "between")
"""What a picture is to its site: the last clear one before and after the end of the reference period, or another."""


def write_pictures(folder: Path, result: WatchResult, tags: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Write pictures/<site>_<sensor>_<YYYYMMDD>.tif for every picture of a site; pixels not seen are transparent.

    Returns
    -------
    what each file holds ("site_id", "sensor", "scene_id", "acquired", "when"), by its path relative to ``folder``.

    Raises
    ------
    OutputError : a file cannot be written.
    """
    written: dict[str, dict[str, Any]] = {}
    for site in result.area.targets:
        before, after = result.pictures.get(site.site_id, (None, None))
        chosen = [(before, "before"), (after, "after")]
        chosen += [(p, "between") for p in result.frames.get(site.site_id, ()) if p is not before and p is not after]
        for picture, when in chosen:
            if picture is None:
                continue
            day = f"{utc(picture.acquired):%Y%m%d}"
            path = f"{PICTURES}/{safe_name(site.site_id)}_{safe_name(picture.sensor)}_{day}.tif"
            if path in written:
                continue
            about = {
                "site_id": site.site_id,
                "sensor": picture.sensor,
                "scene_id": picture.scene_id,
                "acquired": plain(picture.acquired),
                "when": when,
            }
            _write(folder / path, picture, {**tags, **about})
            written[path] = about
    return written


def _write(path: Path, picture: Picture, tags: Mapping[str, Any]) -> None:
    from rasterio.enums import ColorInterp
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile

    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "COG",
        "height": picture.grid.rows,
        "width": picture.grid.cols,
        "count": 4,
        "dtype": "uint8",
        "crs": f"EPSG:{picture.grid.epsg}",
        "transform": picture.grid.transform,
        "compress": "deflate",
        "predictor": "yes",
    }
    alpha = np.where(picture.seen, 255, 0).astype(np.uint8)
    try:
        with MemoryFile() as memory:
            with memory.open(**profile) as file:
                file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
                file.write(np.moveaxis(np.dstack([picture.rgb, alpha]), 2, 0))
                file.update_tags(**{key.upper(): str(value) for key, value in tags.items()})
            path.write_bytes(memory.read())
    except (RasterioError, OSError) as error:
        raise OutputError(f"{path.name} cannot be written: {error}") from error


def read_pictures(folder: Path, outputs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, Picture]]:
    """Site id, when (one of WHEN) and picture of every file of ``write_pictures``, oldest first within a site.

    Parameters
    ----------
    outputs : the member of that name of the manifest.

    Raises
    ------
    SettingsError : a picture that the manifest lists cannot be read or is not what it should be.
    """
    paths = [(str(entry.get("path", "")), entry) for entry in outputs]
    listed = [entry for path, entry in paths if path.startswith(f"{PICTURES}/") and not path.endswith(".qml")]
    for entry in sorted(listed, key=lambda e: (str(e.get("site_id")), str(e.get("acquired")))):
        path = folder / entry["path"]
        if not re.fullmatch(rf"{PICTURES}/[a-z0-9_-]+\.tif", entry["path"]) or entry.get("when") not in WHEN:
            raise SettingsError(
                f"{folder}: the manifest lists a picture that compoundwatch does not write; watch again"
            )
        yield str(entry["site_id"]), str(entry["when"]), _read(path, entry)


def _read(path: Path, entry: Mapping[str, Any]) -> Picture:
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.open(path, driver="GTiff") as file:
            if file.count != 4 or max(file.shape) > MAX_SIDE or file.dtypes[0] != "uint8" or file.crs is None:
                raise SettingsError(f"{path}: expected colours and alpha of at most {MAX_SIDE} pixels; watch again")
            bands = file.read()
            left, top, size = file.transform.c, file.transform.f, file.transform.a
            grid = Grid(int(file.crs.to_epsg() or 0), left, top, size, *file.shape)
        acquired = utc(dt.datetime.fromisoformat(str(entry["acquired"])))
    except (RasterioError, OSError, KeyError, ValueError) as error:
        raise SettingsError(f"{path}: a picture that cannot be read ({error}); watch again") from error
    return Picture(
        str(entry["scene_id"]), str(entry["sensor"]), acquired, grid, np.moveaxis(bands[:3], 0, 2), bands[3] == 255
    )

"""Change maps as cloud-optimised GeoTIFF. Only this module knows which numbers stand for "missing" in a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compoundwatch.errors import OutputError
from compoundwatch.model import PairChange, SiteChange

if TYPE_CHECKING:
    from affine import Affine

NODATA_DIRECTION = -128
NODATA_DATE = 0
"""Dates are whole numbers YYYYMMDD, so that a map's pixel reads as a date; 0 is none."""


@dataclass(frozen=True)
class Raster:
    """One band to write: its values, the number that stands for missing, its unit, and what it says."""

    values: npt.NDArray[Any]
    nodata: float
    unit: str
    title: str


def safe_name(text: str) -> str:
    """A name for files on any system that differs wherever the texts differ.

    Letters a-z, digits, "-" and "_" stay; everything else becomes "-". Where that changed the text, where it is longer
    than 40 characters, or where it looks like such a name already, "-" and twelve hexadecimal digits of the SHA-256 of
    the text follow; so do capitals, which some systems do not tell from small letters.
    """
    name = re.sub(r"[^a-z0-9_-]", "-", text.lower())[:40].strip("-") or "site"
    if name == text and not re.search(r"-[0-9a-f]{12}$", text):
        return name
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def change_rasters(change: SiteChange) -> dict[str, Raster]:
    """The layers of a change map that a map reader needs, by the name they have in file names."""
    layer = {str(name): values.values for name, values in change.change_map.data_vars.items()}
    what = f"{change.sensor} {change.feature}"
    return {
        "direction": Raster(
            direction_values(layer["direction"], layer["p_value"]),
            NODATA_DIRECTION,
            "",
            f"{what}: 1 = more after than before, -1 = less, 0 = no change; nodata = not tested",
        ),
        "statistic": Raster(layer["statistic"], np.nan, "", f"{what}: statistic of {change.detector}, signed"),
        "p_value": Raster(layer["p_value"], np.nan, "", f"{what}: p-value, 0-1; nodata = not tested"),
        "effect": Raster(layer["effect"], np.nan, change.unit, f"{what}: change; positive = more after than before"),
        "date": Raster(date_values(layer["date"]), NODATA_DATE, "", f"{what}: day of the change, YYYYMMDD"),
        "date_earliest": Raster(
            date_values(layer["date_earliest"]), NODATA_DATE, "", f"{what}: last view before the change, YYYYMMDD"
        ),
        "date_latest": Raster(
            date_values(layer["date_latest"]), NODATA_DATE, "", f"{what}: first view after the change, YYYYMMDD"
        ),
    }


def pair_rasters(change: PairChange, detector: str) -> dict[str, Raster]:
    """The maps of a comparison of two images, by their file names."""
    return {
        "direction": Raster(
            direction_values(change.direction, change.p_value),
            NODATA_DIRECTION,
            "",
            "1 = more after than before, -1 = less, 0 = no change; nodata = not tested",
        ),
        "statistic": Raster(change.statistic.astype(np.float32), np.nan, "", f"statistic of {detector}"),
        "p_value": Raster(change.p_value.astype(np.float32), np.nan, "", "p-value, 0-1; nodata = not tested"),
    }


def direction_values(direction: npt.NDArray[Any], p_value: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Directions -1, 0, +1 as int8 of any shape, NODATA_DIRECTION where the p-value is NaN, that is, not tested."""
    return np.where(np.isnan(p_value), NODATA_DIRECTION, direction).astype(np.int8)


def date_values(dates: npt.NDArray[np.datetime64]) -> npt.NDArray[np.int32]:
    """Dates as int32 YYYYMMDD of any shape, NODATA_DATE for NaT."""
    known = ~np.isnat(dates)
    days = np.where(known, dates, np.datetime64(0, "D")).astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    year = months.astype("datetime64[Y]").astype(np.int64) + 1970
    month = months.astype(np.int64) % 12 + 1
    day = (days - months).astype(np.int64) + 1
    return np.where(known, year * 10000 + month * 100 + day, NODATA_DATE).astype(np.int32)


def write_changes(
    folder: Path, changes: Sequence[SiteChange], tags: Mapping[str, str]
) -> dict[str, dict[str, str | float]]:
    """Write rasters/<site>_<sensor>_<feature>_<layer>.tif for every change map.

    Returns
    -------
    what each file holds, by its path relative to ``folder``.

    Raises
    ------
    OutputError : a file cannot be written, or two change maps would get the same file name.
    """
    written: dict[str, dict[str, str | float]] = {}
    for change in changes:
        stem = "_".join(safe_name(part) for part in (change.site_id, change.sensor, change.feature))
        for name, raster in change_rasters(change).items():
            path = f"rasters/{stem}_{name}.tif"
            if path in written:
                raise OutputError(
                    f"two change maps would be written to {path}: there are two of site '{change.site_id}', sensor "
                    f"{change.sensor}, feature {change.feature}"
                )
            about: dict[str, str | float] = {
                "site_id": change.site_id,
                "sensor": change.sensor,
                "feature": change.feature,
                "layer": name,
                "detector": change.detector,
                "alpha": change.alpha,
            }
            write_cog(folder / path, raster, change.grid.transform, f"EPSG:{change.grid.epsg}", {**tags, **about})
            written[path] = about
    return written


def write_cog(path: Path, raster: Raster, transform: Affine | None, crs: str | None, tags: Mapping[str, Any]) -> None:
    """Write one band as a cloud-optimised GeoTIFF; its overviews hold true values of the map, not averages.

    Parameters
    ----------
    raster : values (rows, cols).
    transform, crs : the place of the pixels; None = no place on the map.
    tags : written into the file's metadata, names in capitals.

    Raises
    ------
    OutputError : the file cannot be written.
    """
    import warnings

    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.io import MemoryFile

    path.parent.mkdir(parents=True, exist_ok=True)
    rows, cols = raster.values.shape
    profile = {
        "driver": "COG",
        "height": rows,
        "width": cols,
        "count": 1,
        "dtype": raster.values.dtype.name,
        "nodata": raster.nodata,
        "crs": crs,
        "compress": "deflate",
        "predictor": "yes",
        "overview_resampling": "nearest",
        "bigtiff": "if_safer",
    }
    if transform is not None:
        profile["transform"] = transform
    try:
        with warnings.catch_warnings(), MemoryFile() as memory:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with memory.open(**profile) as file:
                file.write(raster.values, 1)
                file.set_band_description(1, raster.title)
                file.update_tags(**{key.upper(): str(value) for key, value in tags.items()})
                if raster.unit:
                    file.units = (raster.unit,)
            # Written by Python, which tells of a full disk where GDAL may only log it.
            path.write_bytes(memory.read())
    except (RasterioError, OSError) as error:
        raise OutputError(f"{path.name} cannot be written: {error}") from error

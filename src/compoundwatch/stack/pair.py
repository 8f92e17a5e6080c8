"""Two images of one place: read as they are, checked that they fit, and asked which pixels a polygon holds."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from compoundwatch.errors import GridMismatch, StackError
from compoundwatch.model import BoolArray, FloatArray

SIGNATURES = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\x89PNG": "PNG",
    b"\0\0\0\x0c": "JP2OpenJPEG",
    b"\xffO\xffQ": "JP2OpenJPEG",
}
"""First four bytes of the kinds of file that are read, and GDAL's driver; no other driver is ever asked."""
TELLING = re.compile("platform|satellite|sensor|instrument|mission|polari[sz]ation", re.IGNORECASE)
"""Tags of a file that tell what took the image."""
MAX_VALUES = 2_000_000_000
"""Refuse images with more numbers than this (rows x cols x bands)."""


@dataclass(frozen=True)
class Image:
    """An image: ``values`` float32 (bands, rows, cols), NaN = no data; its place, None where it has none.

    ``names`` is what the file says of what it shows: its own name, names of bands, platform, polarisation.
    """

    path: Path
    values: FloatArray
    transform: Affine | None
    crs: str | None
    names: tuple[str, ...] = ()


def read_image(path: Path) -> Image:
    """Read a GeoTIFF, JPEG 2000 or PNG with any number of bands of whole or floating-point numbers.

    An alpha band and the file's nodata value become NaN; bands that all hold the same numbers (a grey picture saved
    with three channels) are read as one.

    Raises
    ------
    StackError : the file is missing, is none of these kinds, or is too large.
    """
    if not path.is_file():
        raise StackError(f"{path}: expected an image file, found nothing there")
    with path.open("rb") as file:
        driver = SIGNATURES.get(file.read(4))
    if driver is None:
        raise StackError(f"{path}: expected a GeoTIFF, JPEG 2000 or PNG image, found another kind of file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver=driver) as source:
                if source.width * source.height * source.count > MAX_VALUES:
                    raise StackError(
                        f"{path}: {source.width} x {source.height} x {source.count} is too large to compare"
                    )
                if any(np.dtype(t).kind not in "uif" for t in source.dtypes):
                    raise StackError(f"{path}: expected whole or floating-point numbers, found {source.dtypes[0]}")
                data = source.read(masked=False)
                interp = [c.name for c in source.colorinterp]
                measured = [i for i, name in enumerate(interp) if name != "alpha"]
                values = data[measured].astype(np.float32)
                if source.nodata is not None:
                    values[data[measured] == source.nodata] = np.nan
                if "alpha" in interp:
                    values[:, data[interp.index("alpha")] == 0] = np.nan
                placed = source.crs is not None and source.transform != Affine.identity()
                crs = source.crs.to_wkt() if placed else None
                transform = source.transform if placed else None
                told = [v for k, v in source.tags().items() if TELLING.search(k)]
                names = (path.name, *(n for n in source.descriptions if n), *told)
    except (RasterioError, OSError, ValueError) as error:
        raise StackError(f"{path}: expected a GeoTIFF, JPEG 2000 or PNG image, found a broken one ({error})") from error
    if len(values) > 1 and all(np.array_equal(values[0], band, equal_nan=True) for band in values[1:]):
        values = values[:1]
    values[~np.isfinite(values)] = np.nan
    return Image(path, values, transform, crs, names)


def check_pair(before: Image, after: Image) -> None:
    """Refuse two images that do not lie pixel on pixel.

    Raises
    ------
    GridMismatch : with what differs.
    """
    (b0, r0, c0), (b1, r1, c1) = before.values.shape, after.values.shape
    if (r0, c0) != (r1, c1):
        raise GridMismatch(
            f"{after.path.name} has {c1} x {r1} pixels, {before.path.name} has {c0} x {r0}; cut or warp both to one "
            "grid first (in QGIS: Raster > Projections > Warp)"
        )
    if b0 != b1:
        raise GridMismatch(f"{after.path.name} has {b1} bands, {before.path.name} has {b0}; give both the same bands")
    if (before.crs is None) != (after.crs is None):
        bare = before if before.crs is None else after
        raise GridMismatch(f"{bare.path.name} has no place on the map, the other image has; give both or neither one")
    if before.crs and after.crs and before.transform and after.transform:
        if rasterio.crs.CRS.from_wkt(before.crs) != rasterio.crs.CRS.from_wkt(after.crs):
            raise GridMismatch(f"{after.path.name} and {before.path.name} have different reference systems; warp one")
        if not before.transform.almost_equals(after.transform, precision=1e-3 * abs(before.transform.a)):
            raise GridMismatch(f"{after.path.name} and {before.path.name} cover different places; cut both to one grid")


def polygon_mask(geometry: BaseGeometry, image: Image) -> BoolArray:
    """Which pixels of an image have their centre inside a longitude/latitude polygon: bool (rows, cols).

    Raises
    ------
    StackError : the image has no place on the map.
    """
    if image.crs is None or image.transform is None:
        raise StackError(
            f"{image.path}: areas cannot be laid over an image without a place on the map; leave out --aoi"
        )
    shape = transform_geom("EPSG:4326", image.crs, mapping(geometry))
    return np.asarray(geometry_mask([shape], image.values.shape[1:], image.transform, invert=True))

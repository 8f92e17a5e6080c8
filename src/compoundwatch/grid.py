"""One pixel grid per site: projected, north-up, square pixels, edges on whole multiples of the pixel size.

A grid anchored on multiples of its pixel size coincides with the pixels of Sentinel-2 in the same UTM zone, so their
values need no resampling. The edges of Landsat's 30 m pixels lie 15 m off such multiples: its values are interpolated.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from affine import Affine
from shapely.geometry.base import BaseGeometry

from compoundwatch.errors import AreaError

__all__ = ["Grid", "Tile", "geodesic_area_m2", "pixel_mask", "project", "utm_epsg", "widen"]


@dataclass(frozen=True)
class Tile:
    """A rectangle of pixels of a grid: first row and column, and the counts of both."""

    row: int
    col: int
    rows: int
    cols: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this tile in an array whose last two dimensions are (rows, cols)."""
        return slice(self.row, self.row + self.rows), slice(self.col, self.col + self.cols)


@dataclass(frozen=True)
class Grid:
    """A north-up grid of square pixels in a projected reference system.

    ``epsg`` is the code of a reference system in metres; ``left`` and ``top`` are the outer edges in metres and whole
    multiples of ``pixel_m`` (metres); ``rows`` and ``cols`` are counts.
    """

    epsg: int
    left: float
    top: float
    pixel_m: float
    rows: int
    cols: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.rows, self.cols

    @property
    def transform(self) -> Affine:
        """Affine map from (col, row) to (x, y) in metres."""
        return Affine(self.pixel_m, 0.0, self.left, 0.0, -self.pixel_m, self.top)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in metres."""
        return self.left, self.top - self.rows * self.pixel_m, self.left + self.cols * self.pixel_m, self.top

    @property
    def lonlat_bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in degrees that enclose the whole grid."""
        return transformer(self.epsg, 4326).transform_bounds(*self.bounds)

    @property
    def key(self) -> str:
        """Short hash that is equal for equal grids only."""
        text = f"{self.epsg}|{self.left!r}|{self.top!r}|{self.pixel_m!r}|{self.rows}|{self.cols}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def tiles(self, size: int) -> Iterator[Tile]:
        """Cut the grid into tiles of at most ``size`` x ``size`` pixels, row by row."""
        for row in range(0, self.rows, size):
            for col in range(0, self.cols, size):
                yield Tile(row, col, min(size, self.rows - row), min(size, self.cols - col))

    def part(self, tile: Tile) -> Grid:
        """The grid of one tile."""
        return Grid(
            self.epsg,
            self.left + tile.col * self.pixel_m,
            self.top - tile.row * self.pixel_m,
            self.pixel_m,
            tile.rows,
            tile.cols,
        )

    def centred(self, rows: int, cols: int) -> Grid:
        """A grid of so many rows and columns, fewer or more, about the same middle."""
        return self.part(Tile((self.rows - rows) // 2, (self.cols - cols) // 2, rows, cols))

    @classmethod
    def around(cls, geometry: BaseGeometry, pixel_m: float, margin_m: float = 0.0) -> Grid:
        """Smallest grid in the UTM zone of a geometry that covers it and a margin.

        Parameters
        ----------
        geometry : polygon in longitude and latitude (EPSG:4326).
        pixel_m : pixel size in metres.
        margin_m : extra width on every side in metres.

        Raises
        ------
        AreaError : the geometry is empty or lies beyond UTM (latitudes above 84 or below -80 degrees).
        """
        epsg = utm_epsg(geometry)
        west, south, east, north = project(geometry, 4326, epsg).bounds
        slack = 1e-4  # of a pixel: rounding in the projection must not add a row
        left = math.floor((west - margin_m) / pixel_m + slack) * pixel_m
        top = math.ceil((north + margin_m) / pixel_m - slack) * pixel_m
        cols = max(1, math.ceil((east + margin_m - left) / pixel_m - slack))
        rows = max(1, math.ceil((top - south + margin_m) / pixel_m - slack))
        return cls(epsg, float(left), float(top), float(pixel_m), rows, cols)


@lru_cache(maxsize=64)
def transformer(source: int, target: int) -> pyproj.Transformer:
    """Cached transformer between two EPSG codes, x before y."""
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def project(geometry: BaseGeometry, source: int, target: int) -> BaseGeometry:
    """Move a geometry from one EPSG code to another, x before y."""
    if source == target:
        return geometry
    move = transformer(source, target).transform
    return shapely.transform(geometry, lambda xy: np.column_stack(move(xy[:, 0], xy[:, 1])))


def utm_epsg(geometry: BaseGeometry) -> int:
    """EPSG code of the UTM zone (WGS 84) that holds a geometry's centre.

    Raises
    ------
    AreaError : the geometry is empty or its centre lies beyond UTM.
    """
    if geometry.is_empty:
        raise AreaError("an empty geometry has no place on a grid; draw a polygon or a point with a radius")
    centre = geometry.centroid
    if not -80.0 <= centre.y <= 84.0:
        raise AreaError(f"latitude {centre.y:.3f} lies beyond UTM (-80 to 84 degrees); polar sites are not supported")
    zone = int((centre.x + 180.0) // 6.0) % 60 + 1
    return (32600 if centre.y >= 0 else 32700) + zone


def widen(geometry: BaseGeometry, metres: float) -> BaseGeometry:
    """Buffer a longitude/latitude geometry by a true distance in metres."""
    epsg = utm_epsg(geometry)
    return project(project(geometry, 4326, epsg).buffer(metres), epsg, 4326)


def geodesic_area_m2(geometry: BaseGeometry) -> float:
    """Area of a longitude/latitude polygon on the WGS 84 ellipsoid in square metres."""
    return abs(float(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(geometry)[0]))


def pixel_mask(geometry: BaseGeometry, grid: Grid) -> npt.NDArray[np.bool_]:
    """Which pixels belong to a polygon: those whose centre lies inside it.

    Parameters
    ----------
    geometry : polygon in longitude and latitude (EPSG:4326).
    grid : the pixel grid.

    Returns
    -------
    bool array (rows, cols); all False where the polygon holds no pixel centre.
    """
    from rasterio.features import geometry_mask

    shape = project(geometry, 4326, grid.epsg)
    return np.asarray(geometry_mask([shape], grid.shape, grid.transform, all_touched=False, invert=True))

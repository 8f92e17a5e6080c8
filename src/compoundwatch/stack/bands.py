"""One band of a scene on a grid, in physical units.

A day that lies off the others (``stack.survey`` measures by how much) is read aside by as much, so that its pixels are
resampled once. Where the pixels of a file are those of the grid, by cubic convolution on the pixels of the file:
bilinear interpolation blurs a shifted scene about as much as it improves its place, and takes up to half of the
contrast of single pixels (docs/coregistration.md).
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import reproject, transform_bounds
from rasterio.windows import Window

from compoundwatch.errors import StackError
from compoundwatch.grid import Grid
from compoundwatch.model import Asset, BoolArray, FloatArray, Scene, Sensor
from compoundwatch.stack import hdf5
from compoundwatch.stack.blocks import Form, Raster, raster
from compoundwatch.stack.files import is_remote

if TYPE_CHECKING:
    from compoundwatch.stack.chips import SiteChips

MAX_SOURCE_PIXELS = 40_000_000
"""Refuse to read more pixels than this from one band at once: a guard against absurd rasters."""

MAX_FACTOR = 64
"""Pixels of a file that span more pixels of the grid are resampled, not repeated, which would take memory for each."""
NEAR_THREADS = 2 * (os.cpu_count() or 1)
"""Files of this machine are read by so many threads: more would take memory and turns, not less time."""
TAPS = 2
"""Pixels on each side that cubic convolution needs."""

Aside = tuple[float, float]
"""How far to the east and north of its place a pixel is read, in metres."""
_T = TypeVar("_T")
_R = TypeVar("_R")


class Reader:
    """Reads bands side by side: many days, and within each all bands at once, at most ``threads`` files together."""

    def __init__(self, sensor: Sensor, threads: int, chips: SiteChips | None = None) -> None:
        self._sensor, self._chips = sensor, chips
        self._how = {
            b.name: Resampling.nearest if b.quality or b.nearest else Resampling.bilinear for b in sensor.bands
        }
        self._days = ThreadPoolExecutor(max_workers=max(2, threads // 2))
        self._files = ThreadPoolExecutor(max_workers=threads)
        self._near = ThreadPoolExecutor(max_workers=min(threads, NEAR_THREADS))

    def __enter__(self) -> Reader:
        # rasterio silences this warning while it resamples, which threads undo for one another.
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return self

    def __exit__(self, *failure: object) -> None:
        self._days.shutdown(cancel_futures=True)
        self._files.shutdown(cancel_futures=True)
        self._near.shutdown(cancel_futures=True)
        self._warnings.__exit__(None, None, None)

    def map(self, job: Callable[[_T], _R], parts: Sequence[_T]) -> Iterator[_R]:
        """What a job makes of each part, in their order; jobs may read bands."""
        return self._days.map(job, parts)

    def bands(
        self, scene: Scene, names: Sequence[str], grid: Grid, aside_m: Aside = (0.0, 0.0)
    ) -> dict[str, FloatArray]:
        """Bands of a scene on the grid, each as ``read_band`` gives it.

        Raises
        ------
        StackError : one of them cannot be read or put on the grid.
        """
        far = any(is_remote(scene.assets[n].href) for n in names)
        parts = (self._files if far else self._near).map(
            lambda n: read_band(scene, n, grid, self._how[n], aside_m, self._chips), names
        )
        return dict(zip(names, parts, strict=True))

    def clear(self, scene: Scene, grid: Grid, aside_m: Aside = (0.0, 0.0)) -> BoolArray:
        """Where the quality bands of a scene allow its use: bool (rows, cols).

        Raises
        ------
        StackError : one of them cannot be read or put on the grid.
        """
        if self._sensor.valid is None:
            return np.ones(grid.shape, dtype=bool)
        quality = [b.name for b in self._sensor.bands if b.quality]
        return self._sensor.valid(self.bands(scene, quality, grid, aside_m))


def read_band(
    scene: Scene,
    band: str,
    grid: Grid,
    resampling: Resampling,
    aside_m: Aside = (0.0, 0.0),
    chips: SiteChips | None = None,
) -> FloatArray:
    """One band on the grid: float32 (rows, cols) in physical units, NaN where the file has no data.

    Parameters
    ----------
    aside_m : each pixel is read so many metres to the east and north of its place.
    chips : where pixels of the place are kept.

    Raises
    ------
    StackError : the file cannot be read or put on the grid.
    """
    asset = scene.assets[band]
    try:
        if asset.layer:
            return hdf5.read(asset, grid)
        with chips.raster(scene, band) if chips else raster(asset) as source:
            return _window(source, asset, grid, resampling, aside_m)
    except StackError as error:
        raise StackError(f"scene {scene.scene_id}: band '{band}' cannot be used: {error}") from error
    except (RasterioError, ValueError, OSError, ArithmeticError) as error:
        # The library's message may hold an address, so only its kind is told.
        raise StackError(f"scene {scene.scene_id}: band '{band}' cannot be read ({type(error).__name__})") from error


@dataclass(frozen=True)
class Place:
    """Where a grid lies in a file: the window to read, and how its pixels become those of the grid.

    ``factor`` is the number of grid pixels that one file pixel spans, ``row`` and ``col`` where the window's corner
    lands on the grid; ``factor`` None = to be resampled. ``window`` None = the file does not reach the grid.
    """

    window: Window | None
    factor: int | None
    row: int
    col: int


def _window(source: Raster, asset: Asset, grid: Grid, resampling: Resampling, aside_m: Aside) -> FloatArray:
    form = source.form
    if not form.wkt:
        raise StackError("it has no coordinate reference system")
    right, up = aside_m[0] / grid.pixel_m, aside_m[1] / grid.pixel_m
    reach = math.ceil(max(abs(right), abs(up))) + TAPS if right or up else 0
    at = place(form, grid, reach)
    if at.window is None:
        return _nothing(grid.shape)
    values = _physical(source.read(at.window), asset, form.nodata)
    if factor := at.factor:
        row, col = at.row, at.col
        if reach and resampling is Resampling.nearest:
            row, col = row + round(up), col - round(right)
        elif reach:
            values = _sampled(values, -up / factor, right / factor)
        if factor > 1:
            values = np.repeat(np.repeat(values, factor, axis=0), factor, axis=1)
        return _pasted(values, row, col, grid.shape)
    target = _nothing(grid.shape)
    reproject(
        values,
        target,
        src_transform=Affine(*form.transform) * Affine.translation(at.window.col_off, at.window.row_off),
        src_crs=form.wkt,
        src_nodata=np.nan,
        dst_transform=Affine.translation(*aside_m) * grid.transform,
        dst_crs=f"EPSG:{grid.epsg}",
        dst_nodata=np.nan,
        resampling=resampling,
    )
    return target


def _sampled(values: FloatArray, down: float, right: float) -> FloatArray:
    """Values at places so many pixels down and to the right, by cubic convolution; linear beside missing ones.

    Source: Keys (1981), doi:10.1109/TASSP.1981.1163711.
    """
    cubic = linear = values
    for axis, by in ((0, down), (1, right)):
        whole = math.floor(by)
        t = by - whole
        near = [1 - t, t]
        far = [
            t * (-1 + t * (2 - t)) / 2,
            1 + t**2 * (3 * t - 5) / 2,
            t * (1 + t * (4 - 3 * t)) / 2,
            t**2 * (t - 1) / 2,
        ]
        cubic = _weighted(cubic, far, whole - 1, axis)
        linear = _weighted(linear, near, whole, axis)
    return np.where(np.isnan(cubic), linear, cubic)


def _weighted(values: FloatArray, weights: Sequence[float], first: int, axis: int) -> FloatArray:
    """Sum of weighted neighbours along an axis, from ``first`` on; missing where one that counts is missing."""
    size = values.shape[axis]
    total = np.zeros_like(values)
    for k, weight in enumerate(weights):
        if weight:
            place = np.arange(size) + first + k
            part = values.take(np.clip(place, 0, size - 1), axis=axis)
            outside = (place < 0) | (place >= size)
            part[(slice(None), outside) if axis else outside] = np.nan
            total += np.float32(weight) * part
    return total


def place(form: Form, grid: Grid, reach: int) -> Place:
    """Where a grid lies in a file, with so many grid pixels around it.

    Raises
    ------
    StackError : the file is not north-up, or too large a part of it is needed.
    """
    return _place(form.wkt, form.transform, form.width, form.height, grid, reach)


@lru_cache(maxsize=4096)
def _place(wkt: str, transform: tuple[float, ...], width: int, height: int, grid: Grid, reach: int) -> Place:
    """Cached, because all dates of one band lie alike and comparing reference systems is slow."""
    place, crs = Affine(*transform), CRS.from_wkt(wkt)
    if place.b or place.d or place.a <= 0 or place.e >= 0:
        raise StackError("it is not north-up")
    same = crs.to_epsg() == grid.epsg
    bounds = grid.bounds if same else transform_bounds(f"EPSG:{grid.epsg}", crs, *grid.bounds, densify_pts=5)
    factor = _aligned(place, grid) if same else None
    margin = 0 if factor and not reach else 2 + math.ceil(reach * grid.pixel_m / place.a)
    left = max(0, math.floor((bounds[0] - place.c) / place.a + 1e-6) - margin)
    top = max(0, math.floor((bounds[3] - place.f) / place.e + 1e-6) - margin)
    right = min(width, math.ceil((bounds[2] - place.c) / place.a - 1e-6) + margin)
    bottom = min(height, math.ceil((bounds[1] - place.f) / place.e - 1e-6) + margin)
    if right <= left or bottom <= top:
        return Place(None, None, 0, 0)
    if (right - left) * (bottom - top) > MAX_SOURCE_PIXELS:
        raise StackError(f"the window covers {(right - left) * (bottom - top)} pixels, more than {MAX_SOURCE_PIXELS}")
    x, y = place.c + left * place.a, place.f + top * place.e
    row, col = round((grid.top - y) / grid.pixel_m), round((x - grid.left) / grid.pixel_m)
    return Place(Window(left, top, right - left, bottom - top), factor, row, col)


def _aligned(transform: Affine, grid: Grid) -> int | None:
    """How many grid pixels one source pixel spans, where edges coincide; None where resampling is needed."""
    factor = round(transform.a / grid.pixel_m)
    offsets = ((transform.c - grid.left) / grid.pixel_m, (transform.f - grid.top) / grid.pixel_m)
    square = math.isclose(transform.a, -transform.e, rel_tol=1e-9)
    exact = 1 <= factor <= MAX_FACTOR and square and math.isclose(transform.a, factor * grid.pixel_m, rel_tol=1e-9)
    return factor if exact and all(abs(o - round(o)) < 1e-6 for o in offsets) else None


def _pasted(patch: FloatArray, row: int, col: int, shape: tuple[int, int]) -> FloatArray:
    """``patch`` with its corner at (row, col) of a grid; what sticks out is cut off, what it leaves is missing."""
    r0, c0 = max(0, row), max(0, col)
    r1, c1 = min(shape[0], row + patch.shape[0]), min(shape[1], col + patch.shape[1])
    inside = patch[r0 - row : max(r0, r1) - row, c0 - col : max(c0, c1) - col]
    if inside.shape == shape:
        return inside
    target = _nothing(shape)
    target[r0 : max(r0, r1), c0 : max(c0, c1)] = inside
    return target


def _nothing(shape: tuple[int, int]) -> FloatArray:
    return np.full(shape, np.nan, dtype=np.float32)


def _physical(stored: npt.NDArray[Any], asset: Asset, nodata: float | None) -> FloatArray:
    """Stored numbers to physical values, NaN where either the item or the file says "no data"."""
    rule = asset.calibration
    values = stored.astype(np.float32)
    values *= np.float32(rule.scale)
    values += np.float32(rule.offset)
    for missing in {rule.nodata, nodata} - {None}:
        values[stored == missing] = np.nan
    return values

"""Read, mask and put on one grid: scenes to a stack.

Quality bands are read first; where they leave nothing to use, the other bands are not read at all, which over slow
links and cloudy places saves most of the bytes. Only the pixels of the grid are read.

A day that lies off the others (``stack.survey`` measures by how much) is read aside by as much, so that its pixels are
resampled once. Where the pixels of a file are those of the grid, by cubic convolution on the pixels of the file:
bilinear interpolation blurs a shifted scene about as much as it improves its place, and takes up to half of the
contrast of single pixels (docs/coregistration.md).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import reproject, transform_bounds
from rasterio.windows import Window

from compoundwatch.errors import StackError
from compoundwatch.grid import Grid
from compoundwatch.model import Asset, BoolArray, FloatArray, Picture, Scene, Sensor, Skipped
from compoundwatch.stack import hdf5
from compoundwatch.stack.files import GDAL_OPTIONS, opened

MAX_SOURCE_PIXELS = 40_000_000
"""Refuse to read more pixels than this from one band at once: a guard against absurd rasters."""

MAX_FACTOR = 64
"""Pixels of a file that span more pixels of the grid are resampled, not repeated, which would take memory for each."""
_TAPS = 2
"""Pixels on each side that cubic convolution needs."""

PICTURE_WHITE = 0.30
"""Reflectance that is drawn white in pictures."""


@dataclass(frozen=True)
class Day:
    """The scenes of one look on one day, to be laid over one another; ``day`` counts from 1970-01-01 (UTC).

    ``shift_x_m`` and ``shift_y_m`` say how far to the east and north the pictures lie from those of the other days
    (metres, NaN = not measured); ``moved`` whether reading corrects that; ``aligned`` whether what is read lies on the
    other days, because it was corrected or need not be. ``blank`` days show nothing usable and are not read.
    """

    day: int
    look: str
    scenes: tuple[Scene, ...]
    shift_x_m: float = math.nan
    shift_y_m: float = math.nan
    moved: bool = False
    aligned: bool = False
    blank: bool = False

    @property
    def scene_id(self) -> str:
        """The ids of the scenes, joined."""
        return "+".join(s.scene_id for s in self.scenes)

    @property
    def version(self) -> str:
        """The version of the first scene."""
        return self.scenes[0].version

    @property
    def aside_m(self) -> tuple[float, float]:
        """How far to the east and north of a place its pixels are read, in metres."""
        return (self.shift_x_m, self.shift_y_m) if self.moved else (0.0, 0.0)


def day_number(scene: Scene) -> int:
    """Day of a scene, counted from 1970-01-01 (UTC)."""
    return int(np.datetime64(scene.acquired.date(), "D").astype(np.int64))


def by_day(scenes: Sequence[Scene]) -> list[Day]:
    """Group scenes into same-day mosaics, sorted by day and look."""
    groups: dict[tuple[int, str], list[Scene]] = {}
    for scene in scenes:
        groups.setdefault((day_number(scene), scene.look), []).append(scene)
    return [Day(d, look, tuple(group)) for (d, look), group in sorted(groups.items())]


def load(
    days: Sequence[Day], sensor: Sensor, grid: Grid, threads: int = 8, progress: Callable[[], None] | None = None
) -> tuple[xr.Dataset, list[Skipped]]:
    """Read a stack of features.

    Parameters
    ----------
    days : what to read, from ``by_day`` or ``survey``.
    sensor : how the bands are masked and which features are made of them.
    grid : where the pixels go.
    threads : files read at the same time.
    progress : called once after each day.

    Returns
    -------
    Dataset with the contract of ``model.check_stack`` and the scenes that could not be read, with the reason. A day
    without a usable or readable pixel stays in it, all NaN, so that the tiles of a grid keep equal days.

    Raises
    ------
    StackError : not one scene could be read.
    """
    shape = (len(days), *grid.shape)
    valid = np.zeros(shape, dtype=bool)
    features = {f.name: np.full(shape, np.nan, dtype=np.float32) for f in sensor.features}
    skipped: list[Skipped] = []
    readable = np.ones(len(days), dtype=bool)

    def read(index: int) -> None:
        if days[index].blank:
            return
        bands, usable, failed = _mosaic(days[index], sensor, grid)
        skipped.extend(failed)
        readable[index] = len(failed) < len(days[index].scenes)
        if usable.any():
            made = {f.name: f.formula(bands) for f in sensor.features}
            for f in sensor.features:
                with np.errstate(invalid="ignore"):
                    usable &= (made[f.name] >= f.low) & (made[f.name] <= f.high)
            for name, value in made.items():
                features[name][index] = np.where(usable, value, np.nan)
            valid[index] = usable

    def read_and_tell(index: int) -> None:
        read(index)
        if progress:
            progress()

    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=threads) as pool:
        # rasterio silences this warning while it resamples, which threads undo for one another.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        list(pool.map(read_and_tell, range(len(days))))
    if len(days) and not readable.any():
        raise StackError(f"none of the {len(days)} days could be read; the first reason: {skipped[0].reason}")
    dims = ("time", "y", "x")
    stack = xr.Dataset(
        {name: (dims, cube) for name, cube in features.items()} | {"valid": (dims, valid)},
        coords={
            "day": ("time", np.array([d.day for d in days], dtype=np.int64)),
            "scene_id": ("time", np.array([d.scene_id for d in days], dtype=object)),
            "look": ("time", np.array([d.look for d in days], dtype=object)),
            "version": ("time", np.array([d.version for d in days], dtype=object)),
            "shift_x_m": ("time", np.array([d.shift_x_m for d in days], dtype=np.float32)),
            "shift_y_m": ("time", np.array([d.shift_y_m for d in days], dtype=np.float32)),
            "aligned": ("time", np.array([d.aligned for d in days], dtype=bool)),
        },
        attrs={"grid_key": grid.key, "sensor": sensor.name},
    )
    return stack, sorted(skipped, key=lambda s: s.item_id)


def picture(day: Day, sensor: Sensor, grid: Grid) -> Picture:
    """A true-colour picture of one day; clouds are shown as they are, only missing pixels are not ``seen``.

    Raises
    ------
    StackError : no scene of the day could be read, or the sensor has no true-colour picture.
    """
    if sensor.picture is None:
        raise StackError(f"{sensor.title} has no true-colour picture")
    layers: list[FloatArray] = []
    with rasterio.Env(**GDAL_OPTIONS):
        for name in sensor.picture:
            layer = np.full(grid.shape, np.nan, dtype=np.float32)
            for scene in day.scenes:
                values = read_band(scene, name, grid, Resampling.bilinear, day.aside_m)
                layer = np.where(np.isfinite(layer), layer, values)
            layers.append(layer)
    cube = np.stack(layers, axis=-1)
    seen: BoolArray = np.asarray(np.isfinite(cube).all(axis=-1))
    stretched = np.clip(np.nan_to_num(cube) / PICTURE_WHITE, 0, 1) ** (1 / 1.4)
    rgb = np.where(seen[..., None], np.rint(255 * stretched), 255).astype(np.uint8)
    return Picture(day.scene_id, sensor.name, day.scenes[0].acquired, grid, rgb, seen)


def _mosaic(day: Day, sensor: Sensor, grid: Grid) -> tuple[dict[str, FloatArray], BoolArray, list[Skipped]]:
    """Bands of one day, the first usable scene winning at each pixel; which pixels are usable; what failed."""
    measured = {b.name: Resampling.nearest if b.nearest else Resampling.bilinear for b in sensor.bands if not b.quality}
    bands: dict[str, FloatArray] = {name: np.full(grid.shape, np.nan, dtype=np.float32) for name in measured}
    usable = np.zeros(grid.shape, dtype=bool)
    failed: list[Skipped] = []
    with rasterio.Env(**GDAL_OPTIONS):
        for scene in day.scenes:
            try:
                wanted = clear(scene, sensor, grid, day.aside_m) & ~usable
                if not wanted.any():
                    continue
                values = {name: read_band(scene, name, grid, how, day.aside_m) for name, how in measured.items()}
            except StackError as error:
                failed.append(Skipped(scene.scene_id, "load", str(error)))
                continue
            for layer in values.values():
                wanted &= np.isfinite(layer)
            for name, layer in values.items():
                bands[name][wanted] = layer[wanted]
            usable |= wanted
    return bands, usable, failed


def clear(scene: Scene, sensor: Sensor, grid: Grid, aside_m: tuple[float, float] = (0.0, 0.0)) -> BoolArray:
    """Where the quality bands of a scene allow its use: bool (rows, cols)."""
    if sensor.valid is None:
        return np.ones(grid.shape, dtype=bool)
    quality = [b.name for b in sensor.bands if b.quality]
    return sensor.valid({name: read_band(scene, name, grid, Resampling.nearest, aside_m) for name in quality})


def read_band(
    scene: Scene, band: str, grid: Grid, resampling: Resampling, aside_m: tuple[float, float] = (0.0, 0.0)
) -> FloatArray:
    """One band on the grid: float32 (rows, cols) in physical units, NaN where the file has no data.

    Parameters
    ----------
    aside_m : each pixel is read so many metres to the east and north of its place.

    Raises
    ------
    StackError : the file cannot be read or put on the grid.
    """
    asset = scene.assets[band]
    try:
        if asset.layer:
            return hdf5.read(asset, grid)
        with opened(asset) as source:
            return _window(source, asset, grid, resampling, aside_m)
    except StackError as error:
        raise StackError(f"scene {scene.scene_id}: band '{band}' cannot be used: {error}") from error
    except (RasterioError, ValueError, OSError, ArithmeticError) as error:
        # The library's message may hold an address, so only its kind is told.
        raise StackError(f"scene {scene.scene_id}: band '{band}' cannot be read ({type(error).__name__})") from error


@dataclass(frozen=True)
class _Place:
    """Where a grid lies in a file: the window to read, and how its pixels become those of the grid.

    ``factor`` is the number of grid pixels that one file pixel spans, ``row`` and ``col`` where the window's corner
    lands on the grid; ``factor`` None = to be resampled. ``window`` None = the file does not reach the grid.
    """

    window: Window | None
    factor: int | None
    row: int
    col: int


def _window(source: Any, asset: Asset, grid: Grid, resampling: Resampling, aside_m: tuple[float, float]) -> FloatArray:
    if source.crs is None:
        raise StackError("it has no coordinate reference system")
    form = source.crs.to_wkt(), tuple(source.transform)[:6], source.width, source.height
    right, up = aside_m[0] / grid.pixel_m, aside_m[1] / grid.pixel_m
    reach = math.ceil(max(abs(right), abs(up))) + _TAPS if right or up else 0
    place = _place(*form, grid, reach)
    target = np.full(grid.shape, np.nan, dtype=np.float32)
    if place.window is None:
        return target
    values = _physical(source.read(1, window=place.window), asset, source.nodata)
    if factor := place.factor:
        row, col = place.row, place.col
        if reach and resampling is Resampling.nearest:
            row, col = row + round(up), col - round(right)
        elif reach:
            values = _sampled(values, -up / factor, right / factor)
        _paste(target, np.repeat(np.repeat(values, factor, axis=0), factor, axis=1), row, col)
        return target
    reproject(
        values,
        target,
        src_transform=source.window_transform(place.window),
        src_crs=source.crs,
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


@lru_cache(maxsize=4096)
def _place(wkt: str, transform: tuple[float, ...], width: int, height: int, grid: Grid, reach: int) -> _Place:
    """The window and so many grid pixels around it.

    Cached, because all dates of one band lie alike and comparing reference systems is slow.
    """
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
        return _Place(None, None, 0, 0)
    if (right - left) * (bottom - top) > MAX_SOURCE_PIXELS:
        raise StackError(f"the window covers {(right - left) * (bottom - top)} pixels, more than {MAX_SOURCE_PIXELS}")
    x, y = place.c + left * place.a, place.f + top * place.e
    row, col = round((grid.top - y) / grid.pixel_m), round((x - grid.left) / grid.pixel_m)
    return _Place(Window(left, top, right - left, bottom - top), factor, row, col)


def _aligned(transform: Affine, grid: Grid) -> int | None:
    """How many grid pixels one source pixel spans, where edges coincide; None where resampling is needed."""
    factor = round(transform.a / grid.pixel_m)
    offsets = ((transform.c - grid.left) / grid.pixel_m, (transform.f - grid.top) / grid.pixel_m)
    square = math.isclose(transform.a, -transform.e, rel_tol=1e-9)
    exact = 1 <= factor <= MAX_FACTOR and square and math.isclose(transform.a, factor * grid.pixel_m, rel_tol=1e-9)
    return factor if exact and all(abs(o - round(o)) < 1e-6 for o in offsets) else None


def _paste(target: FloatArray, patch: FloatArray, row: int, col: int) -> None:
    """Lay ``patch`` with its corner at (row, col) of ``target``; what sticks out is cut off."""
    r0, c0 = max(0, row), max(0, col)
    r1, c1 = min(target.shape[0], row + patch.shape[0]), min(target.shape[1], col + patch.shape[1])
    if r1 > r0 and c1 > c0:
        target[r0:r1, c0:c1] = patch[r0 - row : r1 - row, c0 - col : c1 - col]


def _physical(stored: npt.NDArray[Any], asset: Asset, nodata: float | None) -> FloatArray:
    """Stored numbers to physical values, NaN where either the item or the file says "no data"."""
    rule = asset.calibration
    values = (stored * np.float32(rule.scale) + np.float32(rule.offset)).astype(np.float32)
    for missing in {rule.nodata, nodata} - {None}:
        values[stored == missing] = np.nan
    return values

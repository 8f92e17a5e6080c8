"""One layer of an HDF5 granule on a longitude-latitude grid, read onto the grid of a site.

A granule is hostile until checked: links to other files and virtual layers, which could make this machine read what the
user did not name, are refused; attributes are never read.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compoundwatch.errors import StackError
from compoundwatch.grid import Grid, transformer
from compoundwatch.model import Asset, FloatArray

if TYPE_CHECKING:
    import h5py

MAX_CHUNK_BYTES = 256_000_000
"""Refuse layers whose smallest readable piece is larger: a guard against absurd files."""
BLOCK = 32
"""Side in cells of the squares that are read and kept (about 15 km for cells of 15 arc-seconds)."""
MAX_BLOCKS = 65_536
"""How many squares are kept: some 120 MB, which is three years of two satellites over seven regions of that size."""
LATITUDES, LONGITUDES = "lat", "lon"
"""Layers beside the one that is read, which say where its rows and columns lie (degrees)."""

Index = npt.NDArray[np.int64]


def read(asset: Asset, grid: Grid) -> FloatArray:
    """The layer on the grid, nearest cell: float32 (rows, cols) in physical units, NaN = no data or outside.

    Parameters
    ----------
    asset : the file, the ``layer`` inside, and the ``corner`` from which its cells are counted.
    grid : where the values go; a pixel takes the value of the cell in which its centre lies.

    Raises
    ------
    StackError : h5py is missing; or the file is no HDF5 file, is truncated, lacks the layer, holds something else in
        its place, or its layer lies elsewhere than ``corner`` says.
    """
    try:
        import h5py  # noqa: F401
    except ImportError as error:
        raise StackError("reading HDF5 granules needs h5py; install it: pip install 'compoundwatch[lights]'") from error
    if asset.corner is None:
        raise StackError("the catalogue does not say where the layer lies (no proj:transform)")
    target = np.full(grid.shape, np.nan, dtype=np.float32)
    row, col = _cells(grid, asset.corner)
    stamp = _stamp(asset.href)
    for top in np.unique(row // BLOCK) * BLOCK:
        for left in np.unique(col // BLOCK) * BLOCK:
            here = (row >= top) & (row < top + BLOCK) & (col >= left) & (col < left + BLOCK)
            if here.any():
                stored = _block(asset.href, stamp, asset.layer, asset.corner, int(top), int(left))
                target[here] = _physical(stored, asset)[row[here] - top, col[here] - left]
    return target


def _stamp(href: str) -> int:
    """When the file was last changed: a file that is fetched anew is read anew."""
    try:
        return os.stat(href).st_mtime_ns
    except OSError as error:
        raise StackError(f"the file is damaged or no HDF5 file ({type(error).__name__}); fetch it again") from error


@lru_cache(maxsize=MAX_BLOCKS)
def _block(
    href: str, stamp: int, layer: str, corner: tuple[float, float, float], top: int, left: int
) -> npt.NDArray[Any] | None:
    """A square of stored numbers that starts at a cell of the layer; None where the layer has none of its cells.

    Kept, because the sites of a region lie in the same few squares, and opening a granule costs more than reading it.
    A square that sticks out of the layer is filled up with NaN.
    """
    import h5py

    try:
        with h5py.File(href, "r", locking=False) as file:
            folder, _, name = layer.strip("/").rpartition("/")
            beside = _group(file, folder)
            found = _layer(beside, name)
            _check_place(beside, found, corner)
            rows, cols = (range(max(0, at), min(at + BLOCK, n)) for at, n in zip((top, left), found.shape, strict=True))
            if not rows or not cols:
                return None
            window = found[rows.start : rows.stop, cols.start : cols.stop]
    except (OSError, RuntimeError, KeyError, ValueError, OverflowError) as error:
        # The library's message may be long and hold paths, so only its kind is told.
        raise StackError(f"the file is damaged or no HDF5 file ({type(error).__name__}); fetch it again") from error
    if window.shape == (BLOCK, BLOCK):
        return np.asarray(window)
    whole = np.full((BLOCK, BLOCK), np.nan, dtype=np.float32)
    whole[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left] = window
    return whole


def _group(file: h5py.File, path: str) -> h5py.Group:
    """The group at a path, which must lie in this very file."""
    import h5py

    node: Any = file
    for name in filter(None, path.split("/")):
        node = _node(node, name)
        if not isinstance(node, h5py.Group):
            raise StackError(f"it has no layer below '{path}'")
    return node


def _node(group: h5py.Group, name: str) -> Any:
    """What a group holds by a name: no link is followed, not even to look where it goes."""
    import h5py

    path = f"{group.name.rstrip('/')}/{name}"
    if not name or not group.id.links.exists(name.encode()):
        raise StackError(f"it has no layer '{path}'")
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise StackError(f"its layer '{path}' is a link to somewhere else, which is not followed")
    return group[name]


def _layer(group: h5py.Group, name: str) -> h5py.Dataset:
    """Numbers of a group by a name, which lie in this very file and can be read in pieces."""
    import h5py

    node = _node(group, name)
    if not isinstance(node, h5py.Dataset):
        raise StackError(f"its '{node.name}' is no layer")
    if node.is_virtual or node.external:
        raise StackError(f"its layer '{node.name}' lies in another file, which is not read")
    if 0 in node.shape or node.dtype.kind not in "iuf":
        raise StackError(f"its layer '{node.name}' must hold numbers, found {node.dtype} {node.shape}")
    if math.prod(node.chunks or (1,)) * node.dtype.itemsize > MAX_CHUNK_BYTES:
        raise StackError(f"its layer '{node.name}' cannot be read in pieces of less than {MAX_CHUNK_BYTES // 10**6} MB")
    return node


def _check_place(group: h5py.Group, layer: h5py.Dataset, corner: tuple[float, float, float]) -> None:
    """Refuse a layer that lies elsewhere than ``corner`` says, or whose rows and columns are of another size.

    Half a cell is forgiven: some products give the centres of cells, some their edges. A file that does not say where
    its cells lie must at least span whole degrees.
    """
    if layer.ndim != 2:
        raise StackError(f"its layer '{layer.name}' must have rows and columns, found {layer.shape}")
    west, north, size = corner
    for name, first, step, count in (
        (LATITUDES, north - size / 2, -size, layer.shape[0]),
        (LONGITUDES, west + size / 2, size, layer.shape[1]),
    ):
        if not group.id.links.exists(name.encode()):
            if not math.isclose(count * size, max(1, round(count * size)), abs_tol=1e-6):
                raise StackError(f"its layer must span whole degrees of cells of {size:g} degrees, found {layer.shape}")
            continue
        line = _layer(group, name)
        if line.shape != (count,):
            raise StackError(f"its '{name}' must hold {count} numbers as the layer does, found {line.shape}")
        found, last = line[:], first + (count - 1) * step
        if not (abs(found[0] - first) <= 0.75 * size and abs(found[-1] - last) <= 0.75 * size):
            raise StackError(
                f"it lies elsewhere than its name says: '{name}' runs from {found[0]:.4f} to {found[-1]:.4f} degrees, "
                f"expected {first:.4f} to {last:.4f}"
            )


def _physical(stored: npt.NDArray[Any] | None, asset: Asset) -> FloatArray:
    """Stored numbers in physical units, float32 of the same shape, NaN = no data."""
    if stored is None:
        return np.full((BLOCK, BLOCK), np.nan, dtype=np.float32)
    rule, numbers = asset.calibration, np.asarray(stored, dtype=np.float32)
    values = numbers * np.float32(rule.scale) + np.float32(rule.offset)
    if rule.nodata is not None:
        values[numbers == np.float32(rule.nodata)] = np.nan
    return np.asarray(values)


@lru_cache(maxsize=256)
def _cells(grid: Grid, corner: tuple[float, float, float]) -> tuple[Index, Index]:
    """Row and column of the cell under each pixel's centre, each int64 (rows, cols).

    Cached, because all nights of one tile lie alike.
    """
    west, north, size = corner
    x = grid.left + (np.arange(grid.cols) + 0.5) * grid.pixel_m
    y = grid.top - (np.arange(grid.rows) + 0.5) * grid.pixel_m
    lon, lat = transformer(grid.epsg, 4326).transform(*np.meshgrid(x, y))
    return np.floor((north - lat) / size).astype(np.int64), np.floor((lon - west) / size).astype(np.int64)

"""One layer of an HDF5 granule on a longitude-latitude grid, read onto the grid of a site."""

from __future__ import annotations

from compoundwatch.errors import StackError
from compoundwatch.grid import Grid
from compoundwatch.model import Asset, FloatArray


def read(asset: Asset, grid: Grid) -> FloatArray:
    """The layer on the grid, nearest cell: float32 (rows, cols) in physical units, NaN = no data or outside.

    Raises
    ------
    StackError : the file is no HDF5 file, lacks the layer, or has no layer of that size.
    """
    raise StackError("HDF5 granules are not read yet")

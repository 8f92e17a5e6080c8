"""Reading a window of a raster: the blocks it needs, fetched together and unpacked once.

Nearly all imagery comes as tiled TIFFs, most of them packed by DEFLATE. What such a file's directory says is read by
tifffile, its blocks are unpacked by imagecodecs, and where it lies on Earth is asked of GDAL once for all files that
say so in the same words: this takes about half the processor time of reading through GDAL, and over a slow link two
requests a file instead of three or more. Any other TIFF is read by GDAL.
"""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import imagecodecs
import numpy as np
import numpy.typing as npt
import rasterio
import tifffile
from rasterio.windows import Window

from compoundwatch.errors import StackError
from compoundwatch.model import Asset
from compoundwatch.stack.files import GDAL_OPTIONS, HEAD_BYTES, MAX_BLOCK_BYTES, Bytes, Remote, opened, source_bytes

if TYPE_CHECKING:
    from tifffile import TiffPage

GAP_BYTES = 4_096
"""Blocks that lie no further apart in a file are fetched with one request."""
RUN_BYTES = 16_000_000
"""Most that is fetched with one request, unless one block is larger."""
UNPACK: Mapping[int, Callable[..., Any]] = {
    5: imagecodecs.lzw_decode,
    8: imagecodecs.deflate_decode,
    32_946: imagecodecs.deflate_decode,
    50_000: imagecodecs.zstd_decode,
}
"""How blocks of each kind of compression are unpacked."""
NO_PREDICTOR, DIFFERENCES = 1, 2
PLACE_TAGS = (33_550, 33_922, 34_264, 34_735, 34_736, 34_737)
"""Tags of a TIFF that say where it lies: scale, tie points, matrix, and the keys of GeoTIFF with their values."""
NODATA_TAG = 42_113
MAX_PLACES = 4_096
_UNPACKING = threading.BoundedSemaphore(os.cpu_count() or 1)
"""More blocks than processors are not unpacked together: they would take memory and turns, not less time."""

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it finds odd, GDAL is asked about


@dataclass(frozen=True)
class Form:
    """Where the pixels of a file lie: reference system (WKT, empty = none), affine map, size, number for "no data"."""

    wkt: str
    transform: tuple[float, float, float, float, float, float]
    width: int
    height: int
    nodata: float | None


class Raster(Protocol):
    """A band that can be read in part."""

    @property
    def form(self) -> Form:
        """Where the pixels lie."""
        ...

    def read(self, window: Window) -> npt.NDArray[Any]:
        """The stored numbers of a window that lies inside: (rows, cols)."""
        ...


@contextmanager
def raster(asset: Asset) -> Iterator[Raster]:
    """The raster of a band, closed at the end.

    Raises
    ------
    StackError : it cannot be fetched, or it is built so that reading a little of it takes very much memory.
    RasterioError : it is no TIFF, or a broken one.
    """
    with source_bytes(asset) as source:
        page = _directory(source.bytes_at(0, HEAD_BYTES))
        if page is not None:
            assert page.dtype is not None
            yield _Blocks(source, page, page.dtype.newbyteorder(page.parent.byteorder), _form(page, asset, source))
            return
    with rasterio.Env(**GDAL_OPTIONS), opened(asset, _remote(source)) as dataset:
        yield _Dataset(dataset)


def _remote(source: Bytes) -> Remote | None:
    return source if isinstance(source, Remote) else None


@dataclass(frozen=True)
class _Dataset:
    """A raster as GDAL reads it."""

    dataset: Any

    @property
    def form(self) -> Form:
        source = self.dataset
        return Form(*_place(source), source.width, source.height, source.nodata)

    def read(self, window: Window) -> npt.NDArray[Any]:
        return np.asarray(self.dataset.read(1, window=window))


def _place(dataset: Any) -> tuple[str, tuple[float, float, float, float, float, float]]:
    return dataset.crs.to_wkt() if dataset.crs else "", tuple(dataset.transform)[:6]


def _directory(head: bytes) -> TiffPage | None:
    """The first directory of a TIFF; None where it is not one that is read here, or not whole in the head."""
    try:
        page = tifffile.TiffFile(io.BytesIO(head)).pages.first
        blocks = -(-page.imagewidth // page.tilewidth) * -(-page.imagelength // page.tilelength)
        good = (
            page.compression in UNPACK
            and page.predictor in (NO_PREDICTOR, DIFFERENCES)
            and page.samplesperpixel == page.imagedepth == page.tiledepth == page.fillorder == 1
            and page.dtype is not None
            and page.bitspersample == 8 * page.dtype.itemsize
            and (page.dtype.kind in "ui" or (page.dtype.kind == "f" and page.predictor == NO_PREDICTOR))
            and len(page.dataoffsets) == len(page.databytecounts) == blocks
            and 0 < page.tilewidth * page.tilelength * page.dtype.itemsize <= MAX_BLOCK_BYTES
        )
    except Exception:
        # The head is a stranger's: the library may stumble over it in any way. GDAL says what is wrong with it.
        return None
    return page if good else None


_PLACES: dict[Any, tuple[str, tuple[float, float, float, float, float, float]]] = {}


def _form(page: TiffPage, asset: Asset, source: Bytes) -> Form:
    """Where a file lies; GDAL is asked once for all files that say so in the same words."""
    said = tuple(repr(page.tags[tag].value) if tag in page.tags else "" for tag in PLACE_TAGS)
    if said not in _PLACES:
        with rasterio.Env(**GDAL_OPTIONS), opened(asset, _remote(source)) as dataset:
            if len(_PLACES) >= MAX_PLACES:
                _PLACES.clear()
            _PLACES[said] = _place(dataset)
    nodata = page.tags[NODATA_TAG].value if NODATA_TAG in page.tags else None
    try:
        missing = None if nodata is None else float(str(nodata).strip(" \0"))
    except ValueError:
        raise StackError(f"its number for 'no data' is none: {str(nodata)[:20]!r}") from None
    return Form(*_PLACES[said], page.imagewidth, page.imagelength, missing)


@dataclass(frozen=True)
class _Blocks:
    """A tiled TIFF of one band."""

    source: Bytes
    page: TiffPage
    stored_type: np.dtype[Any]
    form: Form

    def read(self, window: Window) -> npt.NDArray[Any]:
        page, top, left = self.page, window.row_off, window.col_off
        rows, cols = page.tilelength, page.tilewidth
        across = -(-page.imagewidth // cols)
        found = np.empty((window.height, window.width), dtype=self.stored_type.newbyteorder("="))
        wanted = {
            row * across + col: (row * rows - top, col * cols - left)
            for row in range(top // rows, (top + window.height - 1) // rows + 1)
            for col in range(left // cols, (left + window.width - 1) // cols + 1)
        }
        for run in _runs(list(wanted), page.dataoffsets, page.databytecounts):
            first, last = run[0], run[-1]
            start = page.dataoffsets[first]
            packed = memoryview(self.source.bytes_at(start, page.dataoffsets[last] + page.databytecounts[last] - start))
            for block in run:
                at = page.dataoffsets[block] - start
                with _UNPACKING:
                    self._unpack(packed[at : at + page.databytecounts[block]], *wanted[block], found)
        return found

    def _unpack(self, packed: memoryview, row: int, col: int, found: npt.NDArray[Any]) -> None:
        """Lay a block with its corner at (row, col) of what is read; only the part that is wanted is summed up."""
        page = self.page
        r0, c0 = max(0, row), max(0, col)
        r1, c1 = min(found.shape[0], row + page.tilelength), min(found.shape[1], col + page.tilewidth)
        if not packed:  # a block that was never written
            found[r0:r1, c0:c1] = np.asarray(self.form.nodata or 0).astype(found.dtype)
            return
        size = page.tilelength * page.tilewidth * self.stored_type.itemsize
        try:
            stored = UNPACK[page.compression](packed, out=size)
        except RuntimeError:
            stored = b""
        if len(stored) != size:
            raise StackError("its pixels are damaged")
        block = np.frombuffer(stored, self.stored_type).reshape(page.tilelength, page.tilewidth)[r0 - row : r1 - row]
        if page.predictor == DIFFERENCES:
            block = imagecodecs.delta_decode(block, axis=1)
        found[r0:r1, c0:c1] = block[:, c0 - col : c1 - col]


def _runs(blocks: Sequence[int], starts: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Blocks in groups that are fetched together, because they lie one after the other in the file."""
    run: list[int] = []
    for block in sorted(blocks, key=lambda b: starts[b]):
        if run:
            gap = starts[block] - (starts[run[-1]] + sizes[run[-1]])
            whole = starts[block] + sizes[block] - starts[run[0]]
            if not (0 <= gap <= GAP_BYTES and whole <= RUN_BYTES and sizes[block]):
                yield run
                run = []
        run.append(block)
    if run:
        yield run

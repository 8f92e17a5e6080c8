"""Writes nights of light as the archive holds them: HDF5 granules of 10 x 10 degrees, mostly empty.

Layers, types, missing values and bits are those of Collection 2 (Black Marble User Guide, Collection 2.0, NASA 2024).
Chunks that hold nothing of the window are never written and take no space.
"""

from __future__ import annotations

import datetime as dt
import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compoundwatch.errors import SettingsError

if TYPE_CHECKING:
    from compoundwatch.simulate.lights import Cells, Night

TILE_DEGREES, CELLS_PER_DEGREE = 10, 240
SIDE = TILE_DEGREES * CELLS_PER_DEGREE
CHUNK = 240
GROUP = "HDFEOS/GRIDS/VIIRS_Grid_DNB_2d/Data Fields"
RADIANCE, QUALITY, CLOUDS, SNOW = "DNB_BRDF-Corrected_NTL", "Mandatory_Quality_Flag", "QF_Cloud_Mask", "Snow_Flag"
LAYERS: Mapping[str, tuple[str, float, str]] = {
    RADIANCE: ("float32", -999.9, "nWatts/(cm^2 sr)"), QUALITY: ("uint8", 255, "class flag"),
    CLOUDS: ("uint16", 65535, "bit field"), SNOW: ("uint8", 255, "class flag"),
}  # fmt: skip
"""Type, missing value and unit of the layers."""
COLLECTION = "002"
LAND, CIRRUS = 1 << 1, 1 << 9
PRODUCED_AFTER = dt.timedelta(days=8, hours=3, minutes=4, seconds=5)


@dataclass(frozen=True)
class Platform:
    """A satellite: its name, its product, and where its track lies between those of the first, in their spacings."""

    name: str
    product: str
    track: float


class GranuleFiles:
    """Writes granules that hold one window of cells, into a folder that is made if need be.

    Raises
    ------
    SettingsError : h5py is missing.
    """

    def __init__(self, folder: Path, cells: Cells) -> None:
        try:
            import h5py  # noqa: F401
        except ImportError as error:
            raise SettingsError("making nights of light needs h5py; install it: pip install h5py") from error
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._cells = folder, cells
        self._empty = {tile: _empty(*tile) for tile in self._tiles()}

    def _tiles(self) -> Iterator[tuple[int, int]]:
        """Row and column of the tiles that the window touches."""
        c = self._cells
        for row in range(c.row // SIDE, (c.row + c.rows - 1) // SIDE + 1):
            for col in range(c.col // SIDE, (c.col + c.cols - 1) // SIDE + 1):
                yield row, col

    def write(self, platform: Platform, date: dt.date, night: Night) -> list[str]:
        """Write the granules of one night; their names without the suffix."""
        layers = _layers(night)
        made = dt.datetime.combine(date, dt.time()) + PRODUCED_AFTER
        names = []
        for (row, col), empty in self._empty.items():
            name = f"{platform.product}.A{date:%Y%j}.h{col:02d}v{row:02d}.{COLLECTION}.{made:%Y%j%H%M%S}"
            self._fill(self._folder / f"{name}.h5", empty, (row, col), layers)
            names.append(name)
        return names

    def _fill(self, path: Path, empty: bytes, tile: tuple[int, int], layers: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write an empty granule and put the window's chunks into it, compressed here: far faster than slices."""
        from h5py import h5d, h5f, h5g

        path.write_bytes(empty)
        file = h5f.open(str(path).encode(), h5f.ACC_RDWR)
        group = h5g.open(file, GROUP.encode())
        for name, values in layers.items():
            dtype, missing, _ = LAYERS[name]
            layer = h5d.open(group, name.encode())
            for corner, inside, part in self._chunks(tile):
                chunk = np.full((CHUNK, CHUNK), missing, dtype=dtype)
                chunk[inside] = values[part]
                layer.write_direct_chunk(corner, _compressed(chunk.tobytes()))
            del layer
        del group
        file.close()

    def _chunks(
        self, tile: tuple[int, int]
    ) -> Iterator[tuple[tuple[int, int], tuple[slice, slice], tuple[slice, slice]]]:
        """Corner of each chunk of a tile that holds part of the window, where in the chunk, and which part."""
        c = self._cells
        spans = []
        for first, count, number in ((c.row, c.rows, tile[0]), (c.col, c.cols, tile[1])):
            begin, end = max(0, first - number * SIDE), min(SIDE, first + count - number * SIDE)
            spans.append((begin, end, first - number * SIDE))
        for top in range(spans[0][0] // CHUNK * CHUNK, spans[0][1], CHUNK):
            for left in range(spans[1][0] // CHUNK * CHUNK, spans[1][1], CHUNK):
                inside, part = [], []
                for corner, (begin, end, first) in ((top, spans[0]), (left, spans[1])):
                    low, high = max(begin, corner), min(end, corner + CHUNK)
                    inside.append(slice(low - corner, high - corner))
                    part.append(slice(low - first, high - first))
                yield (top, left), (inside[0], inside[1]), (part[0], part[1])


@lru_cache(maxsize=64)
def _compressed(chunk: bytes) -> bytes:
    """A chunk as gzip stores it; many are alike: no snow on any night, nothing retrieved on cloudy ones."""
    return zlib.compress(chunk, 1)


def _empty(row: int, col: int) -> bytes:
    """A granule of one tile in which every layer is missing everywhere."""
    import h5py

    memory = io.BytesIO()
    with h5py.File(memory, "w", libver="latest") as file:
        group = file.create_group(GROUP)
        for name, (dtype, missing, unit) in LAYERS.items():
            layer = group.create_dataset(
                name, (SIDE, SIDE), dtype, chunks=(CHUNK, CHUNK), compression="gzip", fillvalue=missing
            )
            layer.attrs["_FillValue"] = np.array([missing], dtype=dtype)
            layer.attrs["units"] = unit
        steps = (np.arange(SIDE) + 0.5) / CELLS_PER_DEGREE
        for name, centres in (("lat", 90 - row * TILE_DEGREES - steps), ("lon", col * TILE_DEGREES - 180 + steps)):
            group.create_dataset(name, data=centres, chunks=(SIDE,), compression="gzip", shuffle=True)
    return memory.getvalue()


def _layers(night: Night) -> dict[str, npt.NDArray[Any]]:
    """Radiance and flags of a night as the archive stores them."""
    bits = LAND | night.mask_quality << 4 | night.clouds.astype(np.uint16) << 6
    bits[night.clouds > 1] |= CIRRUS * night.cirrus
    radiance = np.where(night.quality == LAYERS[QUALITY][1], LAYERS[RADIANCE][1], night.radiance)
    snow = np.zeros(night.quality.shape, dtype=np.uint8)
    return {RADIANCE: radiance.astype(np.float32), QUALITY: night.quality, CLOUDS: bits, SNOW: snow}

"""Pixels kept on disk, so that no byte is fetched twice: what a site shows of each remote file, as a small GeoTIFF.

A chip holds the very pixels of the file, numbers as stored, around the place where they are read; so it serves every
later reading of the site: the survey, every tile, pictures, other settings. It is named by a hash of what it was cut
from, so that no name that a catalogue makes up becomes a path, and ends with the SHA-256 of all before it: a chip that
is not as it was written is fetched again. Chips are written aside and moved into place whole. Where they take more than
they may, those that were not used for longest are deleted.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from compoundwatch.errors import StackError
from compoundwatch.grid import Grid
from compoundwatch.model import Asset, Scene, Skipped
from compoundwatch.stack import coregister
from compoundwatch.stack.bands import TAPS, place
from compoundwatch.stack.blocks import Raster, raster
from compoundwatch.stack.files import GDAL_OPTIONS, is_remote

SMALLEST = 64
"""Chips hold at least so many pixels of the grid on each side: the least that ``stack.survey`` looks at."""
REACH = math.ceil(coregister.MAX_SHIFT) + TAPS
"""How many pixels of the grid beyond it are kept, as days are read aside by no more."""
ROWS = 2_048
"""Rows that are fetched at once: a multiple of the rows of usual blocks, so that each block is fetched once."""
BLOCK = 256
PART = ".part"
DROP_TO = 0.9
"""Where chips take more than they may, they are deleted down to this share of it."""
RECOUNT = 0.05
"""Once so large a share of what they may take was written, they are counted anew: other processes may write, too."""
MARK = b"\nsha256 "
_SEAL_BYTES = len(MARK) + 64

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lacking:
    """A chip that was asked for and is not kept, or is not as it was written (``damaged``); its path in the folder."""

    scene_id: str
    band: str
    path: str
    damaged: bool


class Chips:
    """The chips of all sites in a folder.

    ``lacking`` tells of those that could not be read, where nothing may be fetched.

    Parameters
    ----------
    folder : is made where it is not there.
    limit_mb : how much they may take on disk, in megabytes.
    alone : no other process writes here now, so that what a killed one left half written is deleted.
    fetch : False = what is not kept is not fetched and cannot be read, and nothing in the folder is touched.
    """

    def __init__(self, folder: Path, limit_mb: float, alone: bool = True, fetch: bool = True) -> None:
        self.folder, self._limit = folder, round(limit_mb * 1e6)
        self.fetch = fetch
        self.lacking: list[Lacking] = []
        self._sound: dict[Path, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._failed = False
        if alone and fetch:
            for left in folder.glob(f"*/*{PART}"):
                left.unlink(missing_ok=True)
        self._held, self._written_since = sum(size for _, size, _ in self._all()), 0

    def around(self, grid: Grid) -> SiteChips:
        """The chips of the site that is measured on a grid."""
        return SiteChips(self, grid)

    def is_sound(self, path: Path) -> bool | None:
        """Whether a chip is as it was written, None where there is none; marks it as used."""
        try:
            stat = path.stat()
            found = stat.st_mtime_ns, stat.st_size
            if self._sound.get(path) != found:
                content = path.read_bytes()
                if content[-_SEAL_BYTES:] != _seal(hashlib.sha256(content[:-_SEAL_BYTES]).hexdigest()):
                    return False
                self._sound[path] = found
            if self.fetch:
                os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))
        except FileNotFoundError:
            return None
        except OSError:
            return False
        return True

    def keep(self, path: Path, source: Raster, window: Window) -> bool:
        """Write a chip of a window of a raster; False where it cannot be written.

        Raises
        ------
        StackError, RasterioError : the raster cannot be read.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(suffix=PART, dir=path.parent)
        except OSError as error:
            return self._not_kept(error)
        os.close(handle)
        aside = Path(name)
        try:
            if not self._written(aside, source, window):
                return False
            size = aside.stat().st_size
            os.replace(aside, path)
        except OSError as error:
            return self._not_kept(error)
        finally:
            aside.unlink(missing_ok=True)
        with self._lock:
            self._held += size
            self._written_since += size
            if self._held > self._limit or self._written_since > RECOUNT * self._limit:
                self._drop()
        return True

    def _written(self, path: Path, source: Raster, window: Window) -> bool:
        form, rows = source.form, range(window.row_off, window.row_off + window.height)
        corner = Affine(*form.transform) * Affine.translation(window.col_off, window.row_off)
        first = min(rows.stop, (rows.start // ROWS + 1) * ROWS)
        part = source.read(Window(window.col_off, rows.start, window.width, first - rows.start))
        kind = part.dtype
        profile = {
            "width": window.width,
            "height": window.height,
            "count": 1,
            "dtype": kind,
            "crs": form.wkt,
            "transform": corner,
            "nodata": form.nodata if _holds(kind, form.nodata) else None,
            "compress": "DEFLATE",
            "zlevel": 1,
            "predictor": 2 if kind.kind in "ui" and kind.itemsize <= 4 else 1,
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
        }
        with rasterio.Env(**GDAL_OPTIONS):
            try:
                file = rasterio.open(path, "w", driver="GTiff", **profile)
            except rasterio.errors.RasterioError as error:
                return self._not_kept(error)
            at = rows.start
            with file:
                while True:
                    file.write(part, 1, window=Window(0, at - rows.start, window.width, part.shape[0]))
                    at += part.shape[0]
                    if at >= rows.stop:
                        break
                    part = source.read(Window(window.col_off, at, window.width, min(ROWS, rows.stop - at)))
        with path.open("r+b") as chip:
            seal = _seal(hashlib.file_digest(chip, "sha256").hexdigest())
            chip.seek(0, os.SEEK_END)
            chip.write(seal)
        return True

    def _not_kept(self, error: Exception) -> bool:
        if not self._failed:
            _log.warning("what is read cannot be kept in %s (%s), so it is fetched anew", self.folder, error)
        self._failed = True
        return False

    def _all(self) -> list[tuple[int, int, Path]]:
        """When each chip was last used (nanoseconds), its bytes and its path."""
        found = []
        for path in self.folder.glob("*/*.tif"):
            with suppress(OSError):
                stat = path.stat()
                found.append((stat.st_atime_ns, stat.st_size, path))
        return found

    def _drop(self) -> None:
        """Delete the chips that were not used for longest; others may have written some, so they are counted anew."""
        chips = sorted(self._all(), key=lambda chip: (chip[0], chip[2]))
        self._held, self._written_since = sum(size for _, size, _ in chips), 0
        if self._held <= self._limit:
            return
        for _, size, path in chips:
            if self._held <= DROP_TO * self._limit:
                break
            with suppress(OSError):
                path.unlink()
                self._held -= size


class SiteChips:
    """The chips of one site; ``mended`` tells of those that were damaged and fetched again."""

    def __init__(self, chips: Chips, grid: Grid) -> None:
        self._chips = chips
        self.mended: list[Skipped] = []
        self.cover = grid.centred(max(grid.rows, SMALLEST), max(grid.cols, SMALLEST))

    @contextmanager
    def raster(self, scene: Scene, band: str) -> Iterator[Raster]:
        """The band of a scene, as ``blocks.raster`` gives it, around the site; fetched where no chip of it is kept.

        Raises
        ------
        StackError, RasterioError : it cannot be fetched, or not be read.
        """
        asset = scene.assets[band]
        if not is_remote(asset.href):
            with raster(asset) as source:
                yield source
            return
        path = self._path(scene, asset)
        sound = self._chips.is_sound(path)
        if not sound and not self._chips.fetch:
            name = path.relative_to(self._chips.folder).as_posix()
            self._chips.lacking.append(Lacking(scene.scene_id, band, name, damaged=sound is False))
            raise StackError("what was read of it is damaged" if sound is False else "what was read of it is not kept")
        if sound is False:
            reason = f"what was kept of band '{band}' is damaged; it was fetched again"
            self.mended.append(Skipped(scene.scene_id, "load", reason, routine=True))
            _log.warning("scene %s: %s", scene.scene_id, reason)
        if not sound:
            with raster(asset) as source:
                if not self._chips.keep(path, source, self._window(source)):
                    yield source
                    return
        with raster(replace(asset, href=str(path))) as chip:
            yield chip

    def _path(self, scene: Scene, asset: Asset) -> Path:
        whole = "\n".join((asset.href, scene.processing, self.cover.key))
        return self._chips.folder / self.cover.key / f"{hashlib.sha256(whole.encode()).hexdigest()[:32]}.tif"

    def _window(self, source: Raster) -> Window:
        """The pixels of a file that are kept: where it does not reach the site, its first one, which says so."""
        form = source.form
        if not form.wkt:
            raise StackError("it has no coordinate reference system")
        found = place(form, self.cover, REACH).window
        return found or Window(0, 0, 1, 1)


def _seal(digest: str) -> bytes:
    return MARK + digest.encode()


def _holds(kind: np.dtype[Any], number: float | None) -> bool:
    """Whether a kind of number can be this one."""
    if number is None or kind.kind == "f":
        return True
    limits = np.iinfo(kind)
    return number == int(number) and limits.min <= number <= limits.max if math.isfinite(number) else False

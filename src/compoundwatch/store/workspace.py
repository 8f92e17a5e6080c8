"""A workspace is a folder: its store, the lock that lets one run at a time in, and what was read before."""

from __future__ import annotations

import datetime as dt
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from compoundwatch.errors import StoreError
from compoundwatch.model import CACHE, LOCK, STORE
from compoundwatch.store.ledger import Ledger

_PART = ".part"


@dataclass(frozen=True)
class Workspace:
    """An open workspace, held by this process alone."""

    folder: Path
    ledger: Ledger

    def arrays(self, kind: str, site_id: str, sensor: str, prefixes: Sequence[str] = ()) -> dict[str, npt.NDArray[Any]]:
        """Arrays kept of a place, by name; none where none are kept or their file is damaged.

        Parameters
        ----------
        prefixes : how the names of the wanted arrays begin; empty = all.
        """
        try:
            with self._file(kind, site_id, sensor).open("rb") as file, np.load(file, allow_pickle=False) as kept:
                return {n: kept[n] for n in kept.files if not prefixes or n.startswith(tuple(prefixes))}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return {}

    def keep(self, kind: str, site_id: str, sensor: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep arrays of a place instead of those kept before; the file is replaced in one step.

        Raises
        ------
        StoreError : it cannot be written.
        """
        path = self._file(kind, site_id, sensor)
        part = path.with_name(path.name + _PART)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as handle:
                np.savez(handle, **dict(arrays))  # type: ignore[arg-type]
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise StoreError(
                f"{path} cannot be written ({error.strerror or error}); free some space and run again: what was "
                "measured so far is kept"
            ) from error

    def _file(self, kind: str, site_id: str, sensor: str) -> Path:
        return self.folder / CACHE / kind / site_id / f"{sensor}.npz"


@contextmanager
def opened(folder: Path, now: dt.datetime, wait_s: float = 0.0) -> Iterator[Workspace]:
    """Open the workspace in a folder, made where it is not there, for this process alone.

    What a run that was killed left half written is taken away; SQLite takes back its half transaction by itself. A
    workspace that is new and in which nothing was measured when the block ends is taken away again.

    Parameters
    ----------
    now : the time of the run (UTC).
    wait_s : seconds to wait for another run to leave it.

    Raises
    ------
    StoreError : another run is at work in it, it cannot be written, or its store is damaged or another program's.
    """
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=wait_s)
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"another run is at work in {folder}; let it end, wait for it with --wait SECONDS, or choose another folder"
        ) from None
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error.strerror or error}); choose another folder") from error
    new = not (folder / STORE).exists()
    ledger = None
    try:
        _sweep(folder)
        ledger = Ledger(folder / STORE, now)
        yield Workspace(folder, ledger)
    finally:
        empty = new and (ledger is None or not ledger.holds_anything())
        if ledger:
            ledger.close()
        if empty:
            for path in (folder / STORE, folder / LOCK):
                path.unlink(missing_ok=True)
            shutil.rmtree(folder / CACHE, ignore_errors=True)
        lock.release()
        for path in missing if empty else ():
            with suppress(OSError):
                path.rmdir()


@contextmanager
def reading(folder: Path) -> Iterator[Ledger]:
    """Open the store of a folder to be asked, also while a run is at work in it.

    Raises
    ------
    StoreError : there is none, or it is damaged.
    """
    ledger = Ledger(folder / STORE, None)
    try:
        yield ledger
    finally:
        ledger.close()


def _sweep(folder: Path) -> None:
    for path in (folder / CACHE).rglob(f"*{_PART}"):
        path.unlink(missing_ok=True)

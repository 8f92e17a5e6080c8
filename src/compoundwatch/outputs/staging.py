"""Files appear whole or not at all: they are written aside first, then moved into place, and moved back on failure."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from compoundwatch.errors import OutputError
from compoundwatch.model import LOCK, STORE

MANIFEST, PACKAGE = "manifest.json", "watch.gpkg"
BACKUP = ".previous"
WORKING = (STORE, f"{STORE}-journal", f"{STORE}-wal", f"{STORE}-shm", LOCK)
"""Files of a workspace that are no part of a result; neither is what lies in its folder CACHE. The store is written in
transactions and never replaced, so it may be open elsewhere."""
SQLITE_COMPANIONS = ("-wal", "-journal")
"""Endings of the files that SQLite keeps beside a database while a program has it open."""


def check_folder(folder: Path) -> None:
    """Make sure that results can be written into a folder, before anything long is started. Leaves nothing behind.

    Raises
    ------
    OutputError : it is a file, it cannot be created or written, or a result file in it is open in another program.
    """
    with _sentences(folder):
        _refuse_open_databases(folder)
        made = _make(folder)
        try:
            aside = _aside(folder)
            aside.rmdir()
        finally:
            _unmake(made)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write into; when the block ends well, its files replace those of ``folder``.

    The folder lies beside ``folder`` on the same filesystem (inside it where beside is not possible), so each file
    moves in one step. Where the block or a move fails, everything is put back as it was. The manifest moves last.
    Files that the manifest of an earlier result lists, that nobody touched since, and that the new result lacks, are
    removed: an old raster beside a new result would mislead.

    Raises
    ------
    OutputError : the folder cannot be written, or a result file in it is open in another program.
    """
    with _sentences(folder):
        made = _make(folder)
        try:
            aside = _aside(folder)
        except OSError:
            _unmake(made)
            raise
        done = False
        try:
            _refuse_open_databases(folder)
            yield aside
            _move(aside, folder)
            done = True
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            if not done:
                _unmake(made)


def sweep(folder: Path) -> None:
    """Take away what runs that were killed left half written beside or in a folder; for its only user to call."""
    for home in (folder.resolve().parent, folder):
        for path in home.glob(f"{_prefix(folder)}*"):
            if re.fullmatch(r"[a-z0-9_]{8}", path.name.removeprefix(_prefix(folder))):
                shutil.rmtree(path, ignore_errors=True)


def stands(folder: Path, run_id: str) -> bool:
    """Whether a folder still holds all files of a run, of the sizes that were written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        sizes = {str(entry["path"]): entry["bytes"] for entry in manifest["outputs"]}
        return bool(manifest["run_id"] == run_id) and all((folder / p).stat().st_size == n for p, n in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def files_in(folder: Path) -> list[Path]:
    """All files of a folder, as paths relative to it, sorted, the manifest last."""
    found = (Path(home, name).relative_to(folder) for home, _, names in os.walk(folder) for name in names)
    return sorted(found, key=lambda p: (p.name == MANIFEST, p.as_posix()))


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def _sentences(folder: Path) -> Iterator[None]:
    """Turn the operating system's errors into ours."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            why = "the disk is full; free some space"
        elif isinstance(error, PermissionError):
            why = "permission was refused; close programs that have its files open, or choose another folder"
        elif isinstance(error, NotADirectoryError | FileExistsError):
            why = "a file of that name is in the way; choose another folder"
        else:
            why = f"{error.strerror or error}; choose another folder"
        raise OutputError(f"results cannot be written into {folder}: {why}") from error


def _make(folder: Path) -> list[Path]:
    """Create a folder and its parents; those that were created, deepest first."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _unmake(made: Sequence[Path]) -> None:
    """Remove folders that we created and that are still empty."""
    for path in made:
        with suppress(OSError):
            path.rmdir()


def _prefix(folder: Path) -> str:
    """How the names of the folders begin in which the results of this folder, and of no other beside it, are made."""
    name = folder.resolve().name
    short = name if len(name) <= 40 else f"{name[:31]}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f".{short}-unfinished-"


def _aside(folder: Path) -> Path:
    prefix = _prefix(folder)
    folder = folder.resolve()
    inside = folder.stat().st_dev != folder.parent.stat().st_dev
    if not inside:
        with suppress(OSError):
            beside = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
            # A folder that may not be written would otherwise be noticed only after all the work.
            try:
                Path(tempfile.mkdtemp(prefix=prefix, dir=folder)).rmdir()
            except OSError:
                beside.rmdir()
                raise
            return beside
    return Path(tempfile.mkdtemp(prefix=prefix, dir=folder))


def _refuse_open_databases(folder: Path) -> None:
    if not folder.is_dir():
        return
    for database in folder.glob("*.gpkg"):
        for ending in SQLITE_COMPANIONS if database.name != STORE else ():
            companion = database.with_name(database.name + ending)
            if companion.exists():
                raise OutputError(
                    f"{database} is open in another program (there is a {companion.name} beside it); close it there, "
                    "for example in QGIS, or choose another folder; if nothing has it open, delete that file"
                )


def _move(aside: Path, folder: Path) -> None:
    """Move every file into place; on failure put the earlier ones back."""
    new = files_in(aside)
    stale = _stale(folder, set(new))
    backup = aside / BACKUP
    for path in [p for p in (*new, *stale) if (folder / p).exists()]:
        (backup / path).parent.mkdir(parents=True, exist_ok=True)
        _keep(folder / path, backup / path)
    moved: list[Path] = []
    made: list[Path] = []
    try:
        for path in new:
            made += _make((folder / path).parent)
            moved.append(path)
            os.replace(aside / path, folder / path)
        for path in stale:
            moved.append(path)
            (folder / path).unlink()
    except BaseException:
        for path in reversed(moved):
            if (backup / path).exists():
                os.replace(backup / path, folder / path)
            else:
                (folder / path).unlink(missing_ok=True)
        _unmake(sorted(made, reverse=True))
        raise
    for home in {(folder / path).parent for path in stale} - {folder}:
        with suppress(OSError):
            home.rmdir()


def _keep(path: Path, copy: Path) -> None:
    """A second name for a file where the filesystem knows such, else a copy."""
    try:
        os.link(path, copy)
    except OSError:
        shutil.copy2(path, copy)


def _stale(folder: Path, new: set[Path]) -> list[Path]:
    """Files that an earlier result wrote into a folder, that still hold what it wrote, and that the new one lacks."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["outputs"]
        claims = {Path(str(entry["path"])): str(entry["sha256"]) for entry in listed}
    except (OSError, ValueError, KeyError, TypeError):
        return []
    own = set(files_in(folder)) - new
    return sorted(p for p, digest in claims.items() if p in own and sha256(folder / p) == digest)

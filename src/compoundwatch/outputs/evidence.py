"""Is a folder as it was written? Every hash, the chain of the log, and whether the files agree with one another.

Anybody may have made the folder: nothing in it is trusted, nothing outside it is opened, nothing in it is changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from compoundwatch.errors import SettingsError
from compoundwatch.model import CACHE, shown
from compoundwatch.outputs import agreement
from compoundwatch.outputs.manifest import MANIFEST_VERSION
from compoundwatch.outputs.runlog import LOG, line_hash, line_of, split_lines, text_of
from compoundwatch.outputs.staging import MANIFEST, WORKING, sha256
from compoundwatch.outputs.strict_json import MAX_JSON_BYTES, parse_json, read_json

MAX_FILES = 100_000
MAX_FILE_BYTES = 50_000_000_000


class Fault(StrEnum):
    """In which way something differs from what was written."""

    MISSING = "missing"
    CHANGED = "changed"
    SWAPPED = "swapped"
    EXTRA = "extra"
    LOG = "log"
    DISAGREES = "disagrees"
    RECOMPUTED = "recomputed"


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was written: in which way, in which file, and a sentence for readers."""

    fault: Fault
    where: str
    text: str


@dataclass(frozen=True)
class Recomputation:
    """What came of making a result anew from the imagery that its workspace keeps.

    ``differences`` are those to what lies in the folder. ``obstacles`` say what could not be made anew, and why.
    ``software`` tells of versions that are others than they were, which may explain differences; then ``uncompared``
    names the files that differ and can be compared byte by byte alone. ``n_sites`` of ``of_sites`` sites were made
    anew.
    """

    differences: tuple[Difference, ...] = ()
    obstacles: tuple[str, ...] = ()
    uncompared: tuple[str, ...] = ()
    software: tuple[str, ...] = ()
    n_sites: int = 0
    of_sites: int = 0

    @property
    def whole(self) -> bool:
        """Whether all of the result was made anew and compared."""
        return not self.obstacles and not self.uncompared


@dataclass(frozen=True)
class Verification:
    """What verifying a folder found.

    ``seal`` is the SHA-256 of its manifest.json, which stands for all of it. ``n_files`` and ``n_bytes`` are what the
    manifest lists, ``n_runs`` the lines of the log. ``differences`` is empty where all is as written. ``recomputed`` is
    what came of making the result anew (None = that was not asked for).
    """

    run_id: str
    created: str
    software: str
    seal: str
    n_files: int
    n_bytes: int
    n_runs: int
    differences: tuple[Difference, ...]
    recomputed: Recomputation | None = None

    @property
    def as_written(self) -> bool:
        """Whether nothing differs from what was written."""
        return not self.differences


def verify(folder: Path, seal: str | None = None) -> Verification:
    """Compare a folder with its own manifest and log.

    Parameters
    ----------
    folder : a result of the main job or of a comparison, wherever it lies now.
    seal : SHA-256 of manifest.json as it was noted elsewhere; None = not noted.

    Raises
    ------
    SettingsError : the folder cannot be verified: no result, links, paths that leave it, files too large, broken JSON.
    """
    folder = folder.resolve()
    there = files_of(folder)
    if MANIFEST not in there:
        bag = "; it is a BagIt bag, verify its folder data" if "bagit.txt" in there else ""
        raise SettingsError(f"{folder}: expected the folder of a result, found no {MANIFEST} in it{bag}")
    manifest = read_manifest(folder)
    digest = _hash(folder / MANIFEST)
    found = [*_check_files(folder, there, manifest), *_check_log(folder, there, manifest, digest)]
    if seal is not None and seal.strip().lower() != digest:
        text = f"{MANIFEST} has SHA-256 {digest}, not {shown(seal.strip(), 80)}: it is not the one whose seal was noted"
        found.append(Difference(Fault.CHANGED, MANIFEST, text))
    found += [Difference(Fault.DISAGREES, where, text) for where, text in agreement.check(folder, manifest, there)]
    return Verification(
        run_id=plain_text(manifest["run_id"]),
        created=plain_text(manifest["created"]),
        software=f"compoundwatch {plain_text(manifest['software'].get('compoundwatch', '(version not stated)'))}",
        seal=digest,
        n_files=len(manifest["outputs"]),
        n_bytes=sum(entry["bytes"] for entry in manifest["outputs"]),
        n_runs=len(_log_lines(folder)) if LOG in there else 0,
        differences=tuple(found),
    )


def plain_text(value: object) -> str:
    """A text of the folder as it may stand on a terminal."""
    text = str(value)
    return text if text.isprintable() and len(text) <= 200 else shown(text, 200)


# ------------------------------------------------------------------------------------------------- reading a folder


def files_of(folder: Path) -> dict[str, int]:
    """Every file below a folder: its path relative to it, with "/", and its size in bytes.

    What a workspace keeps in its folder CACHE is no part of a result and is not looked at.

    Raises
    ------
    SettingsError : it is no folder, or holds links, devices, too many files, or what cannot be read.
    """
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing of that name"
        raise SettingsError(f"{folder}: expected the folder of a result, found {what}")
    found: dict[str, int] = {}
    for path, status in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if stat.S_ISLNK(status.st_mode):
            raise SettingsError(
                f"{folder}: {plain_text(name)} is a link to another place; put the file itself there, or take it away"
            )
        if not stat.S_ISREG(status.st_mode):
            raise SettingsError(f"{folder}: {plain_text(name)} is neither a file nor a folder; take it away")
        if len(found) == MAX_FILES:
            raise SettingsError(f"{folder}: it holds more than {MAX_FILES} files; name the folder of one result")
        found[name] = status.st_size
    return found


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below a folder that is no folder; links are not followed."""
    waiting, passed = [folder], folder / CACHE
    while waiting:
        home = waiting.pop()
        try:
            with os.scandir(home) as entries:
                inside = sorted((Path(e.path), e.stat(follow_symlinks=False)) for e in entries)
        except OSError as error:
            raise SettingsError(f"{folder}: {plain_text(home.name)} cannot be read ({_why(error)})") from error
        for path, status in inside:
            if stat.S_ISDIR(status.st_mode):
                waiting += [path] if path != passed else []
            else:
                yield path, status


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _hash(path: Path) -> str:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise SettingsError(f"{path.parent}: {path.name} is larger than {MAX_FILE_BYTES // 10**9} GB; it is not read")
    try:
        return sha256(path)
    except OSError as error:
        raise SettingsError(f"{path.parent}: {path.name} cannot be read ({_why(error)})") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, with all members that verifying needs.

    Raises
    ------
    SettingsError : it cannot be read, lacks a member, or lists a path that leaves the folder.
    """
    path = folder / MANIFEST
    try:
        manifest = read_json(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be read as JSON ({plain_text(error)})") from error
    if not isinstance(manifest, dict):
        raise SettingsError(f"{path}: expected a JSON object, found {type(manifest).__name__}")
    if manifest.get("manifest_version") != MANIFEST_VERSION:
        raise SettingsError(
            f"{path}: expected manifest_version {MANIFEST_VERSION}, found {shown(manifest.get('manifest_version'))}; "
            "verify it with the version of compoundwatch that wrote it"
        )
    for name, kind in MEMBERS.items():
        if not isinstance(manifest.get(name), kind):
            raise SettingsError(f"{path}: expected '{name}' to be {kind.__name__}, found {shown(manifest.get(name))}")
    seen: set[str] = set()
    for entry in manifest["outputs"]:
        _check_entry(path, entry, seen)
    return manifest


MEMBERS: Mapping[str, type] = {
    "kind": str,
    "run_id": str,
    "created": str,
    "software": dict,
    "settings_key": str,
    "counts": dict,
    "outputs": list,
}


def _check_entry(path: Path, entry: Any, seen: set[str]) -> None:
    if not isinstance(entry, dict) or not isinstance(name := entry.get("path"), str):
        raise SettingsError(f"{path}: an entry of 'outputs' names no file")
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise SettingsError(f"{path}: it lists {shown(name)}, which is no path inside the folder; do not trust it")
    if name in seen:
        raise SettingsError(f"{path}: it lists {name} twice")
    if type(entry.get("bytes")) is not int or entry["bytes"] < 0 or not isinstance(entry.get("sha256"), str):
        raise SettingsError(f"{path}: the entry of {name} has no size and SHA-256")
    seen.add(name)


# ------------------------------------------------------------------------------------------------------------ files


def _check_files(folder: Path, there: Mapping[str, int], manifest: Mapping[str, Any]) -> list[Difference]:
    listed = {entry["path"]: entry for entry in manifest["outputs"]}
    owners: dict[str, list[str]] = {}
    for name, entry in listed.items():
        owners.setdefault(entry["sha256"], []).append(name)
    found = []
    for name, entry in listed.items():
        if name not in there:
            found.append(Difference(Fault.MISSING, name, f"{name} is missing"))
            continue
        digest = _hash(folder / name) if there[name] == entry["bytes"] or there[name] in _sizes(listed) else None
        if digest == entry["sha256"] and there[name] == entry["bytes"]:
            continue
        others = owners.get(digest or "", [])
        if others:
            text = f"{name} was swapped: it holds what was written as {others[0]}"
            found.append(Difference(Fault.SWAPPED, name, text))
        else:
            found.append(Difference(Fault.CHANGED, name, _changed(name, there[name], entry["bytes"])))
    for name in sorted(set(there) - set(listed) - {MANIFEST, LOG, *WORKING}):
        text = f"{plain_text(name)} is not part of the result: the manifest does not list it"
        found.append(Difference(Fault.EXTRA, plain_text(name), text))
    return found


def _sizes(listed: Mapping[str, Mapping[str, Any]]) -> set[int]:
    return {entry["bytes"] for entry in listed.values()}


def _changed(name: str, found: int, written: int) -> str:
    how = f"it has {found} bytes, not {written}" if found != written else "it has the same size but another SHA-256"
    hint = "; QGIS changes a few bytes of a GeoPackage by opening it" if name.endswith(".gpkg") else ""
    return f"{name} was changed after it was written: {how}{hint}"


# -------------------------------------------------------------------------------------------------------------- log


def _log_lines(folder: Path) -> list[bytes]:
    path = folder / LOG
    if path.stat().st_size > MAX_JSON_BYTES:
        raise SettingsError(f"{path}: larger than {MAX_JSON_BYTES // 10**6} MB; it is not read")
    return split_lines(path.read_bytes())


def _check_log(
    folder: Path, there: Mapping[str, int], manifest: Mapping[str, Any], digest: str
) -> Iterator[Difference]:
    if LOG not in there:
        yield Difference(Fault.MISSING, LOG, f"{LOG} is missing: earlier runs and the manifest itself go unwitnessed")
        return
    lines = _log_lines(folder)
    entries: list[dict[str, Any]] = []
    for k, line in enumerate(lines, start=1):
        try:
            entry = parse_json(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            yield _log(f"line {k} is not a JSON object")
            entry = {}
        entries.append(entry)
    if not (folder / LOG).read_bytes().endswith(b"\n"):
        yield _log("its last line is cut off")
    yield from _check_chain(lines, entries)
    yield from _check_end(lines, entries, manifest, there[MANIFEST], digest)


def _log(text: str) -> Difference:
    return Difference(Fault.LOG, LOG, f"{LOG}: {text}")


def _check_chain(lines: list[bytes], entries: list[dict[str, Any]]) -> Iterator[Difference]:
    """Does every line follow on the one before it?"""
    hashes = [line_hash(line) for line in lines]
    numbers = [entry.get("line") for entry in entries]
    for k, entry in enumerate(entries):
        if not entry:
            continue
        before = hashes[k - 1] if k else None
        previous = entry.get("previous")
        if previous == before:
            if numbers[k] != k + 1:
                yield _log(f"line {k + 1} is numbered {shown(numbers[k])}")
        elif previous in hashes:
            yield _log(
                f"line {k + 1} was written right after what is now line {hashes.index(previous) + 1}: lines were "
                "re-ordered, or one was put between"
            )
        elif k == 0 and len(set(map(str, numbers))) == len(numbers) and 1 in numbers:
            yield _log(f"line 1 is numbered {shown(numbers[0])}: lines were re-ordered")
        elif k == 0 or numbers[k] != _next(numbers[k - 1]):
            yield _log(f"before line {k + 1}, which is numbered {shown(numbers[k])}, lines are missing")
        else:
            yield _log(f"line {k} was changed after line {k + 1} was written")


def _next(number: Any) -> int | None:
    return number + 1 if isinstance(number, int) else None


def _check_end(
    lines: list[bytes], entries: list[dict[str, Any]], manifest: Mapping[str, Any], size: int, digest: str
) -> Iterator[Difference]:
    """Do the last line and the manifest tell of the same run, and does the manifest follow on the line before?"""
    written = manifest.get("log")
    if not isinstance(written, dict) or type(written.get("lines")) is not int or "sha256" not in written:
        yield Difference(Fault.CHANGED, MANIFEST, f"{MANIFEST} does not say on which line of {LOG} it follows")
        return
    if len(lines) != written["lines"] + 1:
        yield _log(f"it has {len(lines)} lines; when this result was written, it had {written['lines'] + 1}")
    if not entries or not entries[-1]:
        return
    last, expected = entries[-1], line_of(manifest, size, digest)
    if last.get("manifest") != expected["manifest"]:
        own = next((e for e in entries[:-1] if e.get("manifest") == expected["manifest"]), None)
        text = (
            f"{MANIFEST} is that of an earlier run, {plain_text(own.get('run_id'))}, not of the last one"
            if own
            else f"{MANIFEST} was changed after it was written: {LOG} recorded another SHA-256"
        )
        yield Difference(Fault.CHANGED, MANIFEST, text)
    for name in ("line", "run_id", "time", "what", "settings_key", "previous"):
        if last.get(name) != expected[name]:
            yield _unlike(name, last.get(name), expected[name])
    for name in ("software", "states"):
        one, other = last.get(name), expected[name]
        if isinstance(one, dict) and isinstance(other, dict):
            for key in sorted({*one, *other}, key=str):
                if one.get(key) != other.get(key):
                    yield _unlike(f"{name}: {plain_text(key)}", one.get(key), other.get(key))
        elif one != other:
            yield _unlike(name, one, other)
    if last == expected and lines[-1] != text_of(expected):
        yield _log(f"line {len(lines)} says the same as the manifest, but was written anew")


def _unlike(name: str, logged: Any, told: Any) -> Difference:
    return Difference(
        Fault.LOG, LOG, f"{name} is {shown(logged, 80)} in the last line of {LOG}, but {shown(told, 80)} in {MANIFEST}"
    )

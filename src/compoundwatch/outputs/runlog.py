"""log.jsonl: one line per run into a folder, each with the hash of the line before, so that none can be taken out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compoundwatch.outputs.staging import MANIFEST, sha256

LOG = "log.jsonl"


@dataclass(frozen=True)
class Head:
    """The end of a log: how many lines it has, and the SHA-256 of the last one (None = there is none)."""

    lines: int
    sha256: str | None


def split_lines(content: bytes) -> list[bytes]:
    """The lines of a log without their line feeds."""
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def line_hash(line: bytes) -> str:
    """SHA-256 of a line without its line feed, in hexadecimal."""
    return hashlib.sha256(line).hexdigest()


def head(folder: Path) -> Head:
    """The end of the log of a folder."""
    lines = split_lines(_content(folder))
    return Head(len(lines), line_hash(lines[-1]) if lines else None)


def line_of(manifest: Mapping[str, Any], size: int, digest: str) -> dict[str, Any]:
    """What the line of a run says: which run, when, what it did, with what, its manifest, and the line before.

    Parameters
    ----------
    manifest : the content of the run's manifest.json.
    size, digest : the size of that file in bytes, and its SHA-256.
    """
    return {
        "line": manifest["log"]["lines"] + 1,
        "run_id": manifest["run_id"],
        "time": manifest["created"],
        "what": manifest["kind"],
        "states": manifest["counts"].get("states", {}),
        "software": manifest["software"],
        "settings_key": manifest["settings_key"],
        "manifest": {"bytes": size, "sha256": digest},
        "previous": manifest["log"]["sha256"],
    }


def text_of(line: Mapping[str, Any]) -> bytes:
    """A line as it stands in the file, without its line feed."""
    return json.dumps(line, ensure_ascii=False, allow_nan=False).encode()


def append(folder: Path, aside: Path) -> None:
    """Write the log of ``folder`` with one line more into ``aside``, which holds the new manifest already.

    The lines that are there stay byte for byte as they are, whatever they hold.
    """
    path = aside / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    earlier = _content(folder)
    if earlier and not earlier.endswith(b"\n"):
        earlier += b"\n"
    line = line_of(manifest, path.stat().st_size, sha256(path))
    (aside / LOG).write_bytes(earlier + text_of(line) + b"\n")


def _content(folder: Path) -> bytes:
    path = folder / LOG
    return path.read_bytes() if path.is_file() else b""

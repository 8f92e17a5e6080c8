"""The log only grows, and each line holds the hash of the one before."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from compoundwatch.outputs.runlog import append, head, line_of, split_lines

MANIFEST: dict[str, Any] = {
    "kind": "watch",
    "run_id": "r1",
    "created": "2025-01-15T12:00:00Z",
    "software": {"compoundwatch": "0.1.0"},
    "settings_key": "k",
    "counts": {"states": {"UNCHANGED": 2}},
    "log": {"lines": 0, "sha256": None},
}


def run(folder: Path, run_id: str) -> bytes:
    """One more run into a folder; the bytes of its log afterwards."""
    aside = folder / "aside"
    aside.mkdir(exist_ok=True)
    end = head(folder)
    manifest = MANIFEST | {"run_id": run_id, "log": {"lines": end.lines, "sha256": end.sha256}}
    (aside / "manifest.json").write_text(json.dumps(manifest))
    append(folder, aside)
    (aside / "log.jsonl").replace(folder / "log.jsonl")
    return (folder / "log.jsonl").read_bytes()


def test_a_later_run_appends_and_changes_nothing(tmp_path: Path) -> None:
    contents = [run(tmp_path, name) for name in ("r1", "r2", "ឃ3")]
    for earlier, later in itertools.pairwise(contents):
        assert later.startswith(earlier)
        assert later.count(b"\n") == earlier.count(b"\n") + 1


def test_each_line_holds_the_hash_of_the_one_before_and_of_its_manifest(tmp_path: Path) -> None:
    for name in ("r1", "r2", "r3"):
        content = run(tmp_path, name)
    lines = content.decode().splitlines()
    told = [json.loads(line) for line in lines]
    assert [t["line"] for t in told] == [1, 2, 3]
    assert [t["run_id"] for t in told] == ["r1", "r2", "r3"]
    assert told[0]["previous"] is None
    for k in (1, 2):
        assert told[k]["previous"] == hashlib.sha256(lines[k - 1].encode()).hexdigest()
    manifest = (tmp_path / "aside" / "manifest.json").read_bytes()
    assert told[2]["manifest"] == {"bytes": len(manifest), "sha256": hashlib.sha256(manifest).hexdigest()}
    assert told[2]["states"] == {"UNCHANGED": 2}
    assert told[2]["time"] == "2025-01-15T12:00:00Z"


@pytest.mark.parametrize("there", [b"broken", b'{"line": 7}\n', b"\xff\n\n", b"\r\n"])
def test_what_stands_in_the_log_is_kept_whatever_it_is(tmp_path: Path, there: bytes) -> None:
    (tmp_path / "log.jsonl").write_bytes(there)
    content = run(tmp_path, "r1")
    assert content.startswith(there)
    last = json.loads(content.splitlines()[-1])
    before = there.removesuffix(b"\n").split(b"\n")[-1]
    assert last["previous"] == hashlib.sha256(before).hexdigest()


def test_no_log_has_no_end(tmp_path: Path) -> None:
    assert (head(tmp_path).lines, head(tmp_path).sha256) == (0, None)


@pytest.mark.parametrize(("content", "lines"), [(b"", []), (b"a", [b"a"]), (b"a\nb\n", [b"a", b"b"]), (b"\n", [b""])])
def test_lines_end_with_a_line_feed_alone(content: bytes, lines: list[bytes]) -> None:
    assert split_lines(content) == lines
    assert split_lines(b"a\r\nb") == [b"a\r", b"b"]


def test_a_comparison_has_no_states() -> None:
    assert line_of(MANIFEST | {"counts": {"pixels": 4}}, 1, "0")["states"] == {}

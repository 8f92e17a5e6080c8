"""Verifying and packing from the command line: words, JSON and exit codes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from affine import Affine

from compoundwatch.model import PairChange, WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.pipeline import bundle, describe_verification, verification_text, verify

from ..outputs.conftest import pair as pair
from ..outputs.conftest import result as result
from ..outputs.conftest import write_unplaced_pair


@pytest.fixture
def folder(result: WatchResult, tmp_path: Path) -> Path:
    write_watch(result, tmp_path / "result", rasters=False, report=False)
    return tmp_path / "result"


def run(*words: str | Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "compoundwatch", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_result_as_written(folder: Path) -> None:
    seal = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    code, out, _ = run("verify", folder)
    assert code == 0
    assert "All is as it was written." in out
    assert f"Seal (SHA-256 of manifest.json): {seal}" in out
    assert "1 run in the log" in out
    assert run("verify", folder, "--seal", seal)[0] == 0
    assert run("verify", folder, "--seal", "0" * 64)[0] == 1


def test_a_result_that_differs(folder: Path) -> None:
    path = folder / "sites.geojson"
    path.write_text(path.read_text(encoding="utf-8").replace('"score": 98.0', '"score": 12.0'), encoding="utf-8")
    code, out, _ = run("verify", folder)
    assert code == 1
    assert "2 things differ from what was written:" in out
    assert "sites.geojson was changed after it was written" in out
    assert "score is 12.0 in sites.geojson, but 98.0 in watch.gpkg" in out
    code, out, _ = run("verify", folder, "--json")
    found = json.loads(out)
    assert code == 1
    assert found["as_written"] is False
    assert [(d["fault"], d["where"]) for d in found["differences"]] == [
        ("changed", "sites.geojson"),
        ("disagrees", "sites.geojson"),
    ]


def test_what_cannot_be_verified(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").write_text("{")
    for place, says in ((folder, "cannot be read as JSON"), (tmp_path, "no manifest.json")):
        code, out, err = run("verify", place)
        assert (code, out) == (2, "")
        assert err.startswith("compoundwatch: ")
        assert says in err
        assert err.count("\n") == 1


def test_what_cannot_be_made_anew_is_told_and_is_no_difference(
    folder: Path, pair: tuple[PairChange, Affine], result: WatchResult, tmp_path: Path
) -> None:
    code, out, _ = run("verify", folder, "--recompute")
    assert code == 3
    assert "All is as it was written." in out
    assert "It could not be recomputed:\n  there is no store.gpkg in " in out
    edit = folder / "sites.geojson"
    edit.write_text(edit.read_text(encoding="utf-8").replace('"score": 98.0', '"score": 12.0'), encoding="utf-8")
    assert run("verify", folder, "--recompute")[0] == 1
    write_unplaced_pair(tmp_path / "pair", pair[0], result)
    code, out, _ = run("verify", tmp_path / "pair", "--recompute", "--json")
    assert code == 3
    assert "comparison of two images" in json.loads(out)["recomputed"]["obstacles"][0]


def test_packing(folder: Path, tmp_path: Path) -> None:
    zipped = tmp_path / "evidence.zip"
    code, out, err = run("bundle", folder, "--out", zipped, "--info", "Contact-Name=A. Name")
    assert (code, err) == (0, "")
    assert str(zipped) in out
    assert zipped.is_file()
    code, _, err = run("bundle", folder, "--out", zipped)
    assert code == 2
    assert "is there already" in err
    assert run("bundle", folder, "--out", tmp_path / "x", "--info", "no label")[0] == 2
    (folder / "sites.geojson").unlink()
    code, _, err = run("bundle", folder, "--out", tmp_path / "x")
    assert code == 1
    assert "sites.geojson is missing" in err


def test_from_python(folder: Path, tmp_path: Path) -> None:
    found = verify(str(folder))
    assert found.as_written
    assert describe_verification(found)["differences"] == []
    assert verification_text(found)[1] == "All is as it was written."
    packed = bundle(folder, tmp_path / "bag")
    assert (packed / "bagit.txt").is_file()

"""The commands of docs/evidence.md do by hand what the page says, and notice what it says they notice."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from compoundwatch.model import ExportSettings, WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.bundle import write_bundle

from .outputs.conftest import result as result

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "evidence.md").read_text(encoding="utf-8")
BY_HAND = re.findall(r"```sh\n(.*?)```", PAGE.partition("## By hand")[2], re.DOTALL)


@pytest.fixture
def folder(result: WatchResult, tmp_path: Path) -> Path:
    """Two runs into one folder."""
    if not all(map(shutil.which, ("sh", "sha256sum", "python3"))):
        pytest.skip("needs a shell with sha256sum and python3")
    for run_id in ("first", "second"):
        other = replace(result, provenance=replace(result.provenance, run_id=run_id))
        write_watch(other, tmp_path / "result", rasters=False, report=False)
    return tmp_path / "result"


def shell(command: str, folder: Path) -> str:
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_result_by_hand(folder: Path) -> None:
    files, manifest, chain = BY_HAND[0].strip().splitlines()
    answers = shell(files, folder).splitlines()
    there = [p for p in folder.rglob("*") if p.is_file()]
    assert len(answers) == len(there) - 2
    assert all(answer.endswith(": OK") for answer in answers)
    assert shell(manifest, folder) == "1\n"
    first, second = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    previous = re.search(r'"previous": "([0-9a-f]{64})"', second)
    assert previous
    assert shell(chain, folder).split()[0] == previous[1]
    (folder / "log.jsonl").write_text(first.replace("first", "fir5t") + f"\n{second}\n", encoding="utf-8")
    assert shell(chain, folder).split()[0] != previous[1]
    sites = folder / "sites.geojson"
    sites.write_text(sites.read_text(encoding="utf-8").replace("98.0", "12.0"), encoding="utf-8")
    assert "sites.geojson: FAILED" in shell(files, folder)
    with (folder / "manifest.json").open("a") as file:
        file.write(" ")
    assert shell(manifest, folder) == "0\n"


def test_the_same_with_jq(folder: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("needs jq")
    found = re.search(r"`(jq .*?)`", PAGE)
    assert found
    assert "FAILED" not in shell(found[1], folder)
    assert "OK" in shell(found[1], folder)


def test_a_bag_by_hand(folder: Path, result: WatchResult) -> None:
    bag = write_bundle(folder, folder.parent / "bag", result.provenance.created)
    assert shell(BY_HAND[1], bag) == ""
    (bag / "data" / "sites.qml").write_text("x")
    assert "data/sites.qml: FAILED" in shell(BY_HAND[1], bag)


def test_the_page_names_what_there_is() -> None:
    from compoundwatch.cli import main

    assert "export.hash_imagery" in PAGE
    assert "hash_imagery" in ExportSettings.model_fields
    for command, option in re.findall(r"compoundwatch (\w+)[^`\n]*?(--\w+)?[ `\n]", PAGE):
        assert command in main.commands, command
        assert not option or option in {o for p in main.commands[command].params for o in p.opts}
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (Path(__file__).resolve().parents[1] / "docs" / link).exists(), link

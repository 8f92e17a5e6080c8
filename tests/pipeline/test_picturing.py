"""The command that draws pictures of a result: what it writes where, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from compoundwatch.cli import main
from compoundwatch.errors import SettingsError
from compoundwatch.model import WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.evidence import verify
from compoundwatch.pipeline import chips

from ..outputs.conftest import picture
from ..outputs.conftest import result as result

QUIET = "quiet-site-2-285c41993bd2_sentinel2"


@pytest.fixture(scope="module")
def folder(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pictured") / "found"
    before, after = result.pictures["kk-1"]
    assert before is not None
    assert after is not None
    frames = {"kk-1": (picture("2022-06-01", 200), before, after)}
    write_watch(replace(result, frames=frames), out, rasters=False, report=False)
    return out


def test_every_site_with_pictures_is_drawn_beside_the_result(folder: Path) -> None:
    made = chips(folder)
    assert made.folder == folder.with_name("found-pictures")
    kinds = ("before_after.png", "sheet.png", "timelapse.gif")
    wanted = {f"kk-1_sentinel2_{kind}" for kind in kinds} | {f"{QUIET}_sheet.png"}
    assert {p.name for p in made.paths} == {p.name for p in made.folder.iterdir()} == wanted
    assert made.without == ("ឃ-3",)
    assert verify(folder).as_written


def test_one_site_on_request(folder: Path, tmp_path: Path) -> None:
    made = chips(folder, sites=["quiet site/2"], out=tmp_path / "new")
    assert [p.relative_to(tmp_path).as_posix() for p in made.paths] == [f"new/{QUIET}_sheet.png"]
    assert made.without == ()


@pytest.mark.parametrize(
    ("sites", "out", "words"),
    [
        (["kk-2"], None, "there is no site 'kk-2'; its sites are kk-1, "),
        (["ឃ-3"], None, "it holds no picture of these sites"),
        ([], "found/inside", "expected a folder outside of the result"),
    ],
)
def test_what_cannot_be_drawn_is_said(folder: Path, sites: list[str], out: str | None, words: str) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(SettingsError, match=words):
        chips(folder, sites=sites, out=out and folder.parent / out)
    assert sorted(folder.rglob("*")) == before


def test_the_command_tells_what_is_missing(folder: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(main, ["chips", str(folder), "--out", str(tmp_path / "p")])
    assert run.exit_code == 3, run.output
    assert "4 files" in run.output
    assert "No picture of ឃ-3" in run.output
    run = CliRunner().invoke(main, ["chips", str(folder), "--site", "kk-1", "--out", str(tmp_path / "q")])
    assert run.exit_code == 0
    run = CliRunner().invoke(main, ["chips", str(tmp_path)])
    assert run.exit_code == 2
    assert "expected the folder of a result" in run.output

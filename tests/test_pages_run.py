"""Commands of the pages run as printed, each page in a folder of its own; a made-up place stands in for catalogues."""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from compoundwatch import catalogs, simulate
from compoundwatch.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
SITE = "my-site"
LEFT = {
    r"make (demo|test) ": "every change that lands runs it (.ci/run)",
    r"(python -m )?pip install ": "it installs",
    r"python -m pytest ": "tests/test_extending_page.py runs it",
    r"compoundwatch simulate ": "it takes minutes; tests/test_simulate.py writes smaller places",
    r"make plugin": "tests/plugin/test_pack.py packs it",
    r"systemctl |journalctl ": "it needs systemd",
    r"openssl |curl ": "it needs a time-stamping service",
    r"python3 -c .*sha256sum|tail -n 1 log|sed -n 1p log|sha256sum ": "tests/test_evidence_page.py runs it",
    r"compoundwatch serve ": "it runs until it is stopped; tests/outputs/test_viewer.py drives it",
    r".* --notify alerts.toml$": "it needs addresses to write to; tests/pipeline/test_alerting.py has a server",
    r".* --pdf\b": "it needs a browser; tests/end_to_end/test_report_page.py has one",
    r".*//(stac|tiles)\.example\.org": "it names a server that is not there",
    r".*--catalog planetary-computer ": "it needs the network",
    r"compoundwatch summary january/ february/ ": "it needs results of two months",
}
"""What is not run here, and why."""


def lines(text: str) -> list[str]:
    """The commands of a page: lines of blocks of shell, and indented ones."""
    fenced = re.findall(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    blocks = [block for _, language, block in fenced if language in ("sh", "bash", "console")]
    blocks += [
        "".join(re.findall(r"^compoundwatch .*\n", block, re.M)) for _, language, block in fenced if not language
    ]
    blocks += re.findall(r"^    (compoundwatch .*\n)", text, re.MULTILINE)
    found = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in found if line.strip() and not line.strip().startswith("#")]


def left(line: str) -> str | None:
    """Which entry of LEFT speaks of a command."""
    return next((pattern for pattern in LEFT if re.match(pattern, line)), None)


def to_run(page: Path) -> list[list[str]]:
    """Commands of a page that are run, without what a shell would do with their output."""
    split = [shlex.split(k, comments=True) for k in lines(page.read_text(encoding="utf-8")) if not left(k)]
    ends = ("|", "||", ">", ";")
    return [words[: next((k for k, w in enumerate(words) if w in ends), None)] for words in split]


WITH_COMMANDS = [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES if to_run(p)]


def test_every_command_is_run_or_left_for_a_reason() -> None:
    every = [line for page in PAGES for line in lines(page.read_text(encoding="utf-8"))]
    assert len(every) > 30
    assert {left(line) for line in every} >= set(LEFT), "an entry of LEFT speaks of nothing"
    assert [words for page in PAGES for words in to_run(page) if words[0] != "compoundwatch"] == []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> simulate.Simulation:
    return simulate.simulate(
        tmp_path_factory.mktemp("pages") / "imagery",
        np.random.default_rng(8),
        scenarios=("demolished",),
        start=dt.date(2023, 1, 2),
        end=dt.date(2026, 6, 30),
        revisit_days=30,
        controls=2,
        regional_controls=1,
        site_m=(110, 130),
        sensors=("sentinel2", "sentinel1"),
    )


@pytest.fixture(scope="module")
def result(place: simulate.Simulation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result for pages that begin with one."""
    out = tmp_path_factory.mktemp("watched") / "result"
    words = ["watch", place.areas, "--catalog", place.folder, "--from", place.start, "--to", place.end, "--out", out]
    assert CliRunner().invoke(main, [str(w) for w in words]).exit_code in (0, 3)
    return out


@pytest.fixture
def offline(place: simulate.Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up place stands in for the public catalogues; the demo is a small one."""
    monkeypatch.setattr(catalogs, "KNOWN", dict.fromkeys(catalogs.KNOWN, str(place.folder)))
    small = {"scenarios": ("demolished",), "revisit_days": 30, "controls": 2, "regional_controls": 1}
    monkeypatch.setattr(simulate, "DEMO", simulate.DEMO | small)


def own_files(folder: Path, place: simulate.Simulation, result: Path, page: Path) -> None:
    """What a reader of a page has: files of sites and events, two images, and a result unless the page makes one."""
    text = page.read_text(encoding="utf-8")
    name = next((n for n in ("my-first-site", "S1", "SITE") if re.search(rf"(result|--site) {n}\b", text)), SITE)
    for source, target in (
        (place.areas, "sites.geojson"),
        (place.areas, "my-sites.geojson"),
        (place.events, "events.csv"),
    ):
        (folder / target).write_text(source.read_text(encoding="utf-8").replace("compound-1", name), encoding="utf-8")
    red = sorted(place.folder.glob("sentinel-2-l2a/*/red.tif")) or sorted(
        place.folder.glob("sentinel-2-l2a/*/*B04*.tif")
    )
    shutil.copy(red[0], folder / "before.tif")
    shutil.copy(red[-1], folder / "after.tif")
    if not any(words[1] == "watch" for words in to_run(page)):
        shutil.copytree(result, folder / "result")


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_of_a_page_run_in_turn(
    page: Path, place: simulate.Simulation, result: Path, offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_files(tmp_path, place, result, page)
    monkeypatch.chdir(tmp_path)
    for words in to_run(page):
        found = CliRunner().invoke(main, words[1:])
        told = found.output[-1500:]
        assert found.exit_code in (0, 3), (
            f"{shlex.join(words)} ended with {found.exit_code}: {told} {found.exception!r}"
        )
    if page.name in ("README.md", "tutorial.md"):
        states = json.loads((tmp_path / "result" / "sites.geojson").read_text(encoding="utf-8"))["features"]
        assert states
        assert (tmp_path / "result" / "watch.qgz").is_file()

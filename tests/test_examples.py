"""The examples run as they stand, a little smaller, and print what is true of what they made up."""

from __future__ import annotations

import ast
import datetime as dt
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from compoundwatch import simulate
from tests.support import range_server, served_items, stac_server

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def run(name: str, folder: Path, *options: str) -> str:
    """What an example prints, in a folder of its own."""
    command = [sys.executable, str(EXAMPLES / name), *options]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.name)
def test_an_example_says_what_it_needs_and_uses_what_is_public(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    about = ast.get_docstring(ast.parse(text)) or ""
    for part in ("needs ", "prints", f"python examples/{script.name}"):
        assert part in " ".join(about.split()).lower(), f"the top of {script.name} does not say {part!r}"
    assert f"[{script.name}]({script.name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
    taken = set(re.findall(r"^(?:from|import) (compoundwatch.*)$", text, re.MULTILINE))
    assert taken <= {"compoundwatch as cw", "compoundwatch import simulate"}


def test_two_dates(tmp_path: Path) -> None:
    found = re.search(r"more ([\d.]+)%, less ([\d.]+)%", run("two_dates.py", tmp_path))
    assert found
    assert abs(float(found[1]) - 100 * 600 / 4800) < 2
    assert float(found[2]) < 2
    with rasterio.open(tmp_path / "two-dates" / "result" / "direction.tif") as file:
        assert (file.read(1)[12:28, 12:38] == 1).mean() > 0.95


def test_one_site(tmp_path: Path) -> None:
    said = run("one_site.py", tmp_path, "--revisit-days", "16")
    assert re.findall(r"^(20\d\d) ", said, re.MULTILINE) == [str(y) for y in range(2021, 2026)]
    found = re.search(r"compound-1: (\w+)\..*^found (\S+) .*^true (\S+) to (\S+): building", said, re.DOTALL | re.M)
    assert found
    assert found[1] == "BUILDING"
    day, first, last = map(dt.date.fromisoformat, found.groups()[1:])
    assert first - dt.timedelta(days=60) <= day <= last + dt.timedelta(days=60)


def test_country_list(tmp_path: Path) -> None:
    said = run("country_list.py", tmp_path, "--revisit-days", "16")
    states = dict(re.findall(r"^(compound-\d): (\w+), score", said, re.MULTILINE))
    true = {
        s["site_id"]: s["state"] for s in json.loads((tmp_path / "country/imagery/truth.json").read_text())["sites"]
    }
    assert states.keys() == true.keys()
    answered = {k: v for k, v in states.items() if v != "NOT_OBSERVABLE"}
    assert len(answered) >= 3
    assert sum(true[k] == v for k, v in answered.items()) >= len(answered) - 1
    assert f"{len(answered)} answers could be given" in said or f"all {len(true)}" in said
    assert len(re.findall(r"-raid: Of 1 site", said)) == sum(v != "UNCHANGED" for v in true.values())


def test_dask_cluster(tmp_path: Path) -> None:
    said = run("dask_cluster.py", tmp_path, "--revisit-days", "20")
    on, without = (
        re.search(rf"compound-1 {where}: +(\S+, score \S+)", said) for where in ("on the cluster", "without it")
    )
    assert on
    assert without
    assert on[1] == without[1]
    assert "2 workers at tcp://" in said
    assert "all series alike: True" in said


@pytest.fixture
def earth_search(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A STAC API like Earth Search over a made-up place, its files served by ranges."""
    made = simulate.simulate(
        tmp_path / "served",
        np.random.default_rng(6),
        scenarios=("demolished",),
        start=dt.date(2024, 1, 1),
        end=dt.date(2025, 3, 31),
        revisit_days=16,
        site_m=(110.0, 150.0),
        controls=2,
        regional_controls=1,
    )
    with range_server(made.folder) as files:
        (tmp_path / "api").mkdir()
        with stac_server(tmp_path / "api", served_items(made.folder, files)) as address:
            yield address, made.areas


def test_live(tmp_path: Path, earth_search: tuple[str, Path]) -> None:
    address, areas = earth_search
    options = ["--catalog", address, "--until", "2025-03-31", "--days", "455"]
    said = run("live.py", tmp_path, str(areas), *options)
    found = re.search(r"^(\d+) scenes from 127\.0\.0\.1", said, re.MULTILINE)
    assert found
    assert int(found[1]) > 15
    assert re.search(r"^compound-1: [A-Z_]+\. ", said, re.MULTILINE)


def test_real_sentinel2(tmp_path: Path) -> None:
    get = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(tmp_path / "romania"), "nrt==0.2.1"]
    if subprocess.run([sys.executable, "-m", "pip", *get], capture_output=True, check=False).returncode:
        pytest.skip("PyPI is not reached: the pictures of the example cannot be fetched")
    said = run("real_sentinel2.py", tmp_path, "--every", "4")
    assert "35 dates used" in said
    assert re.search(r"^site-0: (DEMOLISHED|BUILDING|EMPTIED|NOT_OBSERVABLE), ", said, re.MULTILINE)

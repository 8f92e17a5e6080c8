"""docs/extending.md is followed word for word in a copy of the repository; its example package is used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = re.findall(r"^```sh\n(python -m pytest .*?)\n```", PAGE, re.DOTALL | re.MULTILINE)


def run(command: list[str], cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(path)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as far as the page needs it, with the files that the page writes."""
    folder = tmp_path_factory.mktemp("copy")
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", folder / "src", ignore=skip)
    shutil.copytree(ROOT / "tests" / "contract", folder / "tests" / "contract", ignore=skip)
    for name in ("tests/__init__.py", "tests/conftest.py", "tests/headless.py", "tests/support.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    for title, text in BLOCKS:
        (folder / title).parent.mkdir(parents=True, exist_ok=True)
        assert not (folder / title).exists(), f"{title} exists already"
        (folder / title).write_text(text, encoding="utf-8")
    return folder


def test_the_page_has_its_files_and_commands() -> None:
    assert len(BLOCKS) == 5
    assert len(COMMANDS) == 2


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.rpartition(" ")[2])
def test_what_the_page_adds_passes_all_questions(copy: Path, command: str) -> None:
    words = [sys.executable, *command.split()[1:], "-p", "no:cacheprovider"]
    found = run(words, copy, copy / "src")
    assert found.returncode == 0, found.stdout[-3000:]
    passed = re.search(r"(\d+) passed", found.stdout)
    assert passed
    assert int(passed[1]) > 10
    assert "failed" not in found.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package, built and installed by pip."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "examples" / "plugin", folder / "source")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = run([*command, "--target", str(folder / "site"), str(folder / "source")], folder, Path())
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_an_installed_package_adds_a_sensor_and_a_detector(installed: Path, tmp_path: Path) -> None:
    for command, name in (("sensors", "sentinel2_land"), ("detectors", "plain_difference")):
        found = run([sys.executable, "-m", "compoundwatch", command, "--json"], tmp_path, installed)
        assert name in [row["name"] for row in json.loads(found.stdout)], found.stderr


def test_its_detector_compares_two_images(installed: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(1000, 10, (3, 24, 32)).astype(np.float32)
    after = before + rng.normal(0, 10, before.shape).astype(np.float32)
    after[:, 4:8, 10:20] += 400
    for name, image in (("before", before), ("after", after)):
        place = {"crs": "EPSG:32648", "transform": Affine(10, 0, 300_000, 0, -10, 1_200_000)}
        size = {"width": 32, "height": 24, "count": 3, "dtype": "uint16"}
        with rasterio.open(tmp_path / f"{name}.tif", "w", driver="GTiff", **size, **place) as file:
            file.write(image.astype(np.uint16))
    command = [sys.executable, "-m", "compoundwatch", "compare", "before.tif", "after.tif", "--out", "result"]
    found = run([*command, "--detector", "plain_difference"], tmp_path, installed)
    assert found.returncode == 0, found.stderr
    with rasterio.open(tmp_path / "result" / "direction.tif") as file:
        direction = file.read(1)
    assert (direction[4:8, 10:20] == 1).all()
    assert (direction != 0).mean() < 40 / direction.size + 0.03


def test_its_detector_passes_all_questions(installed: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract/test_pair_detectors.py"]
    found = run([*command, "-k", "plain_difference"], ROOT, installed)
    assert found.returncode == 0, found.stdout[-3000:]
    assert re.search(r"\d\d passed", found.stdout)

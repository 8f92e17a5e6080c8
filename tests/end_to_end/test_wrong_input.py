"""Wrong input, through the command line: one clear sentence, exit code 2, nothing written."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.stack.test_pair import PLACE, save
from tests.support import EPSG, LEFT, TOP, reflectances, save_catalog, write_item

LON, LAT = 103.17, 10.85


def run(*arguments, cwd):
    command = [sys.executable, "-m", "compoundwatch", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def refused(result, out, *words):
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("compoundwatch: ")
    for word in words:
        assert word in lines[0]
    assert not out.exists()


def feature(site_id="a", ring=None, geometry=True, **properties):
    ring = ring or [[LON, LAT], [LON + 0.01, LAT], [LON + 0.01, LAT + 0.01], [LON, LAT + 0.01], [LON, LAT]]
    polygon = {"type": "Polygon", "coordinates": [ring]} if geometry else None
    return {
        "type": "Feature",
        "properties": {"site_id": site_id, "name": site_id, "role": "site"} | properties,
        "geometry": polygon,
    }


def collection(*features):
    return json.dumps({"type": "FeatureCollection", "features": list(features)})


CROSSING = [[LON, LAT], [LON + 0.01, LAT + 0.01], [LON + 0.01, LAT], [LON, LAT + 0.01], [LON, LAT]]
PROJECTED = [[300_000, 1_200_000], [300_100, 1_200_000], [300_100, 1_200_100], [300_000, 1_200_000]]
SWAPPED = [[y, x] for x, y in [[LON, LAT], [LON + 0.01, LAT], [LON + 0.01, LAT + 0.01], [LON, LAT]]]
AREAS = {
    "no geometry": (collection(feature(geometry=False)), "geometry"),
    "self-crossing": (collection(feature(ring=CROSSING)), "cross"),
    "projected": (collection(feature(ring=PROJECTED)), "projected"),
    "swapped": (collection(feature(ring=SWAPPED)), "swapped"),
    "duplicate ids": (collection(feature("a"), feature("a")), "a"),
    "empty file": ("", "empty"),
    "not JSON": ("{oops", "JSON"),
    "no features": (collection(), "feature"),
    "unknown key": (collection(feature(rolle="site")), "rolle"),
    "50 MB": (" " * 50_000_000, "MB"),
}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalog")
    save_catalog(folder, [write_item(folder, "only", "2024-05-01T03:30:00", reflectances())])
    return folder


@pytest.fixture
def good(tmp_path):
    """A site inside the one test scene."""
    from shapely.geometry import box, mapping

    from compoundwatch.grid import project

    place = project(box(LEFT + 60, TOP - 180, LEFT + 200, TOP - 60), EPSG, 4326)
    site = feature("a")
    site["geometry"] = mapping(place)
    path = tmp_path / "good.geojson"
    path.write_text(collection(site))
    return path


@pytest.mark.parametrize("fault", list(AREAS))
@pytest.mark.parametrize("command", ["check", "watch"])
def test_areas(tmp_path, catalog, fault, command):
    text, word = AREAS[fault]
    path = tmp_path / "areas.geojson"
    path.write_text(text)
    out = tmp_path / "out"
    more = ["--catalog", catalog, "--out", out] if command == "watch" else []
    refused(run(command, path, *more, cwd=tmp_path), out, "areas.geojson", word)


def test_missing_files(tmp_path, good, catalog):
    out = tmp_path / "out"
    refused(run("watch", "absent.geojson", "--catalog", catalog, "--out", out, cwd=tmp_path), out, "absent.geojson")
    refused(run("watch", good, "--catalog", tmp_path / "absent", "--out", out, cwd=tmp_path), out, "absent")
    refused(
        run("watch", good, "--catalog", catalog, "--events", "absent.csv", "--out", out, cwd=tmp_path),
        out,
        "absent.csv",
    )
    refused(
        run("watch", good, "--catalog", catalog, "--settings", "absent.toml", "--out", out, cwd=tmp_path),
        out,
        "absent.toml",
    )


def test_dates(tmp_path, good, catalog):
    out = tmp_path / "out"
    base = ["watch", good, "--catalog", catalog, "--out", out]
    refused(run(*base, "--from", "2025-01-01", "--to", "2024-01-01", cwd=tmp_path), out, "2025-01-01", "2024-01-01")
    refused(run(*base, "--from", "2024-01-01", "--to", "2024-06-01", cwd=tmp_path), out, "reference period")


def test_a_catalogue_with_no_scene_of_the_time(tmp_path, good, catalog):
    out = tmp_path / "out"
    result = run(
        "watch", good, "--catalog", catalog, "--from", "2015-01-01", "--to", "2018-01-01", "--out", out, cwd=tmp_path
    )
    refused(result, out, "no usable scene", "2015-01-01")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("detect = 3", "detect"),
        ("[detect]\nalhpa = 0.1", "alhpa"),
        ("[detect]\nalpha = 2", "alpha"),
        ("[", "TOML"),
        ("[detect]\ndetector = 'x'", "no series detector 'x'"),
    ],
)
def test_settings(tmp_path, good, catalog, text, word):
    (tmp_path / "settings.toml").write_text(text)
    out = tmp_path / "out"
    result = run(
        "watch",
        good,
        "--catalog",
        catalog,
        "--settings",
        "settings.toml",
        "--from",
        "2020-01-01",
        "--to",
        "2025-01-01",
        "--out",
        out,
        cwd=tmp_path,
    )
    refused(result, out, word)


def test_unknown_site_sensor_detector(tmp_path, good, catalog):
    out = tmp_path / "out"
    base = ["watch", good, "--catalog", catalog, "--from", "2020-01-01", "--to", "2025-01-01", "--out", out]
    refused(run(*base, "--site", "zzz", cwd=tmp_path), out, "zzz", "a")
    refused(run(*base, "--sensor", "zzz", cwd=tmp_path), out, "zzz", "sentinel2")


def test_pairs(tmp_path):
    rng = np.random.default_rng(1)
    one = save(tmp_path / "one.tif", rng.integers(1, 200, (1, 30, 40)).astype("uint8"), **PLACE)
    other = save(tmp_path / "other.tif", rng.integers(1, 200, (1, 30, 41)).astype("uint8"), **PLACE)
    out = tmp_path / "out"
    refused(run("compare", one, other, "--out", out, cwd=tmp_path), out, "41 x 30", "40 x 30")
    refused(run("compare", one, tmp_path / "absent.tif", "--out", out, cwd=tmp_path), out, "absent.tif")
    refused(run("compare", one, one, "--detector", "zzz", "--out", out, cwd=tmp_path), out, "zzz")
    refused(run("compare", one, one, "--alpha", "0.9", "--out", out, cwd=tmp_path), out, "alpha", "0.9")


def test_an_output_folder_that_is_a_file(tmp_path, good, catalog):
    out = tmp_path / "out"
    out.write_text("kept")
    result = run("watch", good, "--catalog", catalog, "--out", out, cwd=tmp_path)
    assert result.returncode in (1, 2)
    assert len(result.stderr.strip().splitlines()) == 1
    assert out.read_text() == "kept"


@pytest.mark.parametrize(
    "arguments",
    [["wacth"], ["watch"], ["watch", "x", "--fro", "2024-01-01"], ["watch", "x", "--from", "yesterday", "--out", "o"]],
)
def test_wrong_use(tmp_path, arguments):
    assert run(*arguments, cwd=tmp_path).returncode == 2

"""The main job from the command line on a small simulated place with known truth."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys

import numpy as np
import pytest

from compoundwatch import simulate as simulator


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place") / "imagery"
    return simulator.simulate(
        folder,
        np.random.default_rng(7),
        scenarios=("building", "demolished", "unchanged"),
        start=dt.date(2023, 1, 2),
        end=dt.date(2025, 6, 30),
        revisit_days=8,
        controls=4,
        change_window=(0.6, 0.68),
    )


@pytest.fixture(scope="module")
def run(place, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "result"
    command = [sys.executable, "-m", "compoundwatch", "watch", place.areas, "--catalog", place.folder, "--out", out]
    command += ["--from", place.start, "--to", place.end, "--events", place.events, "--json"]
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=280, cwd=out.parent)
    return result, out


def truth(place):
    return {s["site_id"]: s for s in json.loads(place.truth.read_text())["sites"]}


def test_states_dates_and_exit_code(place, run):
    result, _ = run
    answer = json.loads(result.stdout)
    states = {s["site_id"]: s for s in answer["states"]}
    assert result.returncode == (0 if answer["complete"] else 3), result.stderr
    for site_id, true in truth(place).items():
        found = states[site_id]
        if true["scenario"] == "unchanged":
            assert found["state"] in ("UNCHANGED", "NOT_OBSERVABLE")
            continue
        assert found["state"] == true["scenario"].upper()
        assert found["score"] > 80
        # Construction and demolition take weeks, and clear views are weeks apart in the wet season.
        day = dt.date.fromisoformat(true["change_date"])
        assert abs((dt.date.fromisoformat(found["change_date"]) - day).days) <= 60
        assert found["q_value"] < 0.05


def test_files_agree_with_the_answer(place, run):
    result, out = run
    answer = {s["site_id"]: s for s in json.loads(result.stdout)["states"]}
    sites = json.loads((out / "sites.geojson").read_text())["features"]
    assert {f["properties"]["site_id"]: f["properties"]["state"] for f in sites} == {
        k: v["state"] for k, v in answer.items()
    }
    manifest = json.loads((out / "manifest.json").read_text())
    named = {row["path"] for row in manifest["outputs"]}
    assert {"sites.geojson", "changes.geojson", "watch.gpkg", "report.html"} <= named
    assert all((out / name).is_file() for name in named)


def test_built_ground_shows_as_patches_of_the_right_direction(place, run):
    _, out = run
    built = next(k for k, v in truth(place).items() if v["scenario"] == "building")
    patches = [f["properties"] for f in json.loads((out / "changes.geojson").read_text())["features"]]
    mine = [p for p in patches if p["site_id"] == built]
    greenness = sum(p["direction"] * p["area_m2"] for p in mine if p["feature"] == "ndvi")
    brightness = sum(p["direction"] * p["area_m2"] for p in mine if p["feature"] == "brightness")
    assert brightness > 0
    assert greenness <= 0


def test_the_same_run_gives_the_same_answer(place, run, tmp_path):
    import compoundwatch as cw

    result, _ = run
    again = cw.watch(
        place.areas, catalog=place.folder, start=place.start, end=place.end, sites=[next(iter(truth(place)))]
    )
    first = json.loads(result.stdout)["states"][0]
    assert again.states[0].state == first["state"]
    assert again.states[0].score == pytest.approx(first["score"], abs=1e-6)
    assert list(tmp_path.iterdir()) == []

"""Publishing from a workspace of several runs: what was known by then, coarsened, without what is marked."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest

from compoundwatch import simulate as simulator
from compoundwatch.model import Settings, State
from compoundwatch.pipeline import publish, watch
from compoundwatch.store import reading

RUNS = dt.date(2024, 4, 30), dt.date(2024, 12, 31), dt.date(2025, 3, 31)
"""The last days of the runs; the change is called in the last one alone."""
TOLD, HIDDEN = "compound-1", "compound-2"
SETTINGS: dict[str, Any] = {
    "load": {"threads": 2},
    "score": {"min_views_before": 4, "min_views_after": 2},
    "export": {"frames": 0, "report": False, "rasters": False},
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Three runs over one site whose name and id are restricted, and one of which nothing may be told."""
    place = simulator.simulate(
        tmp_path_factory.mktemp("place") / "imagery",
        np.random.default_rng(12),
        scenarios=("demolished", "unchanged"),
        start=dt.date(2023, 1, 2),
        end=RUNS[-1],
        revisit_days=20,
        controls=2,
        change_window=(0.6, 0.65),
    )
    areas = json.loads(place.areas.read_text(encoding="utf-8"))
    for feature in areas["features"]:
        row = feature["properties"]
        if row["site_id"] == TOLD:
            row |= {"name": "Blue Roof Park", "restricted": "site_id, name", "public_name": "A compound in the south"}
        elif row["site_id"] == HIDDEN:
            row |= {"name": "Withheld Villa", "restricted": "all"}
    place.areas.write_text(json.dumps(areas), encoding="utf-8")
    out = tmp_path_factory.mktemp("workspace") / "out"
    for day in RUNS:
        moment = dt.datetime.combine(day, dt.time(6), dt.UTC)
        settings = Settings.model_validate(SETTINGS)
        watch(place.areas, catalog=place.folder, out=out, start=place.start, end=day, now=moment, settings=settings)
    return out, place


def published(workspace: Path, out: Path, days_later: int, delay: int) -> dict[str, Any]:
    now = dt.datetime.combine(RUNS[-1] + dt.timedelta(days=days_later), dt.time(12), dt.UTC)
    found = publish(workspace, out, delay_days=delay, now=now)
    rows = geopandas.read_file(out / "sites.geojson")
    return {"found": found, "rows": rows, "about": json.loads((out / "about.json").read_text(encoding="utf-8"))}


def said(workspace: Path, site_id: str) -> dict[dt.date, Any]:
    with reading(workspace) as ledger:
        return {s.state.as_of: s.state for s in ledger.said(site_id)}


@pytest.mark.parametrize(
    ("days_later", "delay", "known", "held"),
    [(5, 14, RUNS[1], 1), (14, 14, RUNS[2], 0), (0, 200, RUNS[0], 1), (0, 0, RUNS[2], 0)],
)
def test_the_history_of_the_store_holds_younger_states_back(
    workspace: tuple[Path, Any], tmp_path: Path, days_later: int, delay: int, known: dt.date, held: int
) -> None:
    folder, _ = workspace
    history = said(folder, TOLD)
    assert sorted(history) == list(RUNS)
    assert [history[day].state is State.DEMOLISHED for day in RUNS] == [False, False, True]
    got = published(folder, tmp_path / "public", days_later, delay)
    (row,) = got["rows"].to_dict("records")
    assert str(row["known_until"])[:10] == known.isoformat()
    assert ("demolition" in row["words"]) is (known == RUNS[2])
    assert got["about"]["n_held_back"] == held
    assert not got["found"].complete  # the other site is never told of
    later = [s for day, s in history.items() if day > known]
    told = "".join(p.read_text(encoding="utf-8") for p in (tmp_path / "public").iterdir())
    for state in later:
        assert state.reason not in told
        if state.change_date_latest != history[known].change_date_latest:
            assert f"{state.change_date_latest}" not in told


def test_nothing_is_old_enough(workspace: tuple[Path, Any], tmp_path: Path) -> None:
    got = published(workspace[0], tmp_path / "public", 0, 2000)
    assert len(got["rows"]) == 0
    assert got["about"]["n_without_older_state"] == 1


def test_places_are_coarsened_and_marks_of_the_store_hold(workspace: tuple[Path, Any], tmp_path: Path) -> None:
    folder, place = workspace
    got = published(folder, tmp_path / "public", 20, 14)
    (row,) = got["rows"].to_dict("records")
    assert (row["site_id"], row["name"]) == ("public-1", "A compound in the south")
    with reading(folder) as ledger:
        outlines = {site_id: site.geometry for site_id, (site, _) in ledger.places().items()}
    west, south, east, north = row["geometry"].bounds
    assert row["geometry"].contains(outlines[TOLD].centroid)
    assert row["cell_m"] >= 10_000
    assert (east - west, north - south) == pytest.approx((0.1, 0.1))
    assert got["about"]["left_out"] == {"restricted in the file of areas": 1}
    text = "".join(p.read_text(encoding="utf-8") for p in (tmp_path / "public").iterdir())
    corners = [f"{v:.4f}" for shape in outlines.values() for xy in shape.exterior.coords for v in xy]
    for secret in (*outlines, "Blue Roof", "Withheld", "S2A_", "S2B_", place.folder.name, *corners):
        assert secret not in text, secret

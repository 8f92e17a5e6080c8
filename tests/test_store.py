"""The store of a workspace: nothing is rewritten, what did not change is not added, and a lock lets one run in."""

from __future__ import annotations

import datetime as dt
import json
import multiprocessing
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pyogrio
import pytest
from shapely.geometry import box

from compoundwatch import store
from compoundwatch.errors import StoreError
from compoundwatch.model import (
    CACHE,
    STORE,
    Asset,
    Calibration,
    Role,
    Scene,
    Site,
    SiteEffect,
    SiteState,
    Skipped,
    State,
)
from compoundwatch.outputs.staging import WORKING

from .workspaces import rows

NOW = dt.datetime(2026, 1, 10, 6, tzinfo=dt.UTC)
DAYS = (dt.date(2023, 1, 1), dt.date(2026, 1, 10))
CALIBRATION = Calibration(1e-4, -0.1, 0.0, "the item")


def scene(
    name: str, day: str, processing: str = "05.11", href: str = "https://data.example/B04.tif?sig=secret"
) -> Scene:
    return Scene(
        scene_id=name,
        sensor="sentinel2",
        collection="sentinel-2-l2a",
        catalog="archive",
        acquired=dt.datetime.fromisoformat(f"{day}T03:30:00+00:00"),
        acquisition=day,
        look="R018",
        processing=processing,
        version="S2B",
        cloud_percent=12.5,
        assets={"red": Asset(href, CALIBRATION)},
        footprint=box(104, 10, 105, 11),
        href="https://user:word@archive.example/items/1?token=secret",
    )


def series(values: dict[str, float]) -> pd.DataFrame:
    days = list(values)
    return pd.DataFrame(
        {
            "site_id": "S1",
            "sensor": "sentinel2",
            "feature": "ndvi",
            "look": "R018",
            "scene_id": [f"scene {day}" for day in days],
            "acquired": pd.to_datetime(days, utc=True).as_unit("ns"),
            "value": list(values.values()),
            "spread": 0.1,
            "valid_fraction": 1 / 3,
            "n_valid": 7,
        }
    )


def state(name: State, score: float) -> SiteState:
    return SiteState(
        site_id="S1",
        as_of=NOW.date(),
        state=name,
        probability={State.UNCHANGED: 1 - score / 100, State.EMPTIED: score / 100},
        score=score,
        change_date=dt.date(2025, 5, 1) if name is State.EMPTIED else None,
        change_date_earliest=None,
        change_date_latest=None,
        p_value=0.1 + 0.2,
        q_value=None,
        n_views=40,
        n_before=20,
        n_after=20,
        n_controls=8,
        valid_fraction=0.7,
        min_detectable=0.2,
        sensors=("sentinel2",),
        reason="Because.",
        change_dates={dt.date(2025, 5, 1): 1.0} if name is State.EMPTIED else {},
        contributions={"sentinel2 R018 ndvi": 1.5, "sentinel2 R018 activity": -0.5},
    )


EFFECT = SiteEffect(
    "S1", "sentinel2", "activity", "R018", "1", -0.5, 0.1, -0.7, None, dt.date(2025, 5, 1), 1e-9, 8, 9, 9, None
)
SITE = Site(
    "S1", "A place", Role.SITE, box(104.1, 10.1, 104.2, 10.2), ("C1",), 30.0, "a source", dt.date(2024, 1, 1), {"a": 1}
)


def begun(ledger: store.Ledger, now: dt.datetime = NOW) -> int:
    return ledger.begin(
        f"run of {now.isoformat()}",
        now,
        area_id="area",
        first_day=DAYS[0],
        last_day=DAYS[1],
        reference_end=dt.date(2024, 6, 1),
        catalog="archive",
        whole=True,
        basis={"detect.alpha": 0.001},
        settings={},
        software={},
    )


def measured(
    ledger: store.Ledger, run: int, values: dict[str, float], scenes: tuple[Scene, ...], **more: object
) -> None:
    ledger.record(
        run,
        "S1",
        "sentinel2",
        scenes=scenes,
        skipped=(Skipped("other", "search", "cloud", routine=True),),
        searched=DAYS,
        inputs="inputs",
        series=series(values),
        digest="digest",
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
def ledger(tmp_path: Path):
    with store.opened(tmp_path / "w", NOW) as workspace:
        yield workspace.ledger


def test_what_is_recorded_comes_back_to_the_last_bit(ledger):
    run = begun(ledger)
    awkward = {"2025-01-01": 0.1 + 0.2, "2025-01-06": float("nan"), "2025-01-11": -1e-17}
    first, second = scene("scene 2025-01-01", "2025-01-01"), scene("scene 2025-01-06", "2025-01-06")
    measured(ledger, run, awkward, (second, first))
    ledger.record_places(run, [SITE], ["S1"])
    ledger.record_states(run, [(state(State.EMPTIED, 93.7), [EFFECT], "evidence", dt.date(2025, 1, 1))])
    kept = ledger.kept("S1", "sentinel2")
    assert [s.scene_id for s in kept.scenes] == ["scene 2025-01-01", "scene 2025-01-06"]
    assert kept.scenes[0].assets["red"].calibration == CALIBRATION
    assert kept.skipped == (Skipped("other", "search", "cloud", routine=True),)
    assert (kept.searched, kept.inputs, kept.series) == (DAYS, "inputs", "digest")
    pd.testing.assert_frame_equal(
        ledger.series(["S1"], ["sentinel2"]), store.in_order(series(awkward)), check_exact=True
    )
    assert ledger.places() == {"S1": (SITE, True)}
    (said,) = ledger.said("S1")
    assert said.state == state(State.EMPTIED, 93.7)
    assert list(said.state.contributions) == ["sentinel2 R018 ndvi", "sentinel2 R018 activity"]
    assert said.reopened_from == dt.date(2025, 1, 1)
    assert ledger.effects(said) == (EFFECT,)


def test_no_token_is_stored(ledger):
    measured(ledger, begun(ledger), {"2025-01-01": 0.5}, (scene("a", "2025-01-01"),))
    stored = ledger.kept("S1", "sentinel2").scenes[0]
    assert stored.assets["red"].href == "https://data.example/B04.tif"
    assert stored.href == "https://archive.example/items/1"
    assert b"secret" not in ledger.path.read_bytes()
    assert b"word@" not in ledger.path.read_bytes()


def test_recording_the_same_again_adds_no_value(ledger):
    values, scenes = {"2025-01-01": 0.5, "2025-01-06": float("nan")}, (scene("a", "2025-01-01"),)
    run = begun(ledger)
    measured(ledger, run, values, scenes)
    ledger.record_places(run, [SITE])
    before = rows(ledger.path.parent)
    measured(ledger, run, values, scenes)
    ledger.record_places(run, [SITE])
    after = rows(ledger.path.parent)
    assert {t for t in after if after[t] != before[t]} == {"measured", "searches"}


def test_a_changed_value_is_added_and_the_older_stays(ledger):
    scenes = (scene("a", "2025-01-01"), scene("b", "2025-01-06"))
    measured(ledger, begun(ledger), {"2025-01-01": 0.5, "2025-01-06": 0.6}, scenes)
    ledger.end(1, store.FINISHED, "", NOW)
    again = (scene("a", "2025-01-01"), scene("b", "2025-01-06", processing="05.12"))
    measured(ledger, begun(ledger), {"2025-01-06": 0.7, "2025-01-11": 0.8}, again, reopened_from=dt.date(2025, 1, 6))
    now = ledger.series(["S1"], ["sentinel2"])
    assert dict(zip(now["scene_id"], now["value"], strict=True)) == {"scene 2025-01-06": 0.7, "scene 2025-01-11": 0.8}
    assert [s.processing for s in ledger.kept("S1", "sentinel2").scenes] == ["05.11", "05.12"]
    with sqlite3.connect(ledger.path) as db:
        told = db.execute("SELECT run, value, withdrawn FROM series ORDER BY fid").fetchall()
    assert told == [(1, 0.5, 0), (1, 0.6, 0), (2, 0.7, 0), (2, 0.8, 0), (2, None, 1)]
    assert ledger.reopened_from(["S1"], 1) == dt.date(2025, 1, 6)
    assert ledger.reopened_from(["S1"], 2) is None


def test_what_was_said_on_a_day(ledger):
    run = begun(ledger)
    ledger.record_states(run, [(state(State.UNCHANGED, 5.0), [], "one", None)])
    later = NOW + dt.timedelta(days=10)
    run = begun(ledger, later)
    changed = state(State.EMPTIED, 95.0)
    ledger.record_states(run, [(SiteState(**{**vars(changed), "as_of": later.date()}), [EFFECT], "two", None)])
    assert [s.state.state for s in ledger.said("S1")] == [State.UNCHANGED, State.EMPTIED]
    assert ledger.said("S1", NOW.date() - dt.timedelta(days=1)) == ()
    assert ledger.said("S1", later.date() - dt.timedelta(days=1))[-1].state.state is State.UNCHANGED
    assert ledger.said("S1", later.date())[-1].state.state is State.EMPTIED


def test_a_row_that_is_changed_or_taken_out_is_found(ledger):
    measured(ledger, begun(ledger), {"2025-01-01": 0.5}, (scene("a", "2025-01-01"),))
    ledger.end(1, store.FINISHED, "", NOW)
    run = begun(ledger)
    ledger.record_states(run, [(state(State.UNCHANGED, 5.0), [], "one", None)])
    assert ledger.hash_of(1) == ledger.seal(1)
    ledger.end(run, store.FINISHED, "", NOW)
    assert ledger.check() == []
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE series SET value = 0.6")
    assert [text.split(" (")[0] for text in ledger.check()] == ["rows of run 1"]
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE series SET value = 0.5")
        db.execute("DELETE FROM states")
    assert [text.split(" (")[0] for text in ledger.check()] == ["rows of run 2"]
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE runs SET previous = 'x' WHERE run = 2")
    assert "does not follow" in ledger.check()[0]


def test_the_store_opens_as_a_geopackage(ledger):
    run = begun(ledger)
    measured(ledger, run, {"2025-01-01": 0.5}, (scene("a", "2025-01-01"),))
    ledger.record_places(run, [SITE])
    ledger.record_states(run, [(state(State.EMPTIED, 93.0), [EFFECT], "one", None)])
    layers = dict(pyogrio.list_layers(ledger.path))
    assert layers.keys() == rows(ledger.path.parent).keys()
    places = pyogrio.read_dataframe(ledger.path, layer="places")
    assert places.crs.to_epsg() == 4326
    assert places.geometry.iloc[0].equals(SITE.geometry)
    assert pyogrio.read_dataframe(ledger.path, layer="series_now")["value"].tolist() == [0.5]
    assert pyogrio.read_dataframe(ledger.path, layer="said")["state"].tolist() == ["EMPTIED"]


def test_a_transaction_that_fails_leaves_nothing(ledger):
    run = begun(ledger)
    before = rows(ledger.path.parent)
    broken = series({"2025-01-01": 0.5}).assign(scene_id=[object()])
    with pytest.raises(StoreError):
        ledger.record(
            run,
            "S1",
            "sentinel2",
            scenes=(scene("a", "2025-01-01"),),
            skipped=(),
            searched=DAYS,
            inputs="",
            series=broken,
            digest="",
        )
    assert rows(ledger.path.parent) == before


def test_a_workspace_in_which_nothing_was_measured_is_taken_away(tmp_path):
    with store.opened(tmp_path / "a" / "w", NOW) as workspace:
        begun(workspace.ledger)
    assert list(tmp_path.iterdir()) == []


def _hold(folder: Path, held: multiprocessing.synchronize.Event, free: multiprocessing.synchronize.Event) -> None:
    with store.opened(folder, NOW):
        held.set()
        free.wait(30)


def test_a_second_run_waits_or_is_refused(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, free = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, free))
    other.start()
    try:
        assert held.wait(120)
        with (
            pytest.raises(StoreError, match=r"another run is at work in .*--wait SECONDS"),
            store.opened(tmp_path, NOW),
        ):
            pass
        free.set()
        with store.opened(tmp_path, NOW, wait_s=60) as workspace:
            assert workspace.ledger.runs() == ()
    finally:
        free.set()
        other.join(60)


def test_arrays_are_kept_whole_or_are_not_there(tmp_path):
    with store.opened(tmp_path / "w", NOW) as workspace:
        measured(workspace.ledger, begun(workspace.ledger), {"2025-01-01": 0.5}, (scene("a", "2025-01-01"),))
        workspace.keep("pixels", "S1", "sentinel2", {"change ndvi": np.arange(3.0), "head": np.zeros(2)})
        assert workspace.arrays("pixels", "S1", "sentinel2", ["change "])["change ndvi"].tolist() == [0, 1, 2]
        assert workspace.arrays("pixels", "S1", "sentinel2").keys() == {"change ndvi", "head"}
        assert workspace.arrays("pixels", "S2", "sentinel2") == {}
        (path,) = (tmp_path / "w" / store.CACHE).rglob("*.npz")
        path.write_bytes(path.read_bytes()[:-40])
        assert workspace.arrays("pixels", "S1", "sentinel2") == {}
        path.with_name(path.name + ".part").write_bytes(b"half")
    with store.opened(tmp_path / "w", NOW):
        assert [p.name for p in (tmp_path / "w" / store.CACHE).rglob("*.part")] == []


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"x" * 500, b"no database at all, but some text" * 40])
def test_a_store_that_is_damaged_or_another_programs(tmp_path, content):
    (tmp_path / store.STORE).write_bytes(content)
    with (
        pytest.raises(StoreError, match=r"store\.gpkg cannot be used: .*(damaged|choose another)"),
        store.opened(tmp_path, NOW),
    ):
        pass
    assert (tmp_path / store.STORE).read_bytes() == content


def test_another_geopackage_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / store.STORE) as db:
        db.execute("CREATE TABLE mine (a)")
    with pytest.raises(StoreError, match="is not a store that this version"), store.opened(tmp_path, NOW):
        pass


def test_a_full_disk_is_told(ledger):
    run = begun(ledger)
    ledger._db.execute("PRAGMA max_page_count = 1")  # what SQLite answers then is what it answers on a full disk
    many = {
        f"{year}-{month:02}-{day:02}": 0.5 for year in (2024, 2025) for month in range(1, 13) for day in range(1, 28)
    }
    with pytest.raises(StoreError, match="the disk is full; free some space"):
        measured(ledger, run, many, (scene("a", "2025-01-01"),))
    assert not ledger.holds_anything()


def test_outputs_know_the_files_of_a_workspace(tmp_path):
    assert store.CACHE == CACHE
    assert store.STORE == STORE
    assert {store.STORE, store.LOCK} <= set(WORKING)


def test_documents_are_strict_json(ledger):
    ledger.record_states(begun(ledger), [(state(State.EMPTIED, 93.0), [EFFECT], "one", None)])
    with sqlite3.connect(ledger.path) as db:
        (text,) = db.execute("SELECT document FROM states").fetchone()
    assert json.loads(text)["state"] == "EMPTIED"

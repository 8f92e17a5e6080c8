"""What was written can be read back, and nothing else is taken for it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from compoundwatch.errors import SettingsError
from compoundwatch.model import WatchResult, check_series
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.reading import read_watch


@pytest.fixture(scope="module")
def folder(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stored")
    write_watch(result, out, rasters=False, report=False)
    return out


def test_states_come_back_as_they_went(result: WatchResult, folder: Path) -> None:
    stored = read_watch(folder)
    assert stored.states == result.states
    assert stored.run_id == result.provenance.run_id
    assert stored.min_valid_fraction == 0.4


def test_places_and_events_come_back(result: WatchResult, folder: Path) -> None:
    stored = read_watch(folder)
    assert stored.area.events == result.area.events
    for site in result.area.sites:
        again = stored.area.by_id[site.site_id]
        assert again.geometry.symmetric_difference(site.geometry).area < 1e-12
        assert replace(again, geometry=None) == replace(site, geometry=None)


def test_series_come_back(result: WatchResult, folder: Path) -> None:
    stored = read_watch(folder).series
    check_series(stored)
    wanted = result.series.assign(acquired=result.series["acquired"].dt.as_unit("ms").dt.as_unit("ns"))
    pd.testing.assert_frame_equal(stored, wanted, check_dtype=False, check_index_type=False)
    assert stored["acquired"].dt.unit == "ns"


def test_a_result_without_dates_of_change_is_read_too(result: WatchResult, tmp_path: Path) -> None:
    """As an earlier version wrote it."""
    write_watch(result, tmp_path, rasters=False, report=False)
    with sqlite3.connect(tmp_path / "watch.gpkg") as file:
        file.execute("DROP TABLE change_dates")
        file.execute("DELETE FROM gpkg_contents WHERE table_name = 'change_dates'")
    stored = read_watch(tmp_path)
    assert stored.states == tuple(replace(s, change_dates={}) for s in result.states)


def test_other_folders_are_refused(result: WatchResult, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no readable manifest\.json"):
        read_watch(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text("[1", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"no readable manifest\.json"):
        read_watch(tmp_path)
    manifest.write_text('{"kind": "compare"}', encoding="utf-8")
    with pytest.raises(SettingsError, match="found another one"):
        read_watch(tmp_path)
    manifest.write_text('{"kind": "watch", "manifest_version": 99}', encoding="utf-8")
    with pytest.raises(SettingsError, match="another version"):
        read_watch(tmp_path)
    manifest.write_text('{"kind": "watch", "manifest_version": 1}', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"found no watch\.gpkg"):
        read_watch(tmp_path)
    (tmp_path / "watch.gpkg").write_bytes(b"not a database")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_watch(tmp_path)


def test_a_damaged_result_is_refused_in_one_sentence(result: WatchResult, tmp_path: Path) -> None:
    write_watch(result, tmp_path, rasters=False, report=False)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["area"]["reference_end"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SettingsError, match="KeyError"):
        read_watch(tmp_path)

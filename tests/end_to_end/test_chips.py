"""The main job over HTTP: what was fetched once is never asked for again, also where everything else is forgotten."""

from __future__ import annotations

import datetime as dt
import shutil

import pytest

from compoundwatch.model import ExportSettings, LoadSettings, SearchSettings, Settings
from compoundwatch.pipeline import watch
from compoundwatch.stack import files
from tests.support import RangeServer, demolished_place, served_items, stac_server

NOW = dt.datetime(2025, 4, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place") / "imagery"
    return demolished_place(folder, seed=12, revisit_days=25, controls=2)


@pytest.fixture(scope="module")
def imagery(place, tmp_path_factory):
    """A server of the imagery and the address of a STAC API that names its files."""
    serving = RangeServer(place.folder)
    items = served_items(place.folder, serving.url)
    with stac_server(tmp_path_factory.mktemp("api"), items) as url:
        yield serving, url
    serving.close()


def watched(place, url, out):
    files._CACHE.__init__()
    settings = Settings(
        load=LoadSettings(cache_mb=100), search=SearchSettings(timeout_s=20), export=ExportSettings(report=False)
    )
    dates = {"start": place.start, "end": place.end, "now": NOW}
    return watch(place.areas, catalog=url, out=out, settings=settings, **dates)


def test_pixels_are_fetched_once(place, imagery, tmp_path):
    server, url = imagery
    server.asked.clear()
    first = watched(place, url, tmp_path / "out")
    asked = len(server.asked)
    assert asked > 50
    assert len(set(server.asked)) == asked
    chips = list((tmp_path / "out" / "cache" / "chips").rglob("*.tif"))
    assert chips
    shutil.rmtree(tmp_path / "out" / "cache" / "pixels")
    server.asked.clear()
    again = watched(place, url, tmp_path / "out")
    assert server.asked == []
    assert [s.state for s in again.states] == [s.state for s in first.states]
    assert again.series.equals(first.series)

    chips[0].write_bytes(chips[0].read_bytes()[:-1])
    shutil.rmtree(tmp_path / "out" / "cache" / "pixels")
    mended = watched(place, url, tmp_path / "out")
    assert len({path for path, *_ in server.asked}) == 1
    assert [s.routine for s in mended.skipped if "fetched again" in s.reason] == [True]
    assert mended.series.equals(first.series)

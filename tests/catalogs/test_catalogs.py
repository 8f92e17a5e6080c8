"""A folder and a real STAC API with real range reads give the same scenes and the same pixels."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pytest

from compoundwatch.catalogs import open_catalog, stac
from compoundwatch.errors import CatalogError, SettingsError
from compoundwatch.grid import Grid
from compoundwatch.model import SearchSettings
from compoundwatch.sensors.sentinel2 import SENSOR
from compoundwatch.stack import by_day, load
from tests.support import (
    EPSG,
    LEFT,
    SHAPE,
    TOP,
    free_port,
    range_server,
    reflectances,
    save_catalog,
    stac_server,
    write_item,
)

SETTINGS = SearchSettings(timeout_s=5)
YEAR = (dt.date(2024, 1, 1), dt.date(2024, 12, 31))
GRID = Grid(EPSG, LEFT, TOP, 10.0, *SHAPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalog")
    items = [
        write_item(folder, f"scene-{k}", f"2024-05-{1 + 5 * k:02d}T03:30:00", reflectances(red=0.02 + 0.01 * k))
        for k in range(5)
    ]
    save_catalog(folder, items)
    return folder


def test_folder_by_folder_or_file(folder):
    for location in (folder, folder / "catalog.json"):
        scenes, skipped = open_catalog(location, SETTINGS).search(GRID.lonlat_bounds, *YEAR, SENSOR, SETTINGS)
        assert [s.scene_id for s in scenes] == [f"scene-{k}" for k in range(5)]
        assert skipped == []


def test_a_collection_whose_files_cost_money_is_not_served(folder, tmp_path, monkeypatch):
    items = [json.loads(p.read_text()) for p in sorted(folder.glob("scene-*/*.json"))]
    with stac_server(tmp_path, items) as api:
        assert open_catalog(api, SETTINGS).serves(SENSOR)
        monkeypatch.setitem(stac.CLOSED, "127.0.0.1", ("sentinel-2-l2a",))
        assert not open_catalog(api, SETTINGS).serves(SENSOR)
        with pytest.raises(CatalogError, match="has none of the collections"):
            open_catalog(api, SETTINGS).search(GRID.lonlat_bounds, *YEAR, SENSOR, SETTINGS)


def test_api_and_range_server_give_the_same_pixels(folder, tmp_path):
    local, _ = open_catalog(folder, SETTINGS).search(GRID.lonlat_bounds, *YEAR, SENSOR, SETTINGS)
    with range_server(folder) as files:
        items = []
        for path in sorted(folder.glob("scene-*/*.json")):
            one = json.loads(path.read_text())
            one["links"] = []
            for asset in one["assets"].values():
                asset["href"] = f"{files}/{one['id']}/{asset['href'].removeprefix('./')}"
            items.append(one)
        with stac_server(tmp_path, items) as api:
            remote, skipped = open_catalog(api, SETTINGS).search(GRID.lonlat_bounds, *YEAR, SENSOR, SETTINGS)
            assert skipped == []
            assert [s.scene_id for s in remote] == [s.scene_id for s in local]
            assert all(s.assets["red"].href.startswith(files) for s in remote)
            there, unread = load(by_day(remote), SENSOR, GRID)
            assert unread == []
    here, _ = load(by_day(local), SENSOR, GRID)
    for feature in SENSOR.features:
        np.testing.assert_array_equal(there[feature.name].values, here[feature.name].values)
    assert np.isfinite(here["ndvi"].values).all()


def test_nothing_there(tmp_path):
    with pytest.raises(SettingsError, match="found no file"):
        open_catalog(tmp_path / "absent", SETTINGS)
    with pytest.raises(SettingsError, match="another kind of address"):
        open_catalog("s3://bucket", SETTINGS)


@pytest.mark.parametrize("text", ["", "not json", "[]", "{}", '{"type": "FeatureCollection", "features": []}'])
def test_a_file_that_is_no_catalogue(tmp_path, text):
    (tmp_path / "catalog.json").write_text(text)
    with pytest.raises(CatalogError, match="expected a STAC catalogue"):
        open_catalog(tmp_path, SETTINGS).search(GRID.lonlat_bounds, *YEAR, SENSOR, SETTINGS)


@pytest.mark.parametrize(
    "href", ["https://example.org/child.json", "/etc/passwd", "../../outside.json", "file:///etc/hosts"]
)
def test_a_catalogue_that_links_outside_its_folder(folder, tmp_path, href):
    catalog = json.loads((folder / "catalog.json").read_text())
    catalog["links"] = [{"rel": "child", "href": href, "type": "application/json"}]
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    with pytest.raises(CatalogError, match="outside its folder"):
        open_catalog(tmp_path, SETTINGS).search(GRID.lonlat_bounds, *YEAR, SENSOR, SETTINGS)


def test_an_api_that_is_not_there():
    with pytest.raises(CatalogError, match="does not answer"):
        open_catalog(f"http://127.0.0.1:{free_port()}/?token=secret", SearchSettings(timeout_s=1))


def test_an_api_without_the_collection(folder, httpserver, tmp_path):
    items = [json.loads(p.read_text()) for p in sorted(folder.glob("scene-*/*.json"))]
    with stac_server(tmp_path, items) as api:
        from dataclasses import replace

        other = replace(SENSOR, name="other", collections=("no-such-collection",))
        with pytest.raises(CatalogError, match="none of the collections no-such-collection"):
            open_catalog(api, SETTINGS).search(GRID.lonlat_bounds, *YEAR, other, SETTINGS)

"""The main job with two catalogues, one of which does not answer: the same states, and the failure on record."""

from __future__ import annotations

import json

import pytest

from compoundwatch.catalogs import stac
from compoundwatch.errors import CatalogError
from compoundwatch.model import SearchSettings, Settings
from compoundwatch.pipeline import watch
from tests.support import demolished_place, free_port


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place") / "imagery"
    return demolished_place(folder, seed=11, revisit_days=10, controls=3)


def watched(place, catalog, out=None):
    settings = Settings(search=SearchSettings(timeout_s=1, budget_s=5))
    return watch(place.areas, catalog=catalog, out=out, start=place.start, end=place.end, settings=settings)


def test_the_next_catalogue_stands_in_and_the_result_says_so(place, tmp_path):
    gone = f"http://127.0.0.1:{free_port()}"
    both = watched(place, [gone, place.folder], tmp_path / "out")
    assert {s.catalog for s in both.scenes} == {"imagery"}
    failures = [s for s in both.skipped if "does not answer" in s.reason]
    assert [s.item_id for s in failures] == [f"{site.site_id}: catalogue {gone}" for site in both.area.sites]
    assert not any(s.routine for s in failures)
    assert not both.complete
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {scene["catalog"] for scene in manifest["scenes"]} == {"imagery"}
    assert any("does not answer as a STAC API" in s["reason"] for s in manifest["skipped"])


def test_where_none_answers_the_run_stops(place):
    with pytest.raises(CatalogError, match="does not answer"):
        watched(place, [f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"])


def test_only_one_catalogue_is_known_to_need_tokens():
    """What is signed is listed in one place, by the host of the catalogue."""
    (access,) = stac.SIGNED.values()
    assert access.token_endpoint.startswith("https://planetarycomputer.microsoft.com/")
    assert access.own_hosts == frozenset()

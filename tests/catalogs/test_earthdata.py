"""NASA's archive, with a server on loopback in its place: what is asked, fetched, kept, refused, and never told.

The server answers as CMR and LAADS DAAC document it; the archive itself is not asked.
"""

from __future__ import annotations

import builtins
import datetime as dt
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from earthaccess.system import CMRBaseURL, EDLHostname, StatusApiURL, StatusURL, System
from werkzeug import Response

from compoundwatch.catalogs import KNOWN, open_catalog
from compoundwatch.catalogs.earthdata import Earthdata, default_folder, of_nasa
from compoundwatch.errors import CatalogError
from compoundwatch.grid import Grid
from compoundwatch.model import SearchSettings
from compoundwatch.sensors import sentinel1, sentinel2
from compoundwatch.sensors.black_marble import SENSOR
from compoundwatch.stack import by_day, load
from tests import granules

TOKEN = "a-token-that-nobody-may-see"
SETTINGS = SearchSettings(timeout_s=5)
YEAR = (dt.date(2025, 1, 1), dt.date(2025, 12, 31))
GRID = Grid(32648, 499_500.0, 1_284_500.0, 50.0, 10, 12)
ROW, COL = 2010, 1190


@pytest.fixture(autouse=True)
def account(monkeypatch, tmp_path):
    """A token in the environment, and no other account on this machine in reach."""
    for name in ("EARTHDATA_USERNAME", "EARTHDATA_PASSWORD", "XDG_CACHE_HOME", "COMPOUNDWATCH_GRANULES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


class Archive:
    """A server that stands for CMR (/search) and LAADS DAAC (/data)."""

    def __init__(self, httpserver, folder: Path):
        self.server = httpserver
        self.folder = folder
        self.pages: dict[str, list[dict]] = {}
        self.fetched: list[str] = []
        self.asked: list[dict] = []
        self.spoil = lambda name, body: Response(body)
        httpserver.expect_request("/search/granules.umm_json").respond_with_handler(self._search)

    def add(self, name: str, radiance: float = 12.0, *, size: bool = True, links: list[str] | None = None) -> bytes:
        """Offer a granule."""
        body = granules.write(self.folder / name, radiance, ROW, COL).read_bytes()
        stated = {"SizeInBytes": len(body), "Size": len(body) / 2**20, "SizeUnit": "MB"} if size else {}
        self.describe(name, links or [self.server.url_for(f"/data/{name}")], stated)
        self.server.expect_request(f"/data/{name}").respond_with_handler(
            lambda request: self._data(request, name, body)
        )
        return body

    def describe(self, name: str, links: list[str], size: dict[str, Any] | None = None) -> None:
        """Tell of a granule in the catalogue alone."""
        about = {
            "GranuleUR": f"LAADS:{name}",
            "DataGranule": {"ArchiveAndDistributionInformation": [{"Name": name} | (size or {})]},
            "RelatedUrls": [{"URL": url, "Type": "GET DATA"} for url in links],
        }
        self.pages.setdefault(name.split(".")[0], []).append({"meta": {"concept-id": "G1-LAADS"}, "umm": about})

    def _search(self, request):
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        self.asked.append(request.args.to_dict(flat=False))
        items = self.pages.get(request.args["short_name"], [])
        size = int(request.args["page_size"])
        after = int(request.headers.get("cmr-search-after") or 0)
        body = {"hits": len(items), "took": 1, "items": items[after : after + size]}
        return Response(
            json.dumps(body),
            mimetype="application/vnd.nasa.cmr.umm_results+json",
            headers={"CMR-Hits": str(len(items)), "CMR-Search-After": str(after + size)},
        )

    def _data(self, request, name, body):
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        self.fetched.append(name)
        return self.spoil(name, body)


@pytest.fixture
def archive(httpserver, tmp_path):
    return Archive(httpserver, tmp_path / "archive")


def catalog(archive, folder, settings=SETTINGS, trusted=None):
    url = archive.server.url_for("/")
    system = System(CMRBaseURL(url + "search/"), StatusURL(url), StatusApiURL(url), EDLHostname("localhost"))
    return Earthdata(settings, folder, system, trusted or (lambda address: address.startswith(url)))


def find(catalog, days=YEAR, settings=SETTINGS):
    return catalog.search(GRID.lonlat_bounds, *days, SENSOR, settings)


# --------------------------------------------------------------------------------------------------------- chain


def test_from_search_to_pixels(archive, tmp_path):
    night = granules.BASE + dt.timedelta(days=1)
    archive.add(granules.name(), 12.0)
    archive.add(granules.name(product="VJ146A2"), 13.0)
    archive.add(granules.name(night), 14.0)
    folder = tmp_path / "kept"
    scenes, skipped = find(catalog(archive, folder))
    assert skipped == []
    assert [(s.acquired.date(), s.look) for s in scenes] == [
        (granules.BASE, "noaa20"),
        (granules.BASE, "snpp"),
        (night, "snpp"),
    ]
    stack, unread = load(by_day(scenes), SENSOR, GRID)
    assert unread == []
    np.testing.assert_allclose(np.exp(stack["lights"].values).mean(axis=(1, 2)) - 0.5, [13, 12, 14], rtol=1e-5)
    assert sorted(p.name for p in folder.iterdir()) == sorted(archive.fetched), "no partial file is left"
    asked = archive.asked[0]
    assert asked["short_name"] == ["VNP46A2"]
    assert asked["temporal[]"] == ["2025-01-01T00:00:00Z,2025-12-31T23:59:59Z"]
    west, south, east, north = (float(v) for v in asked["bounding_box"][0].split(","))
    assert (west, south, east, north) == pytest.approx(GRID.lonlat_bounds)


def test_what_is_there_is_not_fetched_again(archive, tmp_path):
    archive.add(granules.name())
    first, _ = find(catalog(archive, tmp_path / "kept"))
    archive.add(granules.name(product="VJ146A2"))
    again, _ = find(catalog(archive, tmp_path / "kept"))
    assert archive.fetched == [granules.name(), granules.name(product="VJ146A2")]
    assert [s.look for s in again] == ["noaa20", "snpp"]
    assert first[0] == again[1]


def test_sites_of_one_tile_are_asked_for_once(archive, tmp_path):
    archive.add(granules.name())
    asked = catalog(archive, tmp_path / "kept")
    first, _ = find(asked)
    questions = len(archive.asked)
    west, south, east, north = GRID.lonlat_bounds
    again, _ = asked.search((west + 1, south + 1, east + 1, north + 1), *YEAR, SENSOR, SETTINGS)
    assert len(archive.asked) == questions
    assert again == first
    other, _ = asked.search((west + 10, south, east + 10, north), *YEAR, SENSOR, SETTINGS)
    assert len(archive.asked) > questions
    assert other == []


def test_a_file_cut_short_by_hand_is_fetched_anew(archive, tmp_path):
    body = archive.add(granules.name())
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / granules.name()).write_bytes(body[:500])
    find(catalog(archive, tmp_path / "kept"))
    assert (tmp_path / "kept" / granules.name()).read_bytes() == body


def test_an_answer_of_several_pages(archive, tmp_path):
    """The library asks for 2000 a page; what matters here stands on the second."""
    for k in range(2050):
        other = granules.name(granules.BASE - dt.timedelta(days=k), tile=(29, 7))
        archive.describe(other, [archive.server.url_for(f"/data/{other}")])
    for k in range(9):
        archive.add(granules.name(granules.BASE + dt.timedelta(days=k)))
    scenes, skipped = find(catalog(archive, tmp_path / "kept"))
    names = [granules.name(granules.BASE + dt.timedelta(days=k)) for k in range(9)]
    assert [s.scene_id + ".h5" for s in scenes] == names
    assert skipped == []
    assert sorted(archive.fetched) == names
    for name in names:
        assert (tmp_path / "kept" / name).read_bytes() == (archive.folder / name).read_bytes()
    assert len([a for a in archive.asked if a["short_name"] == ["VNP46A2"]]) == 3, "the number of hits, then two pages"


def test_days_and_tiles_that_were_not_asked_for_are_not_fetched(archive, tmp_path):
    archive.add(granules.name())
    archive.add(granules.name(dt.date(2024, 12, 31)))
    archive.add(granules.name(tile=(29, 7)))
    archive.add(granules.name(product="VNP46A2G"))
    scenes, _ = find(catalog(archive, tmp_path / "kept"))
    assert archive.fetched == [granules.name()]
    assert len(scenes) == 1


def test_collection_1_is_told_and_not_fetched(archive, tmp_path):
    archive.add(granules.name(collection="001"))
    archive.add(granules.name())
    scenes, skipped = find(catalog(archive, tmp_path / "kept"))
    assert archive.fetched == [granules.name()]
    assert [(s.item_id, s.routine) for s in skipped] == [(granules.name(collection="001")[:-3], True)]
    assert len(scenes) == 1


def test_nothing_found_is_an_empty_list(archive, tmp_path):
    assert find(catalog(archive, tmp_path / "kept")) == ([], [])
    assert not (tmp_path / "kept").exists()


def test_too_many_granules_are_refused_before_one_is_fetched(archive, tmp_path):
    for k in range(3):
        archive.add(granules.name(granules.BASE + dt.timedelta(days=k)))
    settings = SearchSettings(max_scenes=2)
    with pytest.raises(CatalogError, match=r"3 granules found.*max_scenes = 2"):
        find(catalog(archive, tmp_path / "kept", settings), settings=settings)
    assert archive.fetched == []


# ------------------------------------------------------------------------------------------------------ failures


def test_one_broken_granule_is_told_and_the_others_are_used(archive, tmp_path):
    bad, good = granules.name(), granules.name(product="VJ146A2")
    archive.add(bad)
    archive.add(good)

    def spoil(name, body):
        return Response(body[:-1000]) if name == bad else Response(body)

    archive.spoil = spoil
    scenes, skipped = find(catalog(archive, tmp_path / "kept"))
    assert [s.look for s in scenes] == ["noaa20"]
    assert [(s.item_id, s.stage, s.routine) for s in skipped] == [(bad, "search", False)]
    assert "bytes came" in skipped[0].reason
    assert [p.name for p in (tmp_path / "kept").iterdir()] == [good]


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (lambda body: Response("<html>log in</html>"), "page that asks to log in"),
        (lambda body: Response(b""), "no HDF5 file"),
        (lambda body: Response("gone", status=404), "status 404"),
        (lambda body: Response(body + b"more"), "bytes came"),
    ],
)
def test_what_is_no_granule_is_not_kept(archive, tmp_path, answer, word):
    archive.add(granules.name())
    archive.spoil = lambda name, body: answer(body)
    with pytest.raises(CatalogError, match=word):
        find(catalog(archive, tmp_path / "kept"))
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_connection_that_breaks_off(archive, tmp_path):
    """The server announces more than it sends, and the catalogue states no size."""
    archive.add(granules.name(), size=False)
    archive.spoil = lambda name, body: Response(iter([body[:-1000]]), headers={"Content-Length": str(len(body))})
    with pytest.raises(CatalogError, match=r"did not deliver it|bytes came"):
        find(catalog(archive, tmp_path / "kept"))
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_says_what_to_do_and_is_not_repeated(archive, tmp_path, status):
    archive.add(granules.name())
    archive.spoil = lambda name, body: Response(f"no such token {TOKEN}", status=status)
    with pytest.raises(CatalogError, match=r"refused the token.*EARTHDATA_TOKEN") as told:
        find(catalog(archive, tmp_path / "kept"))
    assert TOKEN not in str(told.value)


def test_a_search_that_fails_says_so_without_the_servers_words(archive, tmp_path, httpserver):
    httpserver.clear()
    httpserver.expect_request("/search/granules.umm_json").respond_with_data(f"token {TOKEN} unknown", status=401)
    with pytest.raises(CatalogError, match=r"search for VNP46A2 \(status 401\)") as told:
        find(catalog(archive, tmp_path / "kept"))
    assert TOKEN not in str(told.value)
    assert told.value.__cause__ is None


def test_an_answer_that_is_none(archive, tmp_path, httpserver):
    httpserver.clear()
    httpserver.expect_request("/search/granules.umm_json").respond_with_data("<html>", headers={"CMR-Hits": "1"})
    with pytest.raises(CatalogError, match="did not answer the search"):
        find(catalog(archive, tmp_path / "kept"))


def test_an_entry_without_an_address_is_no_granule(archive, tmp_path):
    archive.pages["VNP46A2"] = [{"meta": {}, "umm": {}}]
    assert find(catalog(archive, tmp_path / "kept")) == ([], [])


@pytest.mark.parametrize("about", [{"RelatedUrls": [{"URL": 3}]}, {"RelatedUrls": None}, 7, None])
def test_an_entry_of_another_form(archive, tmp_path, about):
    archive.pages["VNP46A2"] = [{"meta": {}, "umm": about}]
    with pytest.raises(CatalogError, match="did not answer the search"):
        find(catalog(archive, tmp_path / "kept"))


def test_the_token_goes_to_nasa_alone(archive, tmp_path):
    elsewhere = archive.server.url_for(f"/data/{granules.name()}")
    archive.add(granules.name(), links=[elsewhere])
    with pytest.raises(CatalogError, match="no other may see the token"):
        find(catalog(archive, tmp_path / "kept", trusted=of_nasa))
    assert archive.fetched == []


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://ladsweb.modaps.eosdis.nasa.gov/archive/x.h5", True),
        ("https://data.laadsdaac.earthdatacloud.nasa.gov/x.h5", True),
        ("http://ladsweb.modaps.eosdis.nasa.gov/x.h5", False),
        ("https://nasa.gov.example.org/x.h5", False),
        ("https://notnasa.gov/x.h5", False),
        ("https://example.org/?host=.nasa.gov", False),
        ("https://user@example.org/.nasa.gov", False),
        ("s3://prod-lads/x.h5", False),
    ],
)
def test_addresses_of_nasa(url, trusted):
    assert of_nasa(url) == trusted


def test_a_name_that_leaves_the_folder_is_not_used(archive, tmp_path):
    archive.add(
        granules.name(), links=[archive.server.url_for("/data/..%2F..%2Fevil.h5"), "ftp://x/y", "not an address"]
    )
    assert find(catalog(archive, tmp_path / "kept")) == ([], [])


def test_a_folder_that_cannot_be_made(archive, tmp_path):
    archive.add(granules.name())
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogError, match="COMPOUNDWATCH_GRANULES"):
        find(catalog(archive, tmp_path / "file" / "kept"))


def test_nothing_logged_holds_the_token(archive, tmp_path, caplog):
    archive.add(granules.name())
    with caplog.at_level(logging.DEBUG):
        find(catalog(archive, tmp_path / "kept"))
    assert "fetching 1 granules" in caplog.text
    assert TOKEN not in caplog.text


# ------------------------------------------------------------------------------------------------------- account


def test_asked_for_lights_only(archive, tmp_path):
    asked = catalog(archive, tmp_path)
    assert asked.serves(SENSOR)
    assert not asked.serves(sentinel1.SENSOR)
    assert not asked.serves(sentinel2.SENSOR)
    assert isinstance(open_catalog("earthdata", SETTINGS), Earthdata)
    assert "earthdata" in KNOWN


def test_without_an_account_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.delenv("EARTHDATA_TOKEN")
    asked = open_catalog("earthdata", SETTINGS)
    assert not asked.serves(sentinel2.SENSOR), "other sensors need no account"
    with pytest.raises(CatalogError, match=r"no NASA Earthdata account.*EARTHDATA_TOKEN.*folder of granules"):
        asked.serves(SENSOR)
    with pytest.raises(CatalogError, match="no NASA Earthdata account"):
        asked.search(GRID.lonlat_bounds, *YEAR, SENSOR, SETTINGS)


def test_nobody_is_prompted(monkeypatch):
    monkeypatch.delenv("EARTHDATA_TOKEN")

    def forbidden(*_):
        raise AssertionError("asked at the terminal")

    monkeypatch.setattr(builtins, "input", forbidden)
    monkeypatch.setattr("getpass.getpass", forbidden)
    with pytest.raises(CatalogError):
        open_catalog("earthdata", SETTINGS).serves(SENSOR)


def test_an_account_of_netrc_that_cannot_be_checked(monkeypatch, tmp_path, archive):
    """The name and password of the file are sent to Earthdata Login, here a host where nobody answers."""
    monkeypatch.delenv("EARTHDATA_TOKEN")
    (tmp_path / "netrc").write_text("machine localhost login somebody password secret-word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(CatalogError, match="did not accept the account of the netrc") as told:
        catalog(archive, tmp_path).serves(SENSOR)
    assert "secret-word" not in str(told.value)


def test_a_netrc_without_nasa_is_no_account(monkeypatch, tmp_path):
    monkeypatch.delenv("EARTHDATA_TOKEN")
    (tmp_path / "netrc").write_text("machine example.org login somebody password secret-word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(CatalogError, match="no NASA Earthdata account"):
        open_catalog("earthdata", SETTINGS).serves(SENSOR)


def test_without_earthaccess_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "earthaccess", None)
    with pytest.raises(CatalogError, match=r"pip install 'compoundwatch\[lights\]'"):
        open_catalog("earthdata", SETTINGS).serves(SENSOR)


# -------------------------------------------------------------------------------------------------------- folder


def test_where_granules_are_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    assert default_folder() == tmp_path / "home" / ".cache" / "compoundwatch" / "granules"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_folder() == tmp_path / "cache" / "compoundwatch" / "granules"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_folder() == tmp_path / "home" / "Library" / "Caches" / "compoundwatch" / "granules"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_folder() == tmp_path / "local" / "compoundwatch" / "granules"
    monkeypatch.setenv("COMPOUNDWATCH_GRANULES", "~/lights")
    assert default_folder() == tmp_path / "home" / "lights"

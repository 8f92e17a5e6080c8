"""Tokens: asked for once a container, renewed in time again where refused, sent nowhere else, and never told."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import socket
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from email.utils import format_datetime

import numpy as np
import pytest
from werkzeug import Response
from werkzeug.serving import WSGIRequestHandler

from compoundwatch.catalogs import open_catalog, stac
from compoundwatch.errors import StackError
from compoundwatch.grid import Grid
from compoundwatch.model import Access, Asset, SearchSettings
from compoundwatch.outputs.manifest import scene_entry
from compoundwatch.sensors.sentinel2 import SENSOR
from compoundwatch.stack import by_day, files, load, signing
from compoundwatch.stack.signing import Tokens, container
from tests.support import EPSG, LEFT, SHAPE, TOP, reflectances, save_catalog, stac_server, write_item

PLANETARY = stac.SIGNED["planetarycomputer.microsoft.com"]
AN_HOUR = dt.timedelta(hours=1)
NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


# ----------------------------------------------------------------------------------------------- who is given a token


def test_a_file_of_planetary_computer_needs_the_token_of_its_container():
    href = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/06/V/VN/2019/a.tif"
    endpoint = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
    assert container(href, PLANETARY) == (endpoint, "sentinel2l2a01", "sentinel2-l2")


@pytest.mark.parametrize(
    "href",
    [
        "http://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/a.tif",  # a token never travels without encryption
        "https://sentinel2l2a01.blob.core.windows.net.example.org/sentinel2-l2/a.tif",
        "https://example.org/sentinel2l2a01.blob.core.windows.net/sentinel2-l2/a.tif",
        "https://blob.core.windows.net/sentinel2-l2/a.tif",
        "https://evilblob.core.windows.net/sentinel2-l2/a.tif",
        "https://a.b.blob.core.windows.net/sentinel2-l2/a.tif",
        "https://ab..blob.core.windows.net/sentinel2-l2/a.tif",
        "https://sentinel2l2a01.blob.core.windows.net/../../token/other/a.tif",
        "https://sentinel2l2a01.blob.core.windows.net/%2e%2e/a.tif",
        "https://sentinel2l2a01.blob.core.windows.net/",
        "https://sentinel2l2a01.blob.core.windows.net?x/y",
        "https://sentinel2l2a01.blob.core.windows.net/Sentinel_2/a.tif",
        "https://e84-earth-search-sentinel-data.s3.us-west-2.amazonaws.com/a.tif",
        "/sentinel2l2a01.blob.core.windows.net/sentinel2-l2/a.tif",
    ],
)
def test_no_other_address_is_given_a_token(href):
    assert container(href, PLANETARY) is None
    assert Tokens().sign(href, PLANETARY) == href


def test_only_items_of_that_catalogue_are_signed():
    href = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/a.tif"
    assert container(href, Access()) is None
    assert list(stac.SIGNED) == ["planetarycomputer.microsoft.com"]
    for loose in ("", "windows.net", "blob.core.windows.net"):
        assert container(href, Access(token_endpoint=PLANETARY.token_endpoint, signed_hosts=loose)) is None


# ----------------------------------------------------------------------------------- a real endpoint and real storage


class Cloud:
    """A token endpoint and a storage that refuses every token but those it takes for good."""

    def __init__(self, server, monkeypatch, lifetime=AN_HOUR, clock=NOON):
        self.server, self.lifetime, self.clock = server, lifetime, clock
        self.given: list[str] = []
        self.good: set[str] | None = None
        self.asked: list[str] = []
        self.read: list[tuple[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.answer = None
        self.lock = threading.Lock()
        self.access = Access(
            frozenset({"127.0.0.1", "store1.blob.test", "store2.blob.test"}),
            f"http://127.0.0.1:{server.port}/api/sas/v1/token",
            ".blob.test",
        )
        server.expect_request(re.compile(r"/api/sas/.*")).respond_with_handler(self._give)
        server.expect_request(re.compile(r"/box-\d/.*")).respond_with_handler(self._read)
        real = socket.getaddrinfo

        def look_up(host, port, *args, **options):
            return real("127.0.0.1" if host.endswith(".blob.test") else host, port, *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        told = format_datetime(clock, usegmt=True)  # in the header "Date" of every answer
        monkeypatch.setattr(WSGIRequestHandler, "date_time_string", lambda self, timestamp=None: told)

    def url(self, name="a.tif", account="store1", box="box-1"):
        return f"http://{account}.blob.test:{self.server.port}/{box}/{name}"

    def _give(self, request):
        with self.lock:
            self.asked.append(request.path)
            if self.answer is not None:
                return self.answer
            token = f"st=x&se=y&sig=SECRET{len(self.given)}%3D"
            self.given.append(token)
        expiry = (self.clock + self.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = json.dumps({"msft:expiry": expiry, "token": token})
        return Response(body)

    def _read(self, request):
        query = request.query_string.decode()
        with self.lock:
            self.read.append((request.path, query))
            allowed = self.given if self.good is None else self.good
        if query not in allowed:
            return Response("<Error><Code>AuthenticationFailed</Code></Error>", status=403)
        content = self.files.get(request.path, b"0123456789")
        start, end = request.headers["Range"].removeprefix("bytes=").split("-")
        part = content[int(start) : int(end) + 1]
        span = f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}"
        return Response(part, status=206, headers={"Content-Range": span})


@pytest.fixture
def cloud(httpserver, monkeypatch):
    made = Cloud(httpserver, monkeypatch)
    signing._client.cache_clear()
    files._client.cache_clear()
    files._CACHE.__init__()
    return made


def test_a_container_is_asked_for_once_and_each_has_its_own(cloud):
    tokens = Tokens()
    first = tokens.sign(cloud.url("a.tif"), cloud.access)
    assert first == cloud.url("a.tif") + "?st=x&se=y&sig=SECRET0%3D"
    assert tokens.sign(cloud.url("b.tif"), cloud.access).endswith("b.tif?st=x&se=y&sig=SECRET0%3D")
    assert tokens.sign(cloud.url("a.tif", box="box-2"), cloud.access).endswith("SECRET1%3D")
    assert tokens.sign(cloud.url("a.tif", account="store2"), cloud.access).endswith("SECRET2%3D")
    assert tokens.sign(cloud.url("a.tif") + "?v=2", cloud.access).endswith("a.tif?v=2&st=x&se=y&sig=SECRET0%3D")
    assert cloud.asked == [f"/api/sas/v1/token/{place}" for place in ("store1/box-1", "store1/box-2", "store2/box-1")]


def test_many_threads_ask_once(cloud):
    tokens = Tokens()
    with ThreadPoolExecutor(8) as pool:
        signed = set(pool.map(lambda _: tokens.sign(cloud.url(), cloud.access), range(40)))
    assert len(signed) == len(cloud.asked) == 1


class Watch:
    """A clock that stands where it is put."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def asked_at(cloud, *seconds):
    """How often the endpoint was asked when a file was read so many seconds after the first one."""
    watch, counts = Watch(), []
    tokens = Tokens(clock=watch)
    for after in seconds:
        watch.now = 1000.0 + after
        tokens.sign(cloud.url(), cloud.access)
        counts.append(len(cloud.asked))
    return counts


def test_a_token_is_renewed_before_it_expires(cloud):
    """It lasts for 3600 s; 120 s before that a new one is asked for."""
    assert asked_at(cloud, 0, 3479, 3481, 3481 + 3479, 3481 + 3481) == [1, 1, 2, 2, 3]


@pytest.mark.parametrize("wrong", [dt.timedelta(days=400), dt.timedelta(days=-400), dt.timedelta(minutes=-50)])
def test_it_does_not_matter_that_the_clock_here_is_wrong(httpserver, monkeypatch, wrong):
    """The server's clock is ``wrong`` ahead of ours, and its tokens last for an hour by its own clock."""
    cloud = Cloud(httpserver, monkeypatch, clock=dt.datetime.now(dt.UTC) + wrong)
    assert asked_at(cloud, 0, 3400, 3490) == [1, 1, 2]


def test_a_short_token_is_used_for_half_its_time(httpserver, monkeypatch):
    cloud = Cloud(httpserver, monkeypatch, lifetime=dt.timedelta(seconds=60))
    assert asked_at(cloud, 0, 29, 31) == [1, 1, 2]


def test_tokens_that_are_expired_when_they_come_do_not_make_us_hammer_the_endpoint(httpserver, monkeypatch):
    cloud = Cloud(httpserver, monkeypatch, lifetime=dt.timedelta(days=-1))
    assert asked_at(cloud, *[k / 100 for k in range(90)])[-1] == 1


def read(cloud, tokens, name="a.tif"):
    asset = Asset(cloud.url(name), None, access=cloud.access)
    return files.Remote(asset, tokens).open().read(10)


def test_a_refused_token_is_renewed_once_and_the_file_read(cloud):
    tokens = Tokens(young_s=0)
    assert read(cloud, tokens) == b"0123456789"
    cloud.good = {"st=x&se=y&sig=SECRET1%3D"}
    assert read(cloud, tokens, "b.tif") == b"0123456789"
    assert [q[-4:] for _, q in cloud.read] == ["0%3D", "0%3D", "1%3D"]
    assert len(cloud.asked) == 2


def test_a_file_that_stays_refused_is_not_tried_for_ever(cloud):
    tokens = Tokens(young_s=0)
    cloud.good = set()
    asset = Asset(cloud.url(), None, access=cloud.access)
    with pytest.raises(StackError, match="its server answers with status 403") as error:
        files.Remote(asset, tokens).head()
    assert "SECRET" not in str(error.value)
    assert len(cloud.read) == 2
    assert len(cloud.asked) == 2


def test_a_token_that_was_just_given_is_not_renewed(cloud):
    tokens = Tokens(young_s=3600)
    cloud.good = set()
    asset = Asset(cloud.url(), None, access=cloud.access)
    for _ in range(5):
        with pytest.raises(StackError, match="status 403"):
            files.Remote(asset, tokens).head()
    assert len(cloud.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Response("no", status=404),
        Response("no", status=403),
        Response("not json"),
        Response("[]"),
        Response("{}"),
        Response('{"token": 5, "msft:expiry": "2026-03-01T12:00:00Z"}'),
        Response('{"token": "", "msft:expiry": "2026-03-01T12:00:00Z"}'),
        Response('{"token": "sig=SECRET", "msft:expiry": "soon"}'),
        Response('{"token": "sig=SECRET\\r\\nX-Evil: 1", "msft:expiry": "2026-03-01T12:00:00Z"}'),
        Response('{"token": "sig=SECRET#@127.0.0.1/", "msft:expiry": "2026-03-01T12:00:00Z"}'),
        Response(json.dumps({"token": "sig=SECRET" * 1000, "msft:expiry": "2026-03-01T12:00:00Z"})),
        Response("[" * 100_000),
        Response("", status=302, headers={"Location": "http://10.0.0.1/token"}),
    ],
)
def test_an_endpoint_that_gives_no_token_is_told_without_its_words(cloud, answer, monkeypatch):
    monkeypatch.setattr(signing, "BUDGET_S", 5)
    tokens = Tokens()
    cloud.answer = answer
    with pytest.raises(StackError, match=r"no token to read store1/box-1 was given by 127\.0\.0\.1") as error:
        tokens.sign(cloud.url(), cloud.access)
    assert "SECRET" not in str(error.value)
    asked = len(cloud.asked)
    with pytest.raises(StackError):
        tokens.sign(cloud.url("b.tif"), cloud.access)
    assert len(cloud.asked) == asked, "for a while it is not asked again"


def test_a_busy_endpoint_is_waited_for(cloud):
    cloud.answer = Response("later", status=429, headers={"Retry-After": "1"})
    threading.Timer(0.5, lambda: setattr(cloud, "answer", None)).start()
    assert Tokens().sign(cloud.url(), cloud.access).endswith("SECRET0%3D")


# ------------------------------------------------------------------------------------------------- the whole way


GRID = Grid(EPSG, LEFT, TOP, 10.0, *SHAPE)
YEAR = (dt.date(2024, 1, 1), dt.date(2024, 12, 31))


def test_from_the_search_to_the_pixels_addresses_stay_bare(cloud, tmp_path, monkeypatch, caplog):
    """A catalogue whose files need tokens: they are read, and no token is left anywhere."""
    folder = tmp_path / "files"
    items = [write_item(folder, f"s{k}", f"2024-05-{1 + 5 * k:02d}T03:30:00", reflectances()) for k in range(2)]
    save_catalog(folder, items)
    served = []
    for one in items:
        described = one.to_dict(include_self_link=False, transform_hrefs=False)
        described["links"] = []
        for band, asset in described["assets"].items():
            name = f"{one.id}/{band}.tif"
            cloud.files[f"/box-1/{name}"] = (folder / name).read_bytes()
            asset["href"] = cloud.url(name)
        served.append(described)
    monkeypatch.setitem(stac.SIGNED, "127.0.0.1", cloud.access)
    with caplog.at_level(logging.DEBUG), stac_server(tmp_path, served) as api:
        scenes, skipped = open_catalog(api, SearchSettings()).search(
            GRID.lonlat_bounds, *YEAR, SENSOR, SearchSettings()
        )
        assert skipped == []
        assert [a.href for s in scenes for a in s.assets.values()] == [
            cloud.url(f"{s.scene_id}/{band}.tif") for s in scenes for band in s.assets
        ]
        stack, unread = load(by_day(scenes), SENSOR, GRID)
        assert unread == []
        assert np.isfinite(stack["ndvi"].values).all()
        assert len(cloud.asked) == 1
        cloud.good = set()
        cloud.files.clear()
        files._CACHE.__init__()
        signing.TOKENS.__init__(young_s=0)
        with pytest.raises(StackError, match="status 403") as error:
            load(by_day(scenes), SENSOR, GRID)
    assert all(query.startswith("st=x") for _, query in cloud.read)
    told = "".join(traceback.format_exception(error.value)) + json.dumps(
        [scene_entry(s, None) for s in scenes], default=str
    )
    logged = " ".join(r.getMessage() for r in caplog.records if r.name != "werkzeug")
    assert "blob.test" in told
    assert "SECRET" not in told + logged + repr(scenes) + str(stack)


def test_a_folder_or_another_catalogue_that_names_such_files_has_them_not_signed(cloud, tmp_path):
    """Its items name the same storage, but the catalogue is not the one whose files are signed."""
    items = [write_item(tmp_path, "s0", "2024-05-01T03:30:00", reflectances())]
    described = items[0].to_dict(include_self_link=False, transform_hrefs=False) | {"links": []}
    for band, asset in described["assets"].items():
        asset["href"] = cloud.url(f"{band}.tif").replace("blob.test", "blob.core.windows.net")
    with stac_server(tmp_path, [described]) as api:
        scenes, _ = open_catalog(api, SearchSettings()).search(GRID.lonlat_bounds, *YEAR, SENSOR, SearchSettings())
    assert len(scenes) == 1
    assert {a.access.token_endpoint for a in scenes[0].assets.values()} == {""}
    assert cloud.asked == []

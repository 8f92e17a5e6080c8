"""Nothing comes of what strangers write: it is refused, told, and nothing else is touched."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compoundwatch import aoi
from compoundwatch.catalogs import open_catalog
from compoundwatch.catalogs.items import folder_rule, remote_rule, select
from compoundwatch.errors import AreaError, CatalogError, CompoundWatchError, StackError
from compoundwatch.grid import Grid
from compoundwatch.model import SearchSettings
from compoundwatch.sensors.sentinel2 import SENSOR
from compoundwatch.stack import by_day, files, load
from tests.catalogs.hostile import AREAS, HREFS, ITEMS, NAMES
from tests.catalogs.test_items import item
from tests.support import EPSG, LEFT, SHAPE, TOP, reflectances, save_catalog, stac_server, write_item

SETTINGS = SearchSettings(timeout_s=3, budget_s=10)
PLACE = (103.4, 10.4, 103.5, 10.5)
YEAR = (dt.date(2024, 1, 1), dt.date(2024, 12, 31))
GRID = Grid(EPSG, LEFT, TOP, 10.0, *SHAPE)


@pytest.fixture(autouse=True)
def connections(monkeypatch):
    """Every address that is connected to; all but 127.0.0.1 fail the test, also where the failure would be caught."""
    made = []

    def watched(name):
        real = getattr(socket.socket, name)

        def connect(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6):
                made.append(address[0])
                if address[0] != "127.0.0.1":
                    raise ConnectionRefusedError(f"the test does not let {address[0]} be connected to")
            return real(self, address)

        return connect

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, watched(name))
    yield made
    assert set(made) <= {"127.0.0.1"}


def told_well(skipped):
    """What is told fits in a line and holds nothing that a terminal or a page could stumble over."""
    for one in skipped:
        assert (one.item_id + one.reason).isprintable()
        assert len(one.item_id) <= 200
        assert 0 < len(one.reason) < 500
        assert "secret" not in one.reason
        assert not one.routine
    return True


def naming(href):
    made = item("odd")
    made["assets"]["red"]["href"] = href
    return made


def test_the_corpus_is_large_enough():
    assert len(HREFS) + len(NAMES) + len(ITEMS) + len(AREAS) >= 110


@pytest.mark.parametrize("href", HREFS)
def test_an_item_of_a_remote_catalogue_that_names_what_it_may_not(href, connections):
    scenes, skipped = select(
        [naming(href), item()], PLACE, *YEAR, SENSOR, SETTINGS, "a", remote_rule("stac.example.org")
    )
    assert [s.scene_id for s in scenes] == ["a"]
    assert [s.item_id for s in skipped] == ["odd"]
    assert told_well(skipped)
    assert connections == []


@pytest.mark.parametrize("href", HREFS)
def test_an_item_of_a_folder_that_names_what_it_may_not(href, tmp_path, connections):
    scenes, skipped = select([naming(href)], PLACE, *YEAR, SENSOR, SETTINGS, "a", folder_rule(tmp_path))
    inside = [s.assets["red"].href for s in scenes]
    assert all(Path(path).is_relative_to(tmp_path.resolve()) for path in inside), "odd names of files in it are well"
    assert scenes or [s.item_id for s in skipped] == ["odd"]
    assert told_well(skipped)
    assert connections == []


@pytest.mark.parametrize("name", NAMES)
def test_an_id_that_is_none(name):
    scenes, skipped = select(
        [{**item(), "id": name}, item("b")], PLACE, *YEAR, SENSOR, SETTINGS, "a", remote_rule(None)
    )
    assert [s.scene_id for s in scenes] == ["b"]
    assert len(skipped) == 1
    assert told_well(skipped)


@pytest.mark.parametrize("odd", ITEMS)
def test_an_item_that_makes_a_reader_stumble(odd):
    scenes, skipped = select([odd, item()], PLACE, *YEAR, SENSOR, SETTINGS, "a", remote_rule(None))
    assert [s.scene_id for s in scenes] == ["a"]
    assert len(skipped) == 1
    assert told_well(skipped)


def test_all_of_them_at_once_through_a_real_server(tmp_path, connections):
    """Those that JSON can say at all, among good ones."""
    odd = [*map(naming, HREFS), *({**item(), "id": name} for name in NAMES if isinstance(name, str)), *ITEMS]
    odd = [o for o in odd if o.get("properties", {}) and "NaN" not in json.dumps(o) and "Infinity" not in json.dumps(o)]
    odd = [{**o, "id": f"odd-{k}"} if o.get("id") == "odd" else o for k, o in enumerate(odd)]
    good = [item(f"good-{k}", f"2024-06-{k + 1:02d}T03:30:00Z") for k in range(5)]
    page = json.dumps({"type": "FeatureCollection", "features": odd + good, "links": []})
    collection = {
        "type": "Collection",
        "id": "sentinel-2-l2a",
        "stac_version": "1.0.0",
        "description": "a",
        "links": [],
    }
    collection |= {"license": "other", "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}}}
    collection["extent"]["temporal"] = {"interval": [[None, None]]}
    from pytest_httpserver import HTTPServer

    with HTTPServer("127.0.0.1") as server:
        root = {"type": "Catalog", "id": "a", "description": "a", "stac_version": "1.0.0", "conformsTo": []}
        root["conformsTo"] = [f"https://api.stacspec.org/v1.0.0/{n}" for n in ("core", "item-search", "collections")]
        root["links"] = [
            {"rel": "search", "href": server.url_for("/search"), "method": "POST"},
            {"rel": "data", "href": server.url_for("/collections")},
        ]
        server.expect_request("/").respond_with_json(root)
        server.expect_request("/collections/sentinel-2-l2a").respond_with_json(collection)
        server.expect_request("/collections/sentinel-2-c1-l2a").respond_with_data("", status=404)
        server.expect_request("/search").respond_with_data(page, content_type="application/json")
        scenes, skipped = open_catalog(server.url_for("/"), SETTINGS).search(PLACE, *YEAR, SENSOR, SETTINGS)
    names = [s.scene_id for s in scenes]
    assert [n for n in names if n.startswith("good")] == [f"good-{k}" for k in range(5)]
    own_host = [s for s in scenes if not s.scene_id.startswith("good")]
    assert {s.assets["red"].href.split("/")[2].split(":")[0] for s in own_host} <= {"127.0.0.1"}
    refused = [s for s in skipped if "same acquisition" not in s.reason]
    assert len(refused) > 60
    assert told_well(refused)


# ------------------------------------------------------------------------------------- folders


def catalog(links):
    return {"type": "Catalog", "id": "a", "description": "d", "stac_version": "1.0.0", "links": links}


def search(folder):
    return open_catalog(folder, SETTINGS).search(PLACE, *YEAR, SENSOR, SETTINGS)


@pytest.mark.parametrize("rel", ["child", "item"])
@pytest.mark.parametrize("href", HREFS)
def test_a_folder_whose_catalogue_links_to_what_it_may_not(tmp_path, rel, href, connections):
    (tmp_path / "catalog.json").write_text(json.dumps(catalog([{"rel": rel, "href": href}])))
    try:
        assert search(tmp_path) == ([], []), "a link that is no link leads nowhere"
    except CatalogError as error:
        assert str(error).isprintable() and "root:" not in str(error)  # noqa: PT017, PT018 - refused or overlooked
    assert connections == []


def test_links_that_lead_in_circles_end(tmp_path):
    (tmp_path / "catalog.json").write_text(json.dumps(catalog([{"rel": "child", "href": "./b.json"}] * 30)))
    (tmp_path / "b.json").write_text(json.dumps(catalog([{"rel": "child", "href": "./catalog.json"}] * 30)))
    assert search(tmp_path) == ([], [])


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"links": ' + "[" * 100_000, "\ufeff{}", "\x00", '{"type": "Catalog"}']
)
def test_a_catalogue_that_is_none(tmp_path, text):
    (tmp_path / "catalog.json").write_text(text)
    with pytest.raises(CatalogError) as error:
        search(tmp_path)
    assert str(error.value).isprintable()


def test_symbolic_links_and_devices_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "catalog"
    one = write_item(folder, "a", "2024-05-01T03:30:00", reflectances())
    save_catalog(folder, [one])
    shutil.move(folder / "a" / "red.tif", outside / "red.tif")
    (folder / "a" / "red.tif").symlink_to(outside / "red.tif")
    bounds = GRID.lonlat_bounds
    scenes, skipped = open_catalog(folder, SETTINGS).search(bounds, *YEAR, SENSOR, SETTINGS)
    assert scenes == []
    assert "outside the folder" in skipped[0].reason
    (folder / "a" / "red.tif").unlink()
    os.mkfifo(folder / "a" / "red.tif")
    scenes, skipped = open_catalog(folder, SETTINGS).search(bounds, *YEAR, SENSOR, SETTINGS)
    assert scenes == []
    assert "no plain file" in skipped[0].reason


# --------------------------------------------------------------------------------- names that resolve to the inside


def test_a_name_that_resolves_to_the_inside_is_found_out_when_it_is_read(tmp_path, monkeypatch, connections):
    """The address looks public, so the item is taken; the connection is not made, and nobody else is asked."""
    items = [write_item(tmp_path, "a", "2024-05-01T03:30:00", reflectances())]
    described = items[0].to_dict(include_self_link=False, transform_hrefs=False) | {"links": []}
    for band, asset in described["assets"].items():
        asset["href"] = f"http://rebind.example.org:8080/{band}.tif"
    real = socket.getaddrinfo
    secret = ["10.0.0.1", "169.254.169.254", "127.0.0.2"]

    def look_up(host, port, *args, **options):
        if host == "rebind.example.org":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in secret]
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with stac_server(tmp_path, [described]) as api:
        scenes, _ = open_catalog(api, SETTINGS).search(GRID.lonlat_bounds, *YEAR, SENSOR, SETTINGS)
    assert len(scenes) == 1
    before = len(connections)
    with pytest.raises(StackError, match=r"rebind\.example\.org lies on this machine or its network"):
        load(by_day(scenes), SENSOR, GRID)
    assert len(connections) == before


# ------------------------------------------------------------------------------------------------------ areas


@pytest.mark.parametrize("name", AREAS)
def test_a_file_of_areas_that_is_none(tmp_path, name, connections):
    path = tmp_path / "areas.geojson"
    path.write_text(AREAS[name])
    with pytest.raises(AreaError) as error:
        aoi.read_areas(path)
    assert "root:" not in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000
    assert connections == []


# ------------------------------------------------------- below Python: what the libraries in C open and connect to

HOOK = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what, const char *text) {
    char line[4200];
    int n = snprintf(line, sizeof line, "%s %s\n", what, text);
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int fd = real(getenv("HOOK_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (fd >= 0) { if (write(fd, line, n) < 0) {} close(fd); }
}
int connect(int fd, const struct sockaddr *a, socklen_t n) {
    char text[INET6_ADDRSTRLEN] = "";
    if (a->sa_family == AF_INET) inet_ntop(AF_INET, &((struct sockaddr_in *)a)->sin_addr, text, sizeof text);
    if (a->sa_family == AF_INET6) inet_ntop(AF_INET6, &((struct sockaddr_in6 *)a)->sin6_addr, text, sizeof text);
    if (text[0]) note("connect", text);
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    return real(fd, a, n);
}
#define OPEN(name) int name(const char *p, int f, ...) { \
    va_list v; va_start(v, f); int m = va_arg(v, int); va_end(v); note("open", p); \
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name); return real(p, f, m); }
OPEN(open)
OPEN(open64)
#define FOPEN(name) FILE *name(const char *p, const char *m) { note("open", p); \
    FILE *(*real)(const char *, const char *) = dlsym(RTLD_NEXT, #name); return real(p, m); }
FOPEN(fopen)
FOPEN(fopen64)
"""

PROGRAM = """
import sys
from pathlib import Path
import rasterio
from compoundwatch.errors import StackError
from compoundwatch.model import Asset, Calibration
from compoundwatch.stack.files import GDAL_OPTIONS, opened

for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        with rasterio.Env(**GDAL_OPTIONS), opened(Asset(str(path), Calibration(1, 0, None, ""))) as source:
            source.read(1, window=((0, 4), (0, 4)))
            source.read(1, out_shape=(2, 2))
            print(path.name, "read")
    except (StackError, rasterio.errors.RasterioError) as error:
        print(path.name, "refused")
"""


@pytest.fixture(scope="module")
def hook(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler on Linux to watch what libraries open and connect to")
    folder = tmp_path_factory.mktemp("hook")
    (folder / "hook.c").write_text(HOOK)
    build = [compiler, "-shared", "-fPIC", "-o", "hook.so", "hook.c", "-ldl"]
    if subprocess.run(build, cwd=folder, capture_output=True).returncode:
        pytest.skip("the watch over libraries could not be compiled")
    return folder / "hook.so"


def test_the_libraries_below_open_no_other_file_and_connect_to_nobody(hook, tmp_path, httpserver):
    """Files that name others, in all the ways that GDAL knows, are opened in a process of their own and watched."""
    import rasterio
    from affine import Affine

    from tests.stack.test_files import DRIVERS

    folder, secret = tmp_path / "files", tmp_path / "secret.tif"
    folder.mkdir()
    place = Affine(10, 0, LEFT, 0, -10, TOP)
    profile = {"driver": "GTiff", "width": 32, "height": 24, "count": 1, "dtype": "uint16", "crs": f"EPSG:{EPSG}"}

    def write(path, **tags):
        with rasterio.open(path, "w", **profile, transform=place) as file:
            file.write(np.ones(SHAPE, dtype=np.uint16), 1)
            for namespace, value in tags.items():
                file.update_tags(ns=namespace, **value)

    write(secret)
    write(folder / "good.tif")
    inside = f"http://127.0.0.1:{httpserver.port}/secret.tif"
    targets = [str(secret), f"/vsicurl/{inside}", f"GTIFF_DIR:1:{secret}", f"/vsizip//vsicurl/{inside}/a"]
    for k, target in enumerate(targets):
        write(folder / f"overviews-{k}.tif", OVERVIEWS={"OVERVIEW_FILE": target})
        write(folder / f"proxy-{k}.tif", PROXY_OVERVIEW_REQUEST={"OVERVIEW_FILE": target})
        write(
            folder / f"rpc-{k}.tif", RPC={"HEIGHT_OFF": target}, GEOLOCATION={"X_DATASET": target, "Y_DATASET": target}
        )
        for kind, content in DRIVERS.items():
            (folder / f"{kind}-{k}.tif").write_bytes(content % target.encode())
    for side in ("good.tif.ovr", "good.tif.msk", "good.tif.aux.xml"):
        shutil.copy(secret, tmp_path / side)
    log = tmp_path / "log"
    environment = {**os.environ, "LD_PRELOAD": str(hook), "HOOK_LOG": str(log)}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    answers = dict(line.split() for line in ran.stdout.splitlines())
    assert answers["good.tif"] == "read"
    assert {v for k, v in answers.items() if k.startswith(("overviews", *DRIVERS))} == {"refused"}
    seen = log.read_text(errors="replace").splitlines()
    assert any("good.tif" in line for line in seen), "the watch works"
    assert [line for line in seen if line.startswith("connect")] == []
    assert [line for line in seen if "secret.tif" in line or ".ovr" in line or ".aux" in line or ".msk" in line] == []
    assert httpserver.log == []


def test_the_watch_would_see_it(hook, tmp_path, httpserver):
    """The same file, opened without our guards, does open the other file: the test above can fail."""
    httpserver.expect_request("/secret.tif").respond_with_data("secret")
    log = tmp_path / "log"
    inside = f"/vsicurl/http://127.0.0.1:{httpserver.port}/secret.tif"
    program = f"import rasterio\ntry:\n rasterio.open('{inside}')\nexcept rasterio.errors.RasterioError: pass"
    environment = {**os.environ, "LD_PRELOAD": str(hook), "HOOK_LOG": str(log)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)
    assert "connect 127.0.0.1" in log.read_text(errors="replace")


def test_errors_are_ours():
    assert issubclass(CatalogError, CompoundWatchError)
    assert files.GDAL_OPTIONS["CPL_VSIL_CURL_ALLOWED_FILENAME"] == "none"

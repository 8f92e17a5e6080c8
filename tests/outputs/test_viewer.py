"""The viewer, asked over the network by a real client: what it shows, and what it refuses."""

from __future__ import annotations

import io
import json
import math
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import rasterio
import uvicorn
from PIL import Image

from compoundwatch.errors import SettingsError
from compoundwatch.model import WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.viewer import make_app

from .conftest import GRID, rectangle

LESS, MORE = (0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)
SECRET = "nobody may read this"


@pytest.fixture(scope="module")
def folder(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("viewer")
    (home / "secret.txt").write_text(SECRET, encoding="utf-8")
    write_watch(result, home / "result")
    (home / "result" / "store.gpkg").write_text(SECRET, encoding="utf-8")
    return home / "result"


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    app = make_app(folder, "1.2", {"sentinel2": "contains modified Copernicus Sentinel data"})
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    with httpx.Client(base_url=f"http://127.0.0.1:{door.getsockname()[1]}", timeout=60, trust_env=False) as asking:
        yield asking
    server.should_exit = True
    thread.join()
    door.close()


def tile_of(x: float, y: float, zoom: int) -> tuple[int, int, int, int]:
    """The tile that holds a place, and the pixel in it: the formula of the web's common grid."""
    n = 2**zoom
    east = (x + 180) / 360 * n
    south = (1 - math.asinh(math.tan(math.radians(y))) / math.pi) / 2 * n
    return int(east), int(south), int(east % 1 * 256), int(south % 1 * 256)


def pixel(client: httpx.Client, name: str, col: int, row: int, zoom: int = 18) -> tuple[int, ...]:
    """The colour (red, green, blue, alpha) that a tile has at the middle of a pixel of GRID."""
    middle = rectangle(col, row, col + 1, row + 1).centroid
    x, y, across, down = tile_of(middle.x, middle.y, zoom)
    answer = client.get(f"/tiles/{zoom}/{x}/{y}/{name}.png")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    image = Image.open(io.BytesIO(answer.content)).convert("RGBA")
    assert image.size == (256, 256)
    return image.getpixel((across, down))


def named(client: httpx.Client, kind: str, **more: str) -> str:
    rows = [r for r in client.get("/layers").json() if r["kind"] == kind]
    return str(next(r["name"] for r in rows if all(r[k] == v for k, v in more.items())))


def test_tiles_of_a_change_map_have_the_colours_of_the_legend(client: httpx.Client) -> None:
    name = named(client, "change")
    assert pixel(client, name, 11, 8) == (*LESS, 255)
    assert pixel(client, name, 20, 15) == (*MORE, 255)
    assert pixel(client, name, 15, 12)[3] == 0  # no change
    assert pixel(client, name, 31, 0)[3] == 0  # not tested


def test_tiles_of_a_picture_show_its_pixels(client: httpx.Client, folder: Path) -> None:
    name = named(client, "picture", when="after")
    with rasterio.open(folder / f"{name}.tif") as file:
        values = file.read()
        inverse = ~file.transform
    x, y = GRID.left + 10 * 15.5, GRID.top - 10 * 10.5
    col, row = (int(np.floor(v)) for v in inverse * (x, y))
    assert pixel(client, name, 15, 10) == tuple(values[:, row, col])
    assert pixel(client, name, 1, 1)[3] == 0  # not seen


def test_a_tile_elsewhere_is_transparent(client: httpx.Client) -> None:
    answer = client.get(f"/tiles/10/1/1/{named(client, 'change')}.png")
    assert answer.status_code == 200
    assert Image.open(io.BytesIO(answer.content)).convert("RGBA").getextrema()[3] == (0, 0)


@pytest.mark.parametrize("place", ["-1/0/0", "3/8/0", "3/0/-1", "23/0/0", "9999999999/0/0", "a/0/0"])
def test_tiles_that_do_not_exist(client: httpx.Client, place: str) -> None:
    assert client.get(f"/tiles/{place}/{named(client, 'change')}.png").status_code in (404, 422)


@pytest.mark.parametrize(
    "path",
    [
        "/files/../secret.txt",
        "/files/%2e%2e/secret.txt",
        "/files/..%2fsecret.txt",
        "/files/%2e%2e%2fsecret.txt",
        "/files/%252e%252e/secret.txt",
        "/files/stac/../../secret.txt",
        "/files/..%5csecret.txt",
        "/files//etc/passwd",
        "/files/%2fetc%2fpasswd",
        "/files/file:///etc/passwd",
        "/files/report.html%00.txt",
        "/files/store.gpkg",
        "/files/",
        "/files/stac",
        "/assets/..%2fapp.py",
        "/assets/app.py",
        "/tiles/3/1/1/../../../secret.png",
        "/tiles/3/1/1/%2fvsicurl%2fhttp:%2f%2f127.0.0.1%2fx.png",
        "/tiles/3/1/1/rasters/nothing.png",
        "/ogc/collections/..%2f..%2fsecret",
        "/ogc/collections/secret/items",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_but_the_result_is_given_out(client: httpx.Client, path: str) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), 60) as raw:
        # By hand, since a client would put such a path in order before it asks.
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert re.match(rb"HTTP/1.1 (404|400) ", answer), answer[:80]
    for word in (SECRET.encode(), b"root:", b"Traceback"):
        assert word not in answer


def test_a_listed_file_that_became_a_link_is_not_there(client: httpx.Client, folder: Path) -> None:
    path = folder / "changes.qml"
    kept = path.read_bytes()
    path.unlink()
    path.symlink_to(folder.parent / "secret.txt")
    try:
        assert client.get("/files/changes.qml").status_code == 404
    finally:
        path.unlink()
        path.write_bytes(kept)
    assert client.get("/files/changes.qml").content == kept


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/layers", "/files/report.html", "/ogc/collections/sites/items"])
def test_it_is_read_only(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert client.head(path).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""])
def test_other_hosts_are_refused(client: httpx.Client, host: str) -> None:
    answer = client.get("/layers", headers={"Host": host})
    assert answer.status_code == 400
    assert client.get("/layers", headers={"Host": "localhost:1"}).status_code == 200


def test_headers_and_page(client: httpx.Client) -> None:
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in page.headers
    for href in re.findall(r'(?:href|src)="(/[^"]+)"', page.text):
        assert client.get(href, follow_redirects=True).status_code == 200, href
    assert not re.search(r"https?://", page.text)
    assert all(r["attribution"] for r in client.get("/layers").json())


def test_the_catalogue_is_read_by_a_stac_client(client: httpx.Client) -> None:
    import pystac

    root = client.get("/stac", follow_redirects=True)
    catalog = pystac.Catalog.from_dict(root.json(), href=str(root.url))
    items = catalog.get_links("item")
    assert len(items) >= 3
    for link in items:
        content = client.get(link.get_absolute_href()).json()
        item = pystac.Item.from_dict(content, href=link.get_absolute_href())
        for asset in item.assets.values():
            assert client.head(asset.get_absolute_href()).status_code == 200, asset.href


def test_a_raster_is_read_in_parts(client: httpx.Client) -> None:
    answer = client.get(f"/files/{named(client, 'change')}.tif", headers={"Range": "bytes=0-3"})
    assert answer.status_code == 206
    assert answer.content in (b"II*\0", b"MM\0*")


def test_features_as_the_standard_asks(client: httpx.Client, folder: Path) -> None:
    landing = client.get("/ogc").json()
    links = {link["rel"]: link for link in landing["links"]}
    assert {"self", "service-desc", "conformance", "data"} <= set(links)
    described = client.get(links["service-desc"]["href"])
    assert described.headers["content-type"].startswith("application/vnd.oai.openapi+json;version=3.0")
    assert described.json()["openapi"].startswith("3.")
    core = "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core"
    assert core in client.get(links["conformance"]["href"]).json()["conformsTo"]
    found = client.get(links["data"]["href"]).json()
    assert [c["id"] for c in found["collections"]] == ["sites", "changes"]
    sites = json.loads((folder / "sites.geojson").read_text(encoding="utf-8"))["features"]
    for collection in found["collections"]:
        assert collection["extent"]["spatial"]["crs"] == "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
        alone = client.get(next(k["href"] for k in collection["links"] if k["rel"] == "self")).json()
        assert alone == collection
        href = next(k["href"] for k in collection["links"] if k["rel"] == "items")
        whole = client.get(href)
        assert whole.headers["content-type"].startswith("application/geo+json")
        assert whole.json()["type"] == "FeatureCollection"
        assert whole.json()["numberMatched"] == whole.json()["numberReturned"] == len(whole.json()["features"])
    items = client.get("/ogc/collections/sites/items").json()["features"]
    assert [(f["geometry"], f["properties"]) for f in items] == [(f["geometry"], f["properties"]) for f in sites]
    one = client.get("/ogc/collections/sites/items/1").json()
    assert (one["id"], one["properties"]) == (1, sites[1]["properties"])
    assert client.get("/ogc/collections/sites/items/3").status_code == 404


def test_features_page_by_page_and_by_place(client: httpx.Client) -> None:
    seen, href = [], "/ogc/collections/sites/items?limit=1"
    while href:
        page = client.get(href).json()
        assert page["numberReturned"] == 1
        seen += [f["properties"]["site_id"] for f in page["features"]]
        href = next((k["href"] for k in page["links"] if k["rel"] == "next"), "")
    assert seen == ["kk-1", "quiet site/2", "ឃ-3"]
    west, south, east, north = rectangle(30, 23, 32, 24).bounds
    near = client.get("/ogc/collections/sites/items", params={"bbox": f"{west},{south},{east},{north}"}).json()
    assert [f["properties"]["site_id"] for f in near["features"]] == ["ឃ-3"]
    far = client.get("/ogc/collections/sites/items", params={"bbox": "0,0,1,1"}).json()
    assert (far["features"], far["numberMatched"]) == ([], 0)
    for wrong in ("1,2,3", "a,b,c,d", "nan,0,1,1", "0,5,1,4"):
        assert client.get("/ogc/collections/sites/items", params={"bbox": wrong}).status_code == 400, wrong
    assert client.get("/ogc/collections/sites/items?limit=0").status_code in (400, 422)


def test_a_folder_that_lists_what_lies_outside_is_refused(tmp_path: Path, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["outputs"][0]["path"] = "../secret.txt"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(SettingsError, match="no path inside the folder"):
        make_app(tmp_path)


def test_the_command_serves_on_this_machine_alone_until_it_is_ended(folder: Path) -> None:
    command = [sys.executable, "-m", "compoundwatch", "serve", str(folder), "--port", "0"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:(\d+)/", running.stdout.readline())
        assert address
        for _ in range(600):
            try:
                assert httpx.get(address[0], trust_env=False, timeout=60).status_code == 200
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        rows = [r.split() for r in Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]]
        port = f":{int(address[1]):04X}"
        assert {r[1] for r in rows if r[3] == "0A" and r[1].endswith(port)} == {f"0100007F{port}"}
        running.terminate()
        assert running.wait(60) in (0, -15)
    finally:
        running.kill()
        running.communicate()


QGIS = """
from qgis.core import QgsApplication, QgsVectorLayer
app = QgsApplication([], False)
app.initQgis()
for name in ("sites", "changes"):
    layer = QgsVectorLayer(f"url='%s' typename='{name}'", name, "OAPIF")
    print("found", name, layer.isValid(), [f["site_id"] for f in layer.getFeatures()])
"""


def test_qgis_reads_the_features(client: httpx.Client, folder: Path, tmp_path: Path) -> None:
    python = "/usr/bin/python3"
    if not Path(python).exists() or subprocess.run([python, "-c", "import qgis.core"], capture_output=True).returncode:
        pytest.skip("QGIS is not installed for /usr/bin/python3 (Debian package python3-qgis)")
    code = QGIS % client.base_url.join("/ogc")
    own = {"QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, env=own)
    patches = json.loads((folder / "changes.geojson").read_text(encoding="utf-8"))["features"]
    ids = [p["properties"]["site_id"] for p in patches]
    assert f"found sites True {['kk-1', 'quiet site/2', 'ឃ-3']}" in done.stdout, done.stderr
    assert f"found changes True {ids}" in done.stdout

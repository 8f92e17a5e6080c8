"""Files of bands: read from servers range by range, and refused where they are built to do harm."""

from __future__ import annotations

import re
import struct
import time
import zlib

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import RasterioError
from werkzeug import Response

from compoundwatch.errors import StackError
from compoundwatch.grid import Grid
from compoundwatch.model import Access, Asset, Calibration
from compoundwatch.stack import files
from compoundwatch.stack.files import GDAL_OPTIONS, opened
from tests.support import EPSG, LEFT, SHAPE, TOP, free_port, write_cog

GRID = Grid(EPSG, LEFT, TOP, 10.0, *SHAPE)
PLAIN = Calibration(1.0, 0.0, None, "as stored")
OWN = Access(frozenset({"127.0.0.1"}))
RNG = np.random.default_rng(5)


def asset(href, access=OWN):
    return Asset(str(href), PLAIN, access=access)


def pixels(href, window=None, access=OWN):
    with rasterio.Env(**GDAL_OPTIONS), opened(asset(href, access)) as source:
        return source.read(1, window=window)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """Nothing is kept from test to test, and nobody is waited for long."""
    files._CACHE.__init__()
    files._client.cache_clear()
    monkeypatch.setattr(files, "TIMEOUT_S", 2.0)
    monkeypatch.setattr(files, "BUDGET_S", 6.0)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A cloud-optimised file of 1024 x 1536 pixels with four or more blocks and overviews."""
    path = tmp_path_factory.mktemp("large") / "a.tif"
    values = RNG.integers(1, 60_000, (1024, 1536)).astype(np.uint16)
    write_cog(path, values, pixel_m=10.0)
    return path, values


class Ranges:
    """Serves content at /a.tif by ranges and notes what was asked for."""

    def __init__(self, server, content, spoil=lambda response, start, end: response):
        self.content, self.spoil, self.asked = content, spoil, []
        self.url = server.url_for("/a.tif")
        self.headers = {"ETag": '"one"'}
        server.expect_request("/a.tif").respond_with_handler(self.answer)

    def answer(self, request):
        start, end = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"]).groups())
        assert request.headers["Accept-Encoding"] == "identity"
        self.asked.append((start, end))
        part = self.content[start : end + 1]
        span = f"bytes {start}-{start + len(part) - 1}/{len(self.content)}"
        response = Response(part, status=206, headers={"Content-Range": span} | self.headers)
        return self.spoil(response, start, end)


def test_a_window_of_a_remote_file_is_what_the_file_holds_and_little_more_is_fetched(httpserver, large):
    path, values = large
    server = Ranges(httpserver, path.read_bytes())
    window = rasterio.windows.Window(600, 520, 100, 80)
    np.testing.assert_array_equal(pixels(server.url, window), values[520:600, 600:700])
    assert server.asked[0] == (0, files.HEAD_BYTES - 1)
    assert len(server.asked) <= 3
    assert sum(b - a + 1 for a, b in server.asked) < 0.5 * path.stat().st_size


def test_what_was_fetched_is_not_fetched_again(httpserver, large):
    path, values = large
    server = Ranges(httpserver, path.read_bytes())
    window = rasterio.windows.Window(0, 0, 64, 64)
    for _ in range(3):
        np.testing.assert_array_equal(pixels(server.url, window), values[:64, :64])
    assert len(server.asked) == len(set(server.asked)) <= 3


def test_what_is_kept_is_bounded(httpserver, large, monkeypatch):
    path, values = large
    monkeypatch.setattr(files, "_CACHE", files._Cache(limit=100_000))
    server = Ranges(httpserver, path.read_bytes())
    for _ in range(2):
        np.testing.assert_array_equal(pixels(server.url), values)
    assert files._CACHE._held <= 100_000
    assert files._CACHE._held == sum(map(len, files._CACHE._pieces.values()))


def test_files_that_are_no_cloud_optimised_ones_are_read_too(httpserver, tmp_path):
    """Strips, the directory at the end, a big TIFF."""
    values = RNG.integers(1, 60_000, (400, 300)).astype(np.uint16)
    for k, options in enumerate(({"blockysize": 1}, {"compress": "lzw"}, {"BIGTIFF": "YES", "tiled": True})):
        path = tmp_path / f"{k}.tif"
        place = Affine(10, 0, LEFT, 0, -10, TOP)
        size = {"width": 300, "height": 400, "count": 1, "dtype": "uint16", "crs": f"EPSG:{EPSG}", "transform": place}
        with rasterio.open(path, "w", driver="GTiff", **size, **options) as file:
            file.write(values, 1)
        httpserver.clear()
        files._CACHE.__init__()
        server = Ranges(httpserver, path.read_bytes())
        np.testing.assert_array_equal(pixels(server.url), values)


def test_a_server_that_knows_no_ranges_sends_small_files_whole(httpserver, large, monkeypatch):
    path, values = large
    httpserver.expect_request("/a.tif").respond_with_data(path.read_bytes())
    monkeypatch.setattr(files, "MAX_WHOLE_BYTES", 10_000_000)
    np.testing.assert_array_equal(pixels(httpserver.url_for("/a.tif")), values)
    assert len(httpserver.log) == 1
    files._CACHE.__init__()
    monkeypatch.setattr(files, "MAX_WHOLE_BYTES", 1_000_000)
    with pytest.raises(StackError, match=r"127\.0\.0\.1 answers with more than 1 MB"):
        pixels(httpserver.url_for("/a.tif"))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416])
def test_a_refusal_is_told_with_its_status(httpserver, status):
    httpserver.expect_request("/a.tif").respond_with_data("secret words", status=status)
    with pytest.raises(StackError, match=f"^its server answers with status {status}$"):
        pixels(httpserver.url_for("/a.tif"))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(httpserver, large, status):
    path, values = large
    failures = [3]

    def spoil(response, start, end):
        failures[0] -= 1
        return response if failures[0] < 0 else Response("busy", status=status)

    server = Ranges(httpserver, path.read_bytes(), spoil)
    window = rasterio.windows.Window(0, 0, 64, 64)
    np.testing.assert_array_equal(pixels(server.url, window), values[:64, :64])
    assert failures[0] < 0


def ranged(span):
    def spoil(response, start, end):
        response.headers["Content-Range"] = span
        return response

    return spoil


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (ranged("bytes 5-9/10"), "sends other bytes"),
        (ranged("bytes 0-32767/*"), "does not say which bytes"),
        (ranged("nonsense"), "does not say which bytes"),
        (ranged("bytes 0-99/100"), "sends other bytes"),
        (ranged("bytes 0-32767/" + "9" * 17), None),
        (ranged("bytes 0-32767/" + "9" * 40), "does not say which bytes"),
        (lambda response, start, end: Response(b"", status=204), "status 204"),
        (lambda response, start, end: Response(b"", status=206), "does not say which bytes"),
    ],
)
def test_ranges_that_are_wrong_are_not_taken_for_right(httpserver, large, spoil, told):
    server = Ranges(httpserver, large[0].read_bytes(), spoil)
    with pytest.raises((StackError, RasterioError), match=told):
        pixels(server.url)


def test_a_file_that_changes_while_it_is_read_is_told(httpserver, large):
    server = Ranges(httpserver, large[0].read_bytes())

    def renew(response, start, end):
        response.headers["ETag"] = '"two"' if start else '"one"'
        return response

    server.spoil = renew
    with pytest.raises(StackError, match="changed while it was read"):
        pixels(server.url)


def test_a_file_that_cannot_be_read_to_its_end_is_told(httpserver, large):
    """The head comes, the pixels do not: never a picture with holes."""
    gone = Ranges(httpserver, large[0].read_bytes(), lambda r, start, end: r if start == 0 else Response(status=404))
    with pytest.raises(StackError, match="status 404"):
        pixels(gone.url)


def test_nobody_there():
    with pytest.raises(StackError, match="does not answer") as error:
        pixels(f"http://127.0.0.1:{free_port()}/a.tif?sig=secret")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2:{port}/a.tif", "http://169.254.169.254/latest/meta-data", "file:///etc/passwd"]
)
def test_no_redirect_leads_inside(httpserver, target):
    location = {"Location": target.format(port=httpserver.port)}
    httpserver.expect_request("/there.tif").respond_with_data("", status=302, headers=location)
    with pytest.raises(StackError):
        pixels(httpserver.url_for("/there.tif"))
    assert len(httpserver.log) == 1


def test_the_host_of_a_file_has_to_be_public_unless_the_user_named_it(httpserver, large):
    server = Ranges(httpserver, large[0].read_bytes())
    with pytest.raises(StackError, match="private host"):
        pixels(server.url, access=Access())
    assert server.asked == []


# --------------------------------------------------------------------------------------------- files that do harm


def tiff(entries, data=b"", endian="<"):
    """A classic TIFF of one directory: (tag, type, count, value) with values that fit, then some data."""
    head = struct.pack(f"{endian}2sHI", b"II", 42, 8)
    body = struct.pack(f"{endian}H", len(entries))
    for tag, kind, count, value in sorted(entries):
        body += struct.pack(f"{endian}HHI", tag, kind, count)
        body += struct.pack(f"{endian}HH", value, 0) if kind == 3 else struct.pack(f"{endian}I", value)
    return head + body + struct.pack(f"{endian}I", 0) + data


SHORT, LONG = 3, 4


def bomb(width, height, bits=8, samples=1, sample_format=1, compression=8, packed=None):
    """One strip that unfolds to everything: a few kilobytes for gigabytes."""
    packed = packed if packed is not None else zlib.compress(bytes(1_000_000))
    entries = [
        (256, LONG, 1, width),
        (257, LONG, 1, height),
        (258, SHORT, 1, bits),
        (259, SHORT, 1, compression),
        (262, SHORT, 1, 1),
        (273, LONG, 1, 8 + 2 + 12 * 11 + 4),
        (277, SHORT, 1, samples),
        (278, LONG, 1, height),
        (279, LONG, 1, len(packed)),
        (284, SHORT, 1, 1),
        (339, SHORT, 1, sample_format),
    ]
    return tiff(entries, packed)


HARMFUL = {
    "one strip of 10 GB": bomb(100_000, 100_000),
    "one strip of 2 GB of 64 bits": bomb(16_000, 16_000, bits=64, sample_format=3),
    "60,000 bands in one pixel": bomb(2_000, 2_000, samples=60_000),
    "complex numbers": bomb(100, 100, bits=64, sample_format=6),
    "the widest there is": bomb(2**31 - 1, 1),
    "the highest there is": bomb(1, 2**31 - 1),
    "no pixels": bomb(0, 0),
    "more than 31 bits": bomb(2**32 - 1, 2**32 - 1),
    "nothing but a head": b"II*\0\x08\0\0\0",
    "a directory that leads to itself": tiff([(256, LONG, 1, 1)])[:-4] + struct.pack("<I", 8),
    "a directory far away": b"II*\0" + struct.pack("<I", 2**32 - 2) + bytes(100),
    "no TIFF": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "empty": b"",
    "zeros": bytes(100_000),
    "noise": RNG.bytes(100_000),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", HARMFUL)
@pytest.mark.parametrize("remote", [False, True])
def test_files_that_do_harm_are_refused_at_once(httpserver, tmp_path, name, remote):
    path = tmp_path / "a.tif"
    path.write_bytes(HARMFUL[name])
    href = Ranges(httpserver, HARMFUL[name]).url if remote else path
    begun = time.monotonic()
    with pytest.raises((StackError, RasterioError)):
        pixels(href)
    assert time.monotonic() - begun < 20


DRIVERS = {
    "vrt": b'<VRTDataset rasterXSize="32" rasterYSize="24"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
    b'<SourceFilename relativeToVRT="0">%s</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
    b"</VRTRasterBand></VRTDataset>",
    "wms": b"<GDAL_WMS><Service name='TMS'><ServerUrl>%s/${z}/${x}/${y}.png</ServerUrl></Service><DataWindow>"
    b"<UpperLeftX>0</UpperLeftX><UpperLeftY>1</UpperLeftY><LowerRightX>1</LowerRightX><LowerRightY>0</LowerRightY>"
    b"<TileLevel>1</TileLevel></DataWindow></GDAL_WMS>",
    "map": b'{"type": "gdal_virtual", "path": "%s"}',
    "wcs": b"<WCS_GDAL><ServiceURL>%s?</ServiceURL><CoverageName>a</CoverageName></WCS_GDAL>",
}


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("remote", [False, True])
def test_no_other_driver_is_ever_asked(httpserver, tmp_path, kind, remote):
    httpserver.expect_request("/secret.tif").respond_with_data("secret")
    secret = f"/vsicurl/{httpserver.url_for('/secret.tif')}" if kind == "vrt" else httpserver.url_for("/secret.tif")
    content = DRIVERS[kind] % secret.encode()
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    href = Ranges(httpserver, content).url if remote else path
    with pytest.raises((StackError, RasterioError)):
        pixels(href)
    assert "/secret.tif" not in [request.path for request, _ in httpserver.log]


@pytest.mark.parametrize("prefix", ["/vsicurl/", "GTIFF_DIR:1:/vsicurl/", "/vsicurl_streaming/", ""])
@pytest.mark.parametrize("remote", [False, True])
def test_a_file_that_names_another_one_for_its_overviews_is_refused(httpserver, tmp_path, prefix, remote):
    """GDAL opens the file that a TIFF's own metadata names, as soon as anybody asks for smaller pictures."""
    path = tmp_path / "a.tif"
    write_cog(path, np.ones(SHAPE, dtype=np.uint16), pixel_m=10.0)
    secret = tmp_path / "secret.tif"
    write_cog(secret, np.ones(SHAPE, dtype=np.uint16), pixel_m=10.0)
    httpserver.expect_request("/secret.tif").respond_with_data(secret.read_bytes())
    target = f"{prefix}{httpserver.url_for('/secret.tif')}" if prefix else str(secret)
    plain = tmp_path / "b.tif"
    profile = {"driver": "GTiff", "width": 32, "height": 24, "count": 1, "dtype": "uint16", "crs": f"EPSG:{EPSG}"}
    with rasterio.open(plain, "w", **profile, transform=Affine(10, 0, LEFT, 0, -10, TOP)) as file:
        file.write(np.full(SHAPE, 7, dtype=np.uint16), 1)
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=target)
    assert target.encode() in plain.read_bytes()
    secret_time = secret.stat().st_atime_ns
    href = Ranges(httpserver, plain.read_bytes()).url if remote else plain
    with pytest.raises(StackError, match="names another file"):
        pixels(href)
    assert "/secret.tif" not in [request.path for request, _ in httpserver.log]
    assert secret.stat().st_atime_ns == secret_time


def test_side_files_are_not_looked_for(httpserver, tmp_path):
    path = tmp_path / "a.tif"
    write_cog(path, np.full(SHAPE, 7, dtype=np.uint16), pixel_m=10.0)
    for name in ("a.tif.aux.xml", "a.aux", "a.tfw", "a.tif.ovr", "a.tif.msk", "a_MTL.txt"):
        (tmp_path / name).write_text("<PAMDataset><SRS>EPSG:3857</SRS></PAMDataset>")
    with rasterio.Env(**GDAL_OPTIONS), opened(asset(path)) as source:
        assert source.crs.to_epsg() == EPSG
        assert len(source.files) <= 1
    server = Ranges(httpserver, path.read_bytes())
    assert (pixels(server.url) == 7).all()
    assert {request.path for request, _ in httpserver.log} == {"/a.tif"}


def test_of_one_file_no_more_is_fetched_than_the_limit(httpserver, large, monkeypatch):
    monkeypatch.setattr(files, "MAX_FETCHED_BYTES", 500_000)
    server = Ranges(httpserver, large[0].read_bytes())
    with pytest.raises(StackError, match="takes more than 0 MB"):
        pixels(server.url)
    assert sum(b - a + 1 for a, b in server.asked) <= 500_000

"""Windows of tiled files: the same numbers as GDAL reads, with few requests, and no harm from files that do harm."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.errors import RasterioError
from rasterio.windows import Window

from compoundwatch.errors import StackError
from compoundwatch.model import Asset, Calibration
from compoundwatch.stack import blocks, files
from compoundwatch.stack.blocks import raster
from tests.stack.test_files import HARMFUL, OWN, Ranges
from tests.support import EPSG, LEFT, TOP

PLAIN = Calibration(1.0, 0.0, None, "as stored")
RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    files._CACHE.__init__()
    files._client.cache_clear()
    blocks._PLACES.clear()
    monkeypatch.setattr(files, "TIMEOUT_S", 2.0)
    monkeypatch.setattr(files, "BUDGET_S", 6.0)


def written(path, dtype="uint16", shape=(700, 900), nodata=0, values=None, **options):
    rows, cols = shape
    if values is None:
        low, high = (0, 200) if np.dtype(dtype).itemsize == 1 else (0, 30_000)
        values = RNG.integers(low, high, shape).astype(dtype)
    place = {"crs": f"EPSG:{EPSG}", "transform": Affine(10, 0, LEFT, 0, -10, TOP), "nodata": nodata}
    size = {"width": cols, "height": rows, "count": 1, "dtype": dtype}
    options = {"tiled": True, "blockxsize": 256, "blockysize": 128, "compress": "deflate"} | options
    with rasterio.open(path, "w", driver="GTiff", **size, **place, **options) as file:
        file.write(values, 1)
    return values


def asset(path, access=OWN):
    return Asset(str(path), PLAIN, access=access)


def window_of(path, window):
    with raster(asset(path)) as source:
        return type(source).__name__, source.read(window)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_every_kind_of_number_is_read_as_it_is_stored(tmp_path, dtype, predictor, endian):
    if np.dtype(dtype).kind == "f" and predictor == 2:
        predictor = 3
    values = written(tmp_path / "a.tif", dtype, predictor=predictor, ENDIANNESS=endian)
    how, found = window_of(tmp_path / "a.tif", Window(200, 100, 333, 222))
    np.testing.assert_array_equal(found, values[100:322, 200:533])
    assert found.dtype == np.dtype(dtype)
    assert how == ("_Dataset" if predictor == 3 else "_Blocks")


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "lerc"},
        {"compress": None},
        {"tiled": False, "blockysize": 5},
        {"compress": "deflate", "BIGTIFF": "YES"},
        {"blockxsize": 16, "blockysize": 16},  # its directory is longer than the head
        {"NBITS": 12},
    ],
)
def test_other_tiffs_are_read_too(tmp_path, options):
    values = RNG.integers(0, 4000, (700, 900)).astype(np.uint16)
    written(tmp_path / "a.tif", values=values, **options)
    np.testing.assert_array_equal(window_of(tmp_path / "a.tif", Window(250, 120, 10, 20))[1], values[120:140, 250:260])


@pytest.mark.parametrize("compress", ["deflate", "lzw", "zstd"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_every_usual_packing(tmp_path, compress, predictor):
    values = written(tmp_path / "a.tif", compress=compress, predictor=predictor)
    how, found = window_of(tmp_path / "a.tif", Window(250, 120, 300, 200))
    np.testing.assert_array_equal(found, values[120:320, 250:550])
    assert how == "_Blocks"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 899), st.integers(0, 699), st.integers(1, 900), st.integers(1, 700))
def test_any_window(tmp_path_factory, left, top, width, height):
    folder = tmp_path_factory.getbasetemp()
    path, kept = folder / "any.tif", folder / "any.npy"
    if not kept.exists():
        np.save(kept, written(path, predictor=2))
    values, (width, height) = np.load(kept), (min(width, 900 - left), min(height, 700 - top))
    how, found = window_of(path, Window(left, top, width, height))
    np.testing.assert_array_equal(found, values[top : top + height, left : left + width])
    assert how == "_Blocks"


@pytest.mark.parametrize("nodata", [None, 7, -9999, 70_000])
def test_blocks_that_were_never_written(tmp_path, nodata):
    path = tmp_path / "a.tif"
    place = {"crs": f"EPSG:{EPSG}", "transform": Affine(10, 0, LEFT, 0, -10, TOP), "nodata": nodata}
    size = {"width": 512, "height": 512, "count": 1, "dtype": "int16" if nodata == -9999 else "uint32"}
    with rasterio.open(
        path, "w", driver="GTiff", tiled=True, blockxsize=256, blockysize=256, compress="deflate", SPARSE_OK=True,
        **size, **place,
    ) as file:  # fmt: skip
        file.write(np.full((256, 256), 3, dtype=size["dtype"]), 1, window=Window(256, 0, 256, 256))
    with rasterio.open(path) as file:
        expected = file.read(1)
    how, found = window_of(path, Window(0, 0, 512, 512))
    np.testing.assert_array_equal(found, expected)
    assert how == "_Blocks"
    assert set(np.unique(found)) == {3, nodata or 0}


def test_place_and_nodata_are_those_that_gdal_tells(tmp_path):
    for k, options in enumerate(({"nodata": None}, {"nodata": 9}, {"nodata": float("nan"), "dtype": "float32"})):
        path = tmp_path / f"{k}.tif"
        written(path, **options)
        with rasterio.open(path) as file, raster(asset(path)) as source:
            form = source.form
            assert (form.wkt, form.transform) == (file.crs.to_wkt(), tuple(file.transform)[:6])
            assert (form.width, form.height) == file.shape[::-1]
            np.testing.assert_equal(form.nodata, file.nodata)


def test_files_that_lie_alike_ask_gdal_once(tmp_path, monkeypatch):
    asked = []
    real = blocks.opened
    monkeypatch.setattr(blocks, "opened", lambda a, remote: asked.append(a.href) or real(a, remote))
    for k in range(3):
        written(tmp_path / f"{k}.tif")
        window_of(tmp_path / f"{k}.tif", Window(0, 0, 5, 5))
    assert len(asked) == 1
    with rasterio.open(tmp_path / "0.tif", "r+") as file:
        file.transform = Affine(20, 0, LEFT, 0, -20, TOP)
    with raster(asset(tmp_path / "0.tif")) as source:
        assert source.form.transform[0] == 20
    assert len(asked) == 2


def test_two_requests_a_file(httpserver, tmp_path):
    """One for the head, one for two blocks that lie one after the other; the second window asks for nothing new."""
    values = written(tmp_path / "a.tif", predictor=2)
    server = Ranges(httpserver, (tmp_path / "a.tif").read_bytes())
    window = Window(200, 300, 120, 60)
    for _ in range(2):
        how, found = window_of(server.url, window)
        np.testing.assert_array_equal(found, values[300:360, 200:320])
        assert how == "_Blocks"
    assert len(server.asked) == 2
    assert server.asked[0] == (0, files.HEAD_BYTES - 1)
    assert server.asked[1][1] - server.asked[1][0] < 2.2 * 256 * 128 * 2


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", HARMFUL)
@pytest.mark.parametrize("remote", [False, True])
def test_files_that_do_harm_are_refused(httpserver, tmp_path, name, remote):
    """A strip that GDAL can read by rows does none where few rows are wanted."""
    path = tmp_path / "a.tif"
    path.write_bytes(HARMFUL[name])
    href = Ranges(httpserver, HARMFUL[name]).url if remote else path
    try:
        how, found = window_of(href, Window(0, 0, 1, 10))
    except (StackError, RasterioError):
        return
    assert how == "_Dataset"
    assert found.shape == (10, 1)
    assert name in ("one strip of 10 GB", "the highest there is")


def test_blocks_that_are_damaged_or_missing_are_told(tmp_path):
    path = tmp_path / "a.tif"
    written(path)
    whole = bytearray(path.read_bytes())
    with raster(asset(path)) as source:
        start = source.page.dataoffsets[0]
    whole[start + 2_000 : start + 2_100] = bytes(100)
    path.write_bytes(whole)
    with pytest.raises(StackError, match="its pixels are damaged"):
        window_of(path, Window(0, 0, 10, 10))
    path.write_bytes(whole[: start + 1_000])
    with pytest.raises((StackError, RasterioError)):
        window_of(path, Window(0, 0, 10, 10))


def test_a_block_that_unfolds_to_more_than_it_may_is_refused(tmp_path):
    """A directory that promises small blocks, and blocks that hold a thousand times as much."""
    import zlib

    path = tmp_path / "a.tif"
    written(path, "uint8")
    with raster(asset(path)) as source:
        page = source.page
        start, size = page.dataoffsets[0], page.databytecounts[0]
    bomb = zlib.compress(bytes(20_000_000), 9)
    assert len(bomb) < size
    whole = bytearray(path.read_bytes())
    whole[start : start + len(bomb)] = bomb
    path.write_bytes(whole)
    with pytest.raises(StackError, match="its pixels are damaged"):
        window_of(path, Window(0, 0, 10, 10))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("compress", ["deflate", "lzw", "zstd"])
def test_blocks_of_noise_give_an_error_or_numbers(tmp_path, compress, seed):
    path = tmp_path / "a.tif"
    written(path, shape=(256, 256), compress=compress, predictor=2)
    with raster(asset(path)) as source:
        start, size = source.page.dataoffsets[0], source.page.databytecounts[0]
    whole = bytearray(path.read_bytes())
    at = start + (4 if seed % 2 else 0)
    whole[at : start + size] = np.random.default_rng(seed).bytes(start + size - at)
    path.write_bytes(whole)
    try:
        _, found = window_of(path, Window(0, 0, 16, 16))
    except StackError:
        return
    assert found.shape == (16, 16)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("seed", range(30))
def test_a_head_with_random_damage_never_gives_anything_but_an_error_or_numbers(tmp_path, seed):
    path = tmp_path / "a.tif"
    written(path, shape=(256, 256))
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(4, 400, 5):
        whole[at] = rng.integers(0, 256)
    path.write_bytes(whole)
    try:
        _, found = window_of(path, Window(0, 0, 16, 16))
    except (StackError, RasterioError, ValueError, OSError, ArithmeticError):
        return
    assert found.shape == (16, 16)

"""Layers of HDF5 granules: the right cell under every pixel, and nothing that the file should not make us read."""

from __future__ import annotations

import builtins
import math
import warnings

import h5py
import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import reproject

from compoundwatch.errors import StackError
from compoundwatch.grid import Grid
from compoundwatch.model import Asset, Calibration
from compoundwatch.stack import hdf5
from tests import granules

LAYER = f"{granules.FOLDER}/DNB_BRDF-Corrected_NTL"
CORNER = (100.0, 20.0, granules.SIZE)
RULE = Calibration(1.0, 0.0, -999.9, "as stored")
ROW, COL = 2010, 1190
"""Cells from 11.625 degrees north down and 104.958333 degrees east on."""
GRID = Grid(32648, 499_500.0, 1_284_500.0, 50.0, 60, 75)


def asset(path, layer=LAYER, rule=RULE, corner=CORNER):
    return Asset(str(path), rule, layer, corner)


def numbered(shape=(12, 14)):
    """Another number in every cell."""
    return (1 + np.arange(shape[0] * shape[1]).reshape(shape)).astype(np.float32)


@pytest.fixture
def granule(tmp_path):
    return granules.write(tmp_path / granules.name(), numbered(), ROW, COL)


def expected(grid, values, row0, col0, corner=CORNER):
    """Cell by cell and pixel by pixel, with exact fractions of a degree."""
    move = pyproj.Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    found = np.full(grid.shape, np.nan)
    for r in range(grid.rows):
        for c in range(grid.cols):
            x, y = grid.left + (c + 0.5) * grid.pixel_m, grid.top - (r + 0.5) * grid.pixel_m
            lon, lat = move.transform(x, y)
            row, col = math.floor((corner[1] - lat) * 240) - row0, math.floor((lon - corner[0]) * 240) - col0
            if 0 <= row < values.shape[0] and 0 <= col < values.shape[1]:
                found[r, c] = values[row, col]
    return found


def test_every_pixel_takes_the_cell_under_its_centre(granule):
    read = hdf5.read(asset(granule), GRID)
    wanted = expected(GRID, numbered(), ROW, COL)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, wanted)
    assert np.isfinite(read).any()
    assert np.isnan(read).any(), "the window ends inside the grid, and beyond it the file says 'missing'"
    assert len(np.unique(read[np.isfinite(read)])) > 20


def test_gdal_finds_the_same_cells(granule, tmp_path):
    """An independent reader and an independent warp: the layer read and moved by GDAL, nearest cell, exactly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file = rasterio.open(f'HDF5:"{granule}"://{LAYER.replace(" ", "_")}')
    with file:
        stored = file.read(1)
    stored[stored < 0] = np.nan
    moved = np.full(GRID.shape, np.nan, dtype=np.float32)
    reproject(
        stored,
        moved,
        src_transform=Affine(granules.SIZE, 0, 100, 0, -granules.SIZE, 20),
        src_crs="EPSG:4326",
        src_nodata=np.nan,
        dst_transform=GRID.transform,
        dst_crs=f"EPSG:{GRID.epsg}",
        dst_nodata=np.nan,
        resampling=Resampling.nearest,
        tolerance=0,
    )
    np.testing.assert_array_equal(hdf5.read(asset(granule), GRID), moved)


def test_calibration_and_both_kinds_of_missing(tmp_path):
    values = numbered()
    values[3, 4] = -999.9
    path = granules.write(tmp_path / granules.name(), values, ROW, COL)
    wanted = expected(GRID, np.where(values < 0, np.nan, 0.1 * values + 2), ROW, COL)
    read = hdf5.read(asset(path, rule=Calibration(0.1, 2.0, -999.9, "")), GRID)
    np.testing.assert_allclose(read, wanted, rtol=1e-6)
    codes = hdf5.read(asset(path, f"{granules.FOLDER}/QF_Cloud_Mask", Calibration(1, 0, 65535.0, "")), GRID)
    assert set(codes[np.isfinite(codes)]) == {granules.CLEAR}
    assert np.isnan(codes).any()


def test_outside_the_tile_is_missing(granule):
    far = Grid(32648, 300_000.0, 900_000.0, 50.0, 4, 5)
    assert np.isnan(hdf5.read(asset(granule), far)).all()


def test_two_tiles_meet_at_110_degrees_without_a_gap(tmp_path):
    """A grid across the border: each half comes from its own granule, and no pixel from both or neither."""
    west = granules.write(tmp_path / granules.name(tile=(28, 7)), np.full((12, 5), 1.0), ROW, 2395)
    east = granules.write(tmp_path / granules.name(tile=(29, 7)), np.full((12, 5), 2.0), ROW, 0)
    x, y = pyproj.Transformer.from_crs(4326, 32649, always_xy=True).transform(110.0, 20 - (ROW + 6) / 240)
    grid = Grid(32649, 50 * math.floor(x / 50) - 1000.0, 50 * math.ceil(y / 50) + 500.0, 50.0, 20, 40)
    a, b = hdf5.read(asset(west), grid), hdf5.read(asset(east, corner=(110.0, 20.0, granules.SIZE)), grid)
    np.testing.assert_array_equal(np.isfinite(a), np.isnan(b))
    assert 350 < np.isfinite(a).sum() < 450


def test_coordinates_of_edges_are_accepted_as_those_of_centres(granule):
    with h5py.File(granule, "r+") as file:
        file[f"{granules.FOLDER}/lat"][:] += granules.SIZE / 2
        file[f"{granules.FOLDER}/lon"][:] -= granules.SIZE / 2
    np.testing.assert_array_equal(hdf5.read(asset(granule), GRID), expected(GRID, numbered(), ROW, COL))


def test_without_coordinates_a_tile_of_whole_degrees_is_read(granule, tmp_path):
    with h5py.File(granule, "r+") as file:
        del file[f"{granules.FOLDER}/lat"], file[f"{granules.FOLDER}/lon"]
    np.testing.assert_array_equal(hdf5.read(asset(granule), GRID), expected(GRID, numbered(), ROW, COL))
    replace_layer(granule, data=numbered((100, 100)))
    with pytest.raises(StackError, match="whole degrees"):
        hdf5.read(asset(granule), GRID)


# --------------------------------------------------------------------------------------------------- wrong files


def replace_layer(path, **made):
    with h5py.File(path, "r+") as file:
        del file[LAYER]
        file.create_dataset(LAYER, **made)


@pytest.mark.parametrize(
    ("made", "word"),
    [
        ({"data": numbered((30, 30))}, "must hold 30"),
        ({"data": numbered((2400, 2399))}, "must hold 2399"),
        ({"data": np.zeros((4, 2400, 2400), np.uint8), "compression": "gzip"}, "rows and columns"),
        ({"data": np.float32(3.0)}, "rows and columns"),
        ({"shape": (0, 2400), "dtype": "f4"}, "must hold numbers"),
        ({"shape": (2400, 2400), "dtype": "S8"}, "must hold numbers"),
        ({"shape": (2400, 2400), "dtype": np.dtype([("a", "f4")])}, "must hold numbers"),
        ({"shape": (2400, 2400), "dtype": h5py.string_dtype()}, "must hold numbers"),
        ({"shape": (2400, 2400), "maxshape": (None, None), "chunks": (20000, 20000), "dtype": "f4"}, "in pieces"),
    ],
)
def test_something_else_in_place_of_the_layer(granule, made, word):
    replace_layer(granule, **made)
    with pytest.raises(StackError, match=word):
        hdf5.read(asset(granule), GRID)


@pytest.mark.parametrize("layer", [f"{granules.FOLDER}/absent", "absent/too", f"{LAYER}/below", granules.FOLDER, ""])
def test_no_such_layer(granule, layer):
    with pytest.raises(StackError, match="no layer"):
        hdf5.read(asset(granule, layer), GRID)


def test_a_file_named_after_another_tile_is_refused(granule):
    with pytest.raises(StackError, match="elsewhere than its name says"):
        hdf5.read(asset(granule, corner=(110.0, 20.0, granules.SIZE)), GRID)
    with pytest.raises(StackError, match="'lat' runs from 19"):
        hdf5.read(asset(granule, corner=(100.0, 10.0, granules.SIZE)), GRID)


def test_a_file_upside_down_is_refused(granule):
    with h5py.File(granule, "r+") as file:
        lat = file[f"{granules.FOLDER}/lat"]
        lat[:] = lat[:][::-1]
    with pytest.raises(StackError, match="elsewhere"):
        hdf5.read(asset(granule), GRID)


@pytest.mark.parametrize("at", [0, -1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -999.9])
def test_coordinates_that_are_none_are_refused(granule, at, value):
    with h5py.File(granule, "r+") as file:
        file[f"{granules.FOLDER}/lon"][at] = value
    with pytest.raises(StackError, match="'lon' runs from"):
        hdf5.read(asset(granule), GRID)


@pytest.mark.parametrize("level", ["layer", "group", "coordinates"])
@pytest.mark.parametrize("kind", ["external", "soft", "virtual", "raw"])
def test_other_files_are_not_read(granule, tmp_path, level, kind):
    """The other file holds just what is asked for; it must not be opened all the same."""
    secret = granules.write(tmp_path / "secret.A.h28v07.h5", 7.0, ROW, COL)
    (tmp_path / "raw").write_bytes(bytes(4 * 2400 * 2400))
    target = {"layer": LAYER, "group": "HDFEOS", "coordinates": f"{granules.FOLDER}/lat"}[level]
    if level == "group" and kind in ("virtual", "raw"):
        pytest.skip("a group is no dataset")
    with h5py.File(granule, "r+") as file:
        shape = file[target].shape if level != "group" else ()
        file.move("HDFEOS", "elsewhere") if level == "group" else file.move(target, "elsewhere")
        if kind == "external":
            file[target] = h5py.ExternalLink(str(secret), target)
        elif kind == "soft":
            file[target] = h5py.SoftLink("/elsewhere")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape, "f4")
            layout[...] = h5py.VirtualSource(str(secret), target, shape)
            file.create_virtual_dataset(target, layout)
        else:
            file.create_dataset(target, shape, "f4", external=[(str(tmp_path / "raw"), 0, 4 * math.prod(shape))])
    with pytest.raises(StackError, match=r"not followed|not read"):
        hdf5.read(asset(granule), GRID)


def test_a_link_to_nowhere_or_in_a_circle(granule):
    with h5py.File(granule, "r+") as file:
        del file[LAYER]
        file[LAYER] = h5py.ExternalLink("absent.h5", "x")
    with pytest.raises(StackError, match="not followed"):
        hdf5.read(asset(granule), GRID)
    with h5py.File(granule, "r+") as file:
        file["circle/again"] = file["/"]
    with pytest.raises(StackError, match="no layer"):
        hdf5.read(asset(granule, "circle/again/circle/again/x"), GRID)


def test_huge_attributes_cost_nothing(granule, tmp_path):
    path = tmp_path / "huge.h5"
    with h5py.File(granule) as source, h5py.File(path, "w", libver="latest") as file:
        source.copy("HDFEOS", file)
        file.attrs["StructMetadata"] = np.zeros(5_000_000)
        file[LAYER].attrs["_FillValue"] = "not a number"
        file[LAYER].attrs["scale_factor"] = np.zeros((3, 3))
    np.testing.assert_array_equal(hdf5.read(asset(path), GRID), expected(GRID, numbered(), ROW, COL))


@pytest.mark.parametrize("length", [0, 7, 100, 4000, -400])
def test_a_truncated_file(granule, length):
    granule.write_bytes(granule.read_bytes()[:length])
    with pytest.raises(StackError, match="damaged or no HDF5 file"):
        hdf5.read(asset(granule), GRID)


def test_bytes_changed_at_random_are_an_error_or_a_picture(granule):
    """Whatever the damage, our own error or an array of the right shape: nothing else gets out."""
    whole = granule.read_bytes()
    rng = np.random.default_rng(3)
    told = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 40):
            damaged[at] = rng.integers(0, 256)
        granule.write_bytes(damaged)
        try:
            assert hdf5.read(asset(granule), GRID).shape == GRID.shape
        except StackError:
            told += 1
    assert told > 10


def test_not_there_and_no_hdf5(tmp_path):
    (tmp_path / "page.h5").write_text("<html>log in</html>")
    for name in ("page.h5", "absent.h5"):
        with pytest.raises(StackError, match="damaged or no HDF5 file"):
            hdf5.read(asset(tmp_path / name), GRID)


def test_a_layer_of_unknown_place(granule):
    with pytest.raises(StackError, match="proj:transform"):
        hdf5.read(asset(granule, corner=None), GRID)


def test_without_h5py_one_sentence_says_what_to_install(granule, monkeypatch):
    original = builtins.__import__

    def absent(name, *rest):
        if name == "h5py":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(StackError, match=r"pip install 'compoundwatch\[lights\]'"):
        hdf5.read(asset(granule), GRID)

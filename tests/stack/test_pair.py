"""Pairs of images: what is accepted, what is refused, which pixels a polygon holds."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from shapely.geometry import box

from compoundwatch.errors import GridMismatch, StackError
from compoundwatch.grid import project
from compoundwatch.stack import check_pair, polygon_mask, read_image

PLACE = {"crs": "EPSG:32648", "transform": Affine(10, 0, 300_000, 0, -10, 1_200_000)}


def save(path, values, driver="GTiff", **profile):
    values = np.atleast_3d(values) if values.ndim == 2 else values
    values = values[..., 0][None] if values.shape[-1] == 1 else values
    shape = {"count": values.shape[0], "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    with rasterio.open(path, "w", driver=driver, **shape, **profile) as file:
        file.write(values)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_numbers_survive(tmp_path, dtype):
    values = np.arange(2 * 5 * 7).reshape(2, 5, 7).astype(dtype)
    image = read_image(save(tmp_path / "a.tif", values, **PLACE))
    np.testing.assert_array_equal(image.values, values)
    assert image.transform == PLACE["transform"]


def test_a_file_tells_what_it_shows(tmp_path):
    path = save(tmp_path / "S1A_before.tif", np.ones((2, 5, 7), dtype="float32"), **PLACE)
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("VV", "VH")
        file.update_tags(PLATFORM="Sentinel-1A", AUTHOR="somebody")
    assert set(read_image(path).names) == {"S1A_before.tif", "VV", "VH", "Sentinel-1A"}


def test_no_data_and_infinite_become_missing(tmp_path):
    values = np.arange(35, dtype="float32").reshape(1, 5, 7)
    values[0, 0, 1], values[0, 4, 6] = np.inf, np.nan
    image = read_image(save(tmp_path / "a.tif", values, nodata=3.0, **PLACE))
    assert np.isnan(image.values[0]).nonzero()[0].tolist() == [0, 0, 4]
    assert np.isnan(image.values[0]).nonzero()[1].tolist() == [1, 3, 6]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_png_without_a_place_and_grey_saved_as_colour(tmp_path):
    grey = np.arange(35, dtype="uint8").reshape(5, 7)
    path = save(tmp_path / "a.png", np.stack([grey, grey, grey]), driver="PNG")
    image = read_image(path)
    assert image.crs is None
    np.testing.assert_array_equal(image.values, grey[None])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_transparent_is_missing(tmp_path):
    rgba = np.zeros((4, 5, 7), dtype="uint8")
    rgba[0], rgba[1], rgba[3] = 10, 20, 255
    rgba[3, 2, 3] = 0
    image = read_image(save(tmp_path / "a.png", rgba, driver="PNG"))
    assert image.values.shape == (3, 5, 7)
    assert np.isnan(image.values[:, 2, 3]).all()
    assert np.isfinite(image.values).sum() == 3 * 34


@pytest.mark.parametrize("text", [b"", b"nonsense", b"<VRTDataset/>"])
def test_what_is_no_image(tmp_path, text):
    path = tmp_path / "a.tif"
    path.write_bytes(text)
    with pytest.raises(StackError, match=r"a\.tif: expected a GeoTIFF"):
        read_image(path)
    with pytest.raises(StackError, match="found nothing there"):
        read_image(tmp_path / "absent.tif")


@pytest.mark.parametrize(
    ("shape", "profile", "message"),
    [
        ((1, 5, 8), PLACE, "8 x 5 pixels"),
        ((2, 5, 7), PLACE, "2 bands"),
        ((1, 5, 7), {}, "no place on the map"),
        ((1, 5, 7), PLACE | {"crs": "EPSG:32647"}, "different reference systems"),
        ((1, 5, 7), PLACE | {"transform": Affine(10, 0, 300_005, 0, -10, 1_200_000)}, "different places"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_images_that_do_not_fit(tmp_path, shape, profile, message):
    rng = np.random.default_rng(1)
    first = read_image(save(tmp_path / "a.tif", rng.integers(1, 99, (1, 5, 7)).astype("uint8"), **PLACE))
    second = read_image(save(tmp_path / "b.tif", rng.integers(1, 99, shape).astype("uint8"), **profile))
    with pytest.raises(GridMismatch, match=message):
        check_pair(first, second)
    check_pair(first, first)


def test_polygon_holds_its_pixels(tmp_path):
    image = read_image(save(tmp_path / "a.tif", np.ones((1, 5, 7), dtype="uint8"), **PLACE))
    polygon = project(box(300_020, 1_199_960, 300_050, 1_199_990), 32648, 4326)
    expected = np.zeros((5, 7), dtype=bool)
    expected[1:4, 2:5] = True
    np.testing.assert_array_equal(polygon_mask(polygon, image), expected)

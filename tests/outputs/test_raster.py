"""Rasters: values and missing as drawn, in the right place, valid cloud-optimised GeoTIFF."""

from __future__ import annotations

import warnings
from pathlib import Path
from string import ascii_letters

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from compoundwatch.errors import OutputError
from compoundwatch.model import SiteChange
from compoundwatch.outputs.raster import Raster, date_values, safe_name, write_changes, write_cog

from .conftest import GRID, change_map

CHANGE = SiteChange("Site/1", "sentinel2", "ndvi", "1", "harmonic_mosum", 0.01, GRID, change_map())
LAYERS = {"direction", "statistic", "p_value", "effect", "date", "date_earliest", "date_latest"}


@pytest.fixture
def rasters(tmp_path: Path) -> dict[str, Path]:
    details = write_changes(tmp_path, [CHANGE], {"run_id": "r1"})
    return {str(about["layer"]): tmp_path / path for path, about in details.items()}


def cog_faults(path: Path) -> list[str]:
    from rio_cogeo.cogeo import cog_validate

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        valid, errors, faults = cog_validate(path)
    return [*errors, *faults] if valid else ["not valid", *errors, *faults]


def test_every_layer_is_a_valid_cog_in_its_place(rasters: dict[str, Path]) -> None:
    assert set(rasters) == LAYERS
    for path in rasters.values():
        assert cog_faults(path) == []
        with rasterio.open(path) as file:
            assert file.crs.to_epsg() == 32648
            assert file.shape == (26, 34)
            assert file.colorinterp == (ColorInterp.gray,)
            assert file.transform == Affine(10, 0, 380_000, 0, -10, 1_200_000)
            assert file.tags()["RUN_ID"] == "r1"
            assert file.tags()["SITE_ID"] == "Site/1"
            assert file.tags()["ALPHA"] == "0.01"


def test_direction_tells_no_change_from_not_tested(rasters: dict[str, Path]) -> None:
    with rasterio.open(rasters["direction"]) as file:
        assert file.dtypes == ("int8",)
        assert file.nodata == -128
        band = file.read(1)
        assert "not tested" in file.descriptions[0]
    assert band[8, 10] == -1
    assert band[15, 21] == 1
    assert band[12, 3] == 0
    assert (band[0, 30:] == -128).all()
    assert (band == -128).sum() == 4


def test_numbers_keep_nan_for_missing(rasters: dict[str, Path]) -> None:
    bands = {}
    for name in ("statistic", "p_value", "effect"):
        with rasterio.open(rasters[name]) as file:
            assert file.dtypes == ("float32",)
            assert np.isnan(file.nodata)
            bands[name] = file.read(1)
    assert np.isnan(bands["p_value"]).sum() == 4
    assert bands["p_value"][8, 10] == np.float32(0.0002)
    assert bands["effect"][15, 20] == np.float32(0.4)
    assert bands["statistic"][8, 10] == -7.5


def test_dates_read_as_dates(rasters: dict[str, Path]) -> None:
    bands = {}
    for name in ("date", "date_earliest", "date_latest"):
        with rasterio.open(rasters[name]) as file:
            assert file.dtypes == ("int32",)
            assert file.nodata == 0
            bands[name] = file.read(1)
    assert [bands[n][9, 12] for n in ("date", "date_earliest", "date_latest")] == [20240320, 20240229, 20240330]
    assert bands["date"][8, 10] == 20240310
    assert bands["date"][12, 3] == 0
    assert (bands["date"] > 0).sum() == 6 + 2 + 1 + 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.dates() | st.none(), min_size=1, max_size=9))
def test_dates_of_any_year(days: list[object]) -> None:
    dates = np.array([np.datetime64("NaT", "D") if d is None else np.datetime64(str(d), "D") for d in days])
    wanted = [0 if d is None else int(str(d).replace("-", "")) for d in days]
    assert date_values(dates.astype("datetime64[s]")).tolist() == wanted


def test_large_rasters_have_overviews_of_true_values(tmp_path: Path) -> None:
    values = np.arange(1100 * 700, dtype=np.int32).reshape(1100, 700) + 1
    write_cog(tmp_path / "x.tif", Raster(values, 0, "", "x"), GRID.transform, "EPSG:32648", {})
    assert cog_faults(tmp_path / "x.tif") == []
    with rasterio.open(tmp_path / "x.tif") as file:
        assert file.overviews(1) == [2, 4]
        small = file.read(1, out_shape=(550, 350))
        np.testing.assert_array_equal(file.read(1), values)
    assert np.isin(small, values).all()


def test_an_image_without_a_place_stays_without_one(tmp_path: Path) -> None:
    write_cog(tmp_path / "x.tif", Raster(np.ones((3, 5), np.float32), np.nan, "", "x"), None, None, {})
    with pytest.warns(NotGeoreferencedWarning):
        file = rasterio.open(tmp_path / "x.tif")
    assert file.crs is None
    assert file.transform == Affine.identity()
    file.close()


def test_two_maps_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="two change maps"):
        write_changes(tmp_path, [CHANGE, CHANGE], {})


def test_a_raster_that_cannot_be_written_is_our_error(tmp_path: Path) -> None:
    (tmp_path / "x.tif").mkdir()
    with pytest.raises(OutputError, match=r"x\.tif cannot be written"):
        write_cog(tmp_path / "x.tif", Raster(np.ones((3, 5), np.float32), np.nan, "", "x"), None, None, {})


@pytest.mark.parametrize("text", ["kk-1", "poipet_01", "a", "site-12345678"])
def test_plain_ids_stay_as_they_are(text: str) -> None:
    assert safe_name(text) == text


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(), min_size=2, max_size=20, unique=True))
def test_different_ids_have_different_safe_names(ids: list[str]) -> None:
    names = [safe_name(i) for i in ids]
    assert len({n.casefold() for n in names}) == len(ids)
    for name in names:
        assert 1 <= len(name) <= 53
        assert set(name) <= set(ascii_letters.lower() + "0123456789-_")


def test_an_id_that_looks_like_a_made_up_name_gets_its_own() -> None:
    made_up = safe_name("Ä")
    assert safe_name(made_up) != made_up
    assert safe_name("A") != safe_name("a")
    assert safe_name("../../etc/passwd").count("/") == 0

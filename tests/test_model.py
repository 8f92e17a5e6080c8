"""Contracts at the borders between stages, and settings."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from compoundwatch.errors import ContractError
from compoundwatch.model import (
    CHANGE_VARIABLES,
    Settings,
    by_name,
    check_change_map,
    check_series,
    check_stack,
    stated_number,
)


def stack():
    dims = ("time", "y", "x")
    return xr.Dataset(
        {"ndvi": (dims, np.zeros((3, 4, 5), np.float32)), "valid": (dims, np.ones((3, 4, 5), bool))},
        coords={
            "day": ("time", [1, 2, 2]),
            "scene_id": ("time", ["a", "b", "c"]),
            "look": ("time", ["n"] * 3),
            "version": ("time", ["v"] * 3),
        },
        attrs={"grid_key": "k", "sensor": "s"},
    )


def test_a_good_stack_passes():
    check_stack(stack())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.drop_vars("valid"), "'valid'"),
        (lambda s: s.assign(ndvi=s.ndvi.astype(float)), "float32, found float64"),
        (lambda s: s.assign(ndvi=s.ndvi.transpose("y", "x", "time")), "dims"),
        (lambda s: s.isel(time=[2, 1, 0]), "sorted"),
        (lambda s: s.assign(valid=s.valid.astype(int)), "bool"),
        (lambda s: s.assign_attrs(grid_key=None).drop_attrs(), "grid_key"),
    ],
)
def test_a_broken_stack_is_refused(spoil, message):
    with pytest.raises(ContractError, match=message):
        check_stack(spoil(stack()))


def change_map():
    layers = {n: (("y", "x"), np.zeros((4, 5), np.float32)) for n in CHANGE_VARIABLES}
    layers["direction"] = (("y", "x"), np.zeros((4, 5), np.int8))
    return xr.Dataset(layers)


def test_change_maps():
    check_change_map(change_map())
    with pytest.raises(ContractError, match="'date'"):
        check_change_map(change_map().drop_vars("date"))
    bad = change_map()
    bad["p_value"].values[0, 0] = 1.5
    with pytest.raises(ContractError, match="between 0 and 1"):
        check_change_map(bad)
    untested = change_map()
    untested["p_value"].values[1, 2], untested["direction"].values[1, 2] = np.nan, 1
    with pytest.raises(ContractError, match="not tested"):
        check_change_map(untested)


def test_series_and_names():
    import pandas as pd

    with pytest.raises(ContractError, match="valid_fraction"):
        check_series(pd.DataFrame({"site_id": []}))

    class Named:
        name = "x"

    with pytest.raises(ContractError, match="twice"):
        by_name([Named(), Named()])


def test_settings_refuse_what_they_do_not_know():
    with pytest.raises(ValidationError):
        Settings.model_validate({"detect": {"alhpa": 0.1}})
    with pytest.raises(ValidationError):
        Settings.model_validate({"search": {"max_cloud_percent": 120}})
    assert Settings().detect.alpha < 0.05


@pytest.mark.parametrize(
    ("asset", "number"),
    [
        ({"raster:bands": [{"scale": 0.5}]}, 0.5),
        ({"bands": [{"raster:scale": 0.5}]}, 0.5),
        ({"raster:scale": "0.5"}, 0.5),
        ({"scale": 0.0}, 0.0),
        ({"scale": None}, None),
        ({"raster:bands": None, "bands": ["red"]}, None),
        ({}, None),
    ],
)
def test_numbers_of_an_asset_in_all_forms_of_stac(asset, number):
    assert stated_number(asset, "scale") == number

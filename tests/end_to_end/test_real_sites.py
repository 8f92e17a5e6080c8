"""Real Sentinel-2 of five years over a wood in Romania that is felled patch by patch: sites that fell, and others."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import shapely
import xarray as xr

from compoundwatch import score
from compoundwatch.grid import Grid, pixel_mask, project
from compoundwatch.model import AreaOfInterest, Role, ScoreSettings, Site, SiteState, State
from compoundwatch.sensors.sentinel2 import SENSOR

from .test_real_stacks import MIN_VALID, to_stack

CUBE = "series/nrt-romania-s2/sentinel2_cube_subset_romania_{}m.nc"
SIDE = 10
"""Squares of so many pixels a side, 100 m."""
END = int(np.datetime64("2018-07-01").astype("datetime64[D]").astype(np.int64))
"""First day that may hold a change: the middle of what was seen."""
FALL = 0.15
"""Fall of the summer's vegetation index that counts as felled; no pixel of a wood that stands comes near it."""

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def scenes(shared: Path) -> tuple[Grid, xr.Dataset]:
    ten, twenty = (
        xr.open_dataset(shared / CUBE.format(size), mask_and_scale=False, engine="h5netcdf").load() for size in (10, 20)
    )
    x, y = ten["x"].values, ten["y"].values
    grid = Grid(3035, float(x[0]) - 5, float(y[0]) + 5, 10.0, y.size, x.size)
    stored = {name: ten[band].values for name, band in {"blue": "B2", "green": "B3", "red": "B4", "nir": "B8"}.items()}
    stored["swir16"] = np.repeat(np.repeat(twenty["B11"].values, 2, axis=1), 2, axis=2)
    valid = np.stack([SENSOR.valid({"scl": codes}) for codes in ten["SCL"].values])
    bands = {name: np.where(v > 0, v / 10_000, np.nan).astype(np.float32) for name, v in stored.items()}
    days = ten["time"].values.astype("datetime64[D]").astype(np.int64)
    return grid, to_stack(SENSOR, grid, days, bands, valid, ["nadir"] * days.size)


def summer(stack: xr.Dataset, year: int) -> npt.NDArray[np.float32]:
    """Median vegetation index of June to September, another reading of the same pixels than that of the score."""
    dates = pd.to_datetime(stack["day"].values, unit="D")
    index = stack["ndvi"].values[(dates.year == year) & (dates.month >= 6) & (dates.month <= 9)]
    return np.asarray(np.nanmedian(index, axis=0))


@pytest.fixture(scope="module")
def answers(scenes: tuple[Grid, xr.Dataset]) -> dict[str, list[SiteState]]:
    """Squares of which a fifth or more was felled between the summers of 2017 and 2020, and squares that stand.

    Every other square that stands is a control of all; the rest are judged as sites, as the felled ones are.
    """
    grid, stack = scenes
    fell = summer(stack, 2017) - summer(stack, 2020) > FALL
    green = summer(stack, 2017)
    squares: dict[str, list[tuple[int, int]]] = {"felled": [], "standing": []}
    for row in range(0, grid.rows, SIDE):
        for col in range(0, grid.cols, SIDE):
            part = np.s_[row : row + SIDE, col : col + SIDE]
            share = fell[part].mean()
            if share >= 0.2:
                squares["felled"].append((row, col))
            elif share <= 0.01 and np.median(green[part]) > 0.7:
                squares["standing"].append((row, col))
    ids = [f"control-{k}" for k in range(len(squares["standing"][::2]))]

    def site(name: str, role: Role, row: int, col: int) -> Site:
        left, top = grid.left + 10 * col, grid.top - 10 * row
        outline = project(shapely.box(left, top - 10 * SIDE, left + 10 * SIDE, top), grid.epsg, 4326)
        return Site(name, name, role, outline, () if role is Role.CONTROL else tuple(ids[:8]))

    places = [site(name, Role.CONTROL, *at) for name, at in zip(ids, squares["standing"][::2], strict=True)][:8]
    places += [site(f"felled-{k}", Role.SITE, *at) for k, at in enumerate(squares["felled"])]
    places += [site(f"standing-{k}", Role.SITE, *at) for k, at in enumerate(squares["standing"][1::2][:12])]
    area = AreaOfInterest("romania", tuple(places))
    tables = []
    for place in places:
        tile = score.tile_series(stack, SENSOR.features, pixel_mask(place.geometry, grid), END, MIN_VALID)
        tables.append(score.site_series(place.site_id, SENSOR.name, [tile]))
    _, states = score.score_sites(
        area, pd.concat(tables, ignore_index=True), [SENSOR], {s.site_id: END for s in area.targets},
        dt.date(2021, 1, 1), ScoreSettings(), MIN_VALID, np.random.default_rng(1),
    )  # fmt: skip
    return {kind: [s for s in states if s.site_id.startswith(kind)] for kind in squares}


def test_there_is_something_to_find(answers):
    assert len(answers["felled"]) >= 2
    assert len(answers["standing"]) >= 8


def test_what_was_felled_is_called_changed(answers):
    assert all(a.probability and a.score > 80 for a in answers["felled"])
    assert all(a.state not in (State.UNCHANGED, State.NOT_OBSERVABLE) for a in answers["felled"])


def test_what_stands_is_never_called_changed(answers):
    assert {a.state for a in answers["standing"]} <= {State.UNCHANGED, State.NOT_OBSERVABLE}

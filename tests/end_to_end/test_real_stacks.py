"""Real series of a month in Belgium on one grid: radar sees every pass, the optical sensor two of twelve dates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import shapely
import xarray as xr

from compoundwatch import score
from compoundwatch.grid import Grid, pixel_mask, project
from compoundwatch.model import AreaOfInterest, Role, ScoreSettings, Sensor, Site, State, check_stack
from compoundwatch.sensors import sentinel1, sentinel2

FOLDER = Path("series/gfmap-cdse/tests/tests_unit/results")
OPTICAL = replace(sentinel2.SENSOR, features=tuple(f for f in sentinel2.SENSOR.features if f.name in ("ndvi", "ndbi")))
"""The series holds no green band, of which brightness is made."""
MIN_VALID = 0.4
REPEAT_DAYS = 12

pytestmark = pytest.mark.shared


def read(
    path: Path, names: Mapping[str, str]
) -> tuple[Grid, npt.NDArray[np.int64], dict[str, npt.NDArray[np.float64]]]:
    """Grid, days since 1970 and bands (time, rows, cols) as stored, 0 = no data as NaN."""
    with xr.open_dataset(path) as cube:
        x, y = cube["x"].values, cube["y"].values
        days = cube["t"].values.astype("datetime64[D]").astype(np.int64)
        bands = {band: cube[name].values.astype(np.float64) for band, name in names.items()}
    grid = Grid(32631, float(x[0]) - 5, float(y[0]) + 5, 10.0, y.size, x.size)
    assert np.allclose(np.diff(y), -10)
    return grid, days, {band: np.where(values > 0, values, np.nan) for band, values in bands.items()}


def to_stack(
    sensor: Sensor,
    grid: Grid,
    days: npt.NDArray[np.int64],
    bands: Mapping[str, npt.NDArray[np.float32]],
    valid: npt.NDArray[np.bool_],
    looks: Sequence[str],
) -> xr.Dataset:
    """A stack as the loader makes it."""
    dims = ("time", "y", "x")
    features = {}
    for feature in sensor.features:
        made = np.stack([feature.formula({k: v[t] for k, v in bands.items()}) for t in range(len(days))])
        valid = valid & np.isfinite(made)
        features[feature.name] = made
    cubes = {name: (dims, np.where(valid, cube, np.nan).astype(np.float32)) for name, cube in features.items()}
    stack = xr.Dataset(
        cubes | {"valid": (dims, valid)},
        coords={
            "day": ("time", days),
            "scene_id": ("time", np.array([f"scene{d}" for d in days], dtype=object)),
            "look": ("time", np.array(looks, dtype=object)),
            "version": ("time", np.array(["S1A"] * len(days), dtype=object)),
        },
        attrs={"grid_key": grid.key, "sensor": sensor.name},
    )
    check_stack(stack)
    return stack


@pytest.fixture(scope="module")
def optical(shared: Path) -> tuple[Grid, xr.Dataset]:
    names = {"red": "S2-L2A-B04", "nir": "S2-L2A-B08", "swir16": "S2-L2A-B11", "scl": "S2-L2A-SCL"}
    grid, days, stored = read(shared / FOLDER / "cdse_sentinel2_l2a.nc", names)
    codes = stored.pop("scl")
    valid = np.stack([OPTICAL.valid({"scl": c}) for c in codes])
    bands = {k: (v / 10_000).astype(np.float32) for k, v in stored.items()}
    return grid, to_stack(OPTICAL, grid, days, bands, valid, ["nadir"] * len(days))


@pytest.fixture(scope="module")
def radar(shared: Path) -> tuple[Grid, xr.Dataset]:
    """The numbers are 20 log10(stored) - 83 decibels; one satellite flew, so that days 12 apart are one orbit."""
    names = {"vv": "S1-SIGMA0-VV", "vh": "S1-SIGMA0-VH"}
    grid, days, stored = read(shared / FOLDER / "cdse_sentinel1_grd.nc", names)
    bands = {k: (v**2 * 10**-8.3).astype(np.float32) for k, v in stored.items()}
    looks = [f"pass {d % REPEAT_DAYS}" for d in days]
    return grid, to_stack(sentinel1.SENSOR, grid, days, bands, np.isfinite(bands["vv"]), looks)


def area(grid: Grid) -> AreaOfInterest:
    """A site in the middle of the picture and two controls at its corners, 200 m x 160 m each."""

    def site(name: str, role: Role, col: int, row: int, controls: tuple[str, ...] = ()) -> Site:
        left, top = grid.left + 10 * col, grid.top - 10 * row
        return Site(name, name, role, project(shapely.box(left, top - 160, left + 200, top), grid.epsg, 4326), controls)

    return AreaOfInterest(
        "belgium",
        (
            site("middle", Role.SITE, 22, 25, ("corner", "other")),
            site("corner", Role.CONTROL, 2, 2),
            site("other", Role.CONTROL, 40, 48),
        ),
    )


def judged(sensor: Sensor, grid: Grid, stack: xr.Dataset):
    """Series of all polygons, and the state of the site, by the code that the main job uses."""
    region = area(grid)
    end = int(np.datetime64("2023-04-16").astype(np.int64))
    tables = []
    for site in region.sites:
        mask = pixel_mask(site.geometry, grid)
        assert mask.sum() == pytest.approx(320, abs=25)
        tile = score.tile_series(stack, sensor.features, mask, end, MIN_VALID)
        tables.append(score.site_series(site.site_id, sensor.name, [tile]))
    series = pd.concat(tables, ignore_index=True)
    _, (state,) = score.score_sites(
        region, series, [sensor], {"middle": end}, dt.date(2023, 5, 1), ScoreSettings(), MIN_VALID,
        np.random.default_rng(1),
    )  # fmt: skip
    return series, state


def test_both_sensors_lie_on_one_grid(optical, radar) -> None:
    assert optical[0] == radar[0]
    assert optical[0].shape == (66, 64)


def test_two_clear_dates_of_twelve_are_not_observable(optical) -> None:
    grid, stack = optical
    seen = stack["valid"].values.mean(axis=(1, 2))
    assert (seen > 0.9).sum() == 2
    series, state = judged(OPTICAL, grid, stack)
    assert state.state is State.NOT_OBSERVABLE
    assert state.n_views < ScoreSettings().min_views_before
    assert dict(state.probability) == {}
    assert state.score is state.p_value is state.change_date is None
    assert state.reason
    ndvi = series[(series["feature"] == "ndvi") & (series["site_id"] == "middle")]
    assert len(ndvi) == 12
    assert ndvi.loc[ndvi["valid_fraction"] >= 0.9, "value"].between(-0.2, 0.9).all()


def test_radar_sees_every_pass_and_keeps_its_orbits_apart(radar) -> None:
    grid, stack = radar
    series, state = judged(sentinel1.SENSOR, grid, stack)
    own = series[series["site_id"] == "middle"]
    assert (own["valid_fraction"] == 1).all()
    views = own.drop_duplicates("acquired").groupby("look").size()
    assert sorted(views) == [2, 2, 3, 3], "two and three passes of four orbits"
    for feature, low, high in (("vv_db", -16, -6), ("vh_db", -24, -13)):
        values = own.loc[own["feature"] == feature, "value"]
        assert len(values) == 10
        assert values.between(low, high).all()
    assert state.state is State.NOT_OBSERVABLE, "three views of an orbit in a month are no reference"
    assert state.n_views == 10

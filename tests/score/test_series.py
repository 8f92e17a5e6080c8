"""From pixels to site series: what each measurement answers to, and what it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from compoundwatch.model import Feature
from compoundwatch.score.series import site_series, tile_series, usable_days

SHAPE = (12, 17)
DAYS = 18_000 + 10 * np.arange(90)
REFERENCE_END = int(DAYS[45])

FEATURES = (Feature("f", lambda bands: bands["b"], ("b",), "1", -1.0, 1.0, "more"),)


def stack(values, valid=None, days=DAYS):
    valid = np.isfinite(values) if valid is None else valid
    dims = ("time", "y", "x")
    return xr.Dataset(
        {"f": (dims, np.where(valid, values, np.nan).astype(np.float32)), "valid": (dims, valid)},
        coords={
            "day": ("time", days),
            "scene_id": ("time", np.array([f"s{d}" for d in days], dtype=object)),
            "look": ("time", np.array(["nadir"] * len(days), dtype=object)),
            "version": ("time", np.array(["1"] * len(days), dtype=object)),
        },
        attrs={"grid_key": "k", "sensor": "s"},
    )


def quiet(rng, noise=0.02):
    season = 0.1 * np.sin(2 * np.pi * DAYS / 365.25)
    place = rng.normal(0.3, 0.1, SHAPE)
    return place + season[:, None, None] + rng.normal(0, noise, (len(DAYS), *SHAPE))


def measure(values, valid=None, mask=None):
    mask = np.ones(SHAPE, dtype=bool) if mask is None else mask
    tile = tile_series(stack(values, valid), FEATURES, mask, REFERENCE_END, 0.4)
    table = site_series("site", "s", [tile])
    return {name: rows["value"].to_numpy() for name, rows in table.groupby("feature")}, table


AFTER = slice(50, 84)


def test_plain_mean_is_the_mean_of_the_site_alone():
    values = np.zeros((len(DAYS), *SHAPE))
    values[:, :6] = 1.0
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:6, :10] = True
    got, table = measure(values, mask=mask)
    assert (got["f"] == 1.0).all()
    assert (table["n_valid"] <= 60).all()


def test_a_quiet_site_stays_near_zero():
    got, _ = measure(quiet(np.random.default_rng(1)))
    assert abs(np.nanmean(got["f_anomaly"][AFTER])) < 0.01
    assert abs(np.nanmean(got["f_up"][AFTER])) < 0.35
    assert np.nanstd(got["activity"]) < 0.2


@pytest.mark.parametrize(("step", "up", "down"), [(0.2, True, False), (-0.2, False, True)])
def test_a_lasting_change_of_a_tenth_of_the_site(step, up, down):
    values = quiet(np.random.default_rng(2))
    values[45:, :3, :7] += step
    got, _ = measure(values)
    before = {k: np.nanmean(got[f"f_{k}"][5:40]) for k in ("up", "down")}
    after = {k: np.nanmean(got[f"f_{k}"][AFTER]) for k in ("up", "down")}
    assert (after["up"] > before["up"] + 1.0) == up
    assert (after["down"] > before["down"] + 1.0) == down
    assert np.sign(np.nanmean(got["f_anomaly"][AFTER])) == np.sign(step)


def test_a_site_that_falls_still_loses_activity():
    """Noise of each date falls to a fifth: the variance of the steps falls by ln 25, less what season and clip cost."""
    rng = np.random.default_rng(3)
    values = quiet(rng, noise=0.0)
    moving = rng.normal(0, 0.05, values.shape)
    moving[45:] /= 5
    got, _ = measure(values + moving)
    fall = np.nanmean(got["activity"][AFTER]) - np.nanmean(got["activity"][5:40])
    assert fall == pytest.approx(-np.log(25), abs=0.35)


def test_a_gain_of_the_whole_scene_is_no_activity():
    values = quiet(np.random.default_rng(4))
    hazy = values + np.random.default_rng(5).normal(0, 0.1, len(DAYS))[:, None, None]
    got, clean = measure(hazy)[0]["activity"], measure(values)[0]["activity"]
    # Haze widens the fitted sigma, so the level may only fall; it must not rise.
    assert np.nanmean(got) < np.nanmean(clean) + 0.05


def test_clouds_are_missing_not_zero():
    values = quiet(np.random.default_rng(6))
    valid = np.ones(values.shape, dtype=bool)
    valid[10] = False
    valid[11, :, :12] = False
    got, table = measure(np.where(valid, values, 99.0), valid)
    assert np.isnan(got["f"][10])
    assert np.isnan(got["f_anomaly"][11]), "29 % of the site is too little"
    assert got["f"][11] == pytest.approx(values[11, :, 12:].mean(), abs=1e-6)
    fractions = table[table["feature"] == "f"]["valid_fraction"].to_numpy()
    assert fractions[10] == 0
    assert fractions[11] == pytest.approx(5 / 17)
    assert len(usable_days(table, 0.4)) == len(DAYS) - 2


def test_tiles_add_up_to_the_whole():
    values = quiet(np.random.default_rng(7))
    left, right = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    left[:, :9], right[:, 9:] = True, True
    pieces = [tile_series(stack(values), FEATURES, m, REFERENCE_END, 0.4) for m in (left, right)]
    parts = site_series("site", "s", pieces)
    whole = site_series("site", "s", [tile_series(stack(values), FEATURES, left | right, REFERENCE_END, 0.4)])
    plain = whole["feature"] == "f"
    np.testing.assert_allclose(parts[plain]["value"], whole[plain]["value"], rtol=1e-6)
    np.testing.assert_allclose(parts[plain]["spread"], whole[plain]["spread"], rtol=1e-5)
    activity = whole["feature"] == "activity"
    np.testing.assert_allclose(parts[activity]["value"], whole[activity]["value"], atol=0.06)


def test_input_is_left_alone():
    values = stack(quiet(np.random.default_rng(8)))
    kept = values.copy(deep=True)
    tile_series(values, FEATURES, np.ones(SHAPE, dtype=bool), REFERENCE_END, 0.4)
    xr.testing.assert_identical(values, kept)


def test_looks_are_never_compared_with_one_another():
    """Two looks of very different level, view by view in turn: each has the activity of its own noise."""
    rng = np.random.default_rng(8)
    values = quiet(rng)
    mask = np.ones(SHAPE, dtype=bool)
    even = np.arange(len(DAYS)) % 2 == 0
    cube = stack(values + np.where(even, 0.0, 0.6)[:, None, None])
    cube["look"] = ("time", np.where(even, "ascending", "descending").astype(object))
    both = site_series("s", "x", [tile_series(cube, FEATURES, mask, REFERENCE_END, 0.4)])
    for look, dates in (("ascending", even), ("descending", ~even)):
        alone = stack(values[dates], days=DAYS[dates])
        single = site_series("s", "x", [tile_series(alone, FEATURES, mask, REFERENCE_END, 0.4)])
        for feature in ("activity", "f_anomaly", "f_up", "f_down"):
            one = both[(both["feature"] == feature) & (both["look"] == look)]["value"].to_numpy()
            np.testing.assert_allclose(one, single[single["feature"] == feature]["value"], atol=1e-5)


def test_what_the_weather_moves_has_no_activity():
    calm = (replace(FEATURES[0], restless=False),)
    made = tile_series(stack(quiet(np.random.default_rng(9))), calm, np.ones(SHAPE, bool), REFERENCE_END, 0.4)
    assert set(made.sums) == {"f", "f_anomaly"}

"""Offsets: a step in every band is told from all that sun, air, water and people do."""

from __future__ import annotations

import numpy as np
import pytest

from compoundwatch.stack.offsets import impossible, level, minority, misstated, suspected, witnesses

STEP = 0.1
GROUND = {"blue": 0.05, "green": 0.08, "red": 0.07, "nir": 0.26, "swir16": 0.20}
WHITE = {"blue": 0.62, "green": 0.60, "red": 0.60, "nir": 0.62, "swir16": 0.42}
SMOKE = {"blue": 0.16, "green": 0.11, "red": 0.08, "nir": 0.04, "swir16": 0.01}
BURNT = {"blue": 0.04, "green": 0.04, "red": 0.05, "nir": 0.08, "swir16": 0.18}
CONCRETE = {"blue": 0.20, "green": 0.23, "red": 0.25, "nir": 0.28, "swir16": 0.30}
PATTERN = 1 + 0.3 * np.random.default_rng(1).standard_normal((40, 40))


def place(seed, change=lambda band, values: values):
    rng = np.random.default_rng(seed)
    gain = rng.normal(1, 0.03)
    return {
        band: change(band, base * PATTERN * gain + rng.normal(0, 0.003, PATTERN.shape)).astype(np.float32)
        for band, base in GROUND.items()
    }


OTHERS = [place(seed) for seed in range(10, 15)]
CHANGES = {
    "nothing": lambda band, v: v,
    "thin cloud": lambda band, v: 0.83 * v + 0.17 * WHITE[band],
    "smoke": lambda band, v: v + SMOKE[band],
    "fire": lambda band, v: 0 * v + BURNT[band] * PATTERN,
    "rain": lambda band, v: 0.65 * v,
    "everything built over": lambda band, v: 0 * v + CONCRETE[band] * (2 - PATTERN),
    "a step in red alone": lambda band, v: v + 0.1 * (band == "red"),
    "half a step": lambda band, v: v + 0.05,
    "two steps": lambda band, v: v + 0.2,
}


@pytest.mark.parametrize("sign", [1, -1])
def test_a_step_in_every_band(sign):
    assert misstated(place(1, lambda band, v: v + sign * STEP), OTHERS, STEP) == sign


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_no_misstated_offset(change):
    assert misstated(place(1, CHANGES[change]), OTHERS, STEP) == 0


def test_only_pixels_that_both_show_are_compared():
    """Half of the scene is cloud, half of each other one too; where both are clear, they agree but for the step."""
    scene = place(1, lambda band, v: v + STEP)
    others = [place(seed) for seed in range(10, 15)]
    for values in scene.values():
        values[:, :14] = np.nan
    for other in others:
        for values in other.values():
            values[:, 26:] = np.nan
    assert misstated(scene, others, STEP) == 1
    for values in scene.values():
        values[:, 14:22] = np.nan
    assert misstated(scene, others, STEP) == 0, "160 pixels in common are too few"
    assert misstated(place(1, lambda band, v: v + STEP), OTHERS[:1], STEP) == 0, "one witness is none"


def test_level_is_the_fifth_percentile_of_what_is_seen():
    values = np.arange(1000, dtype=np.float32).reshape(20, 50)
    assert level(values) == pytest.approx(49.95)
    values[:, ::2] = np.nan
    assert level(values) == pytest.approx(1 + 0.05 * 998)
    assert np.isnan(level(np.full((20, 20), np.nan, dtype=np.float32)))
    assert np.isnan(level(np.zeros((10, 19), dtype=np.float32)))


def test_impossible_levels():
    assert impossible(np.array([0.02, -0.02, -0.05, np.nan]), STEP).tolist() == [False, False, True, False]


def test_suspected_are_those_off_their_season():
    """Three years; the soil is 0.09 brighter in the dry half of each year, by itself; then two are a step off."""
    days = 19_358 + 10 * np.arange(110)
    dry = (days - 19_358) % 365 < 180
    levels = 0.03 + 0.09 * dry
    assert suspected(levels, days, STEP) == []
    levels[40] += STEP
    levels[71] -= STEP
    levels[5] = np.nan
    assert impossible(levels, STEP).nonzero()[0].tolist() == [71]
    levels[71] = np.nan  # it needs no comparison
    found = suspected(levels, days, STEP)
    assert 40 in found
    assert len(found) <= 4, "only scenes at the turn of a season are compared for nothing"


def test_few_scenes_are_not_suspected_without_comparison():
    assert suspected(np.array([0.3]), np.array([19_000]), STEP) == []
    assert suspected(np.array([np.nan, np.nan]), np.array([19_000, 19_010]), STEP) == []


def test_witnesses_are_of_the_season_and_then_near_in_time():
    days = np.array([0, 10, 180, 365, 375, 730])
    assert witnesses(0, days, [1, 2, 3, 4, 5])[:2] == [1, 3]
    assert witnesses(0, days, [1, 2, 3, 4, 5])[-1] == 2


def test_a_season_may_hold_more_wrong_scenes_than_right_ones():
    """Two years of 40 scenes; from April to June six of eight are a step too bright."""
    days = 19_723 + 9 * np.arange(80)
    levels = 0.03 + 0.004 * np.sin(np.arange(80))
    wrong = [k for k in range(10, 20) if k not in (12, 17)] + [k for k in range(50, 60) if k not in (53, 58)]
    levels[wrong] += STEP
    by_season = suspected(levels, days, STEP)
    assert {12, 17, 53, 58} & set(by_season), "the right ones lie off their season"
    assert not any(minority(levels, k, -1, STEP) for k in (12, 17, 53, 58)), "but not off the year"
    assert set(wrong) <= set(suspected(levels, days, STEP, whole_year=True))
    assert all(minority(levels, k, 1, STEP) for k in wrong)


def test_real_scenes(shared):
    """A wood in Romania, all scenes stored without an offset: none is called; with a step put on, most are found."""
    xr = pytest.importorskip("xarray")
    path = shared / "series" / "nrt-romania-s2" / "sentinel2_cube_subset_romania_20m.nc"
    with xr.open_dataset(path, engine="h5netcdf") as cube:
        usable = np.isin(cube["SCL"].values, (4, 5, 6, 7))
        days = cube["time"].values.astype("datetime64[D]").astype(np.int64)
        names = ("B3", "B4", "B8A", "B11")
        bands = {b: np.where(usable, cube[b].values / 10_000, np.nan).astype(np.float32) for b in names}
    scenes = [{b: bands[b][k] for b in names} for k in range(len(days))]
    levels = np.array([level(s["B4"]) for s in scenes])
    odd = suspected(levels, days, STEP)
    able = [k for k in range(len(days)) if np.isfinite(levels[k]) and k not in odd]
    clear = [k for k in able if usable[k].mean() > 0.5]
    assert len(clear) > 60
    assert not impossible(levels, STEP).any()
    found = {0.0: 0, STEP: 0, -STEP: 0}
    for by in found:
        for k in clear if by else [k for k in range(len(days)) if np.isfinite(levels[k])]:
            others = [scenes[w] for w in witnesses(k, days, [a for a in able if a != k])]
            found[by] += misstated({b: v + np.float32(by) for b, v in scenes[k].items()}, others, STEP) == np.sign(by)
    assert found[STEP] > 0.7 * len(clear)
    assert found[-STEP] > 0.7 * len(clear)
    assert found[0.0] == np.isfinite(levels).sum(), "none called"

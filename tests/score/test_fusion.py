"""Several sensors and looks together: each adds what it saw, none decides alone, and lights never empty a site."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box

from compoundwatch import score, sensors
from compoundwatch.model import AreaOfInterest, Role, ScoreSettings, Site, State
from compoundwatch.score.parameters import parameters
from compoundwatch.score.states import Seen, combined_p

START = 18_000
REFERENCE_END = START + 548
CHANGE = REFERENCE_END + 120
ALL = tuple(sensors.sensor(name) for name in ("sentinel2", "sentinel1", "black_marble"))
LOOKS = {"sentinel2": {"nadir": 10}, "sentinel1": {"asc 1": 12, "desc 2": 12}, "black_marble": {"snpp": 3}}
FEATURES = {
    "sentinel2": ("activity", "ndvi_anomaly", "brightness_up", "brightness_down"),
    "sentinel1": ("activity", "vv_db_up", "vv_db_down"),
    "black_marble": ("lights_anomaly",),
}


def after(days):
    return (days >= CHANGE).astype(float)


def pause(days):
    return ((days >= CHANGE) & (days < CHANGE + 90)).astype(float)


def world(seed, effects, names=("sentinel2", "sentinel1", "black_marble"), controls=6, noise=1.0, scale=None):
    """Series of one site and its controls; ``effects`` maps (sensor, feature) to size and course in time."""
    rng = np.random.default_rng(seed)
    place = box(103, 10, 103.02, 10.02)  # wide enough for its lights to be its own
    ids = [f"c{k}" for k in range(controls)]
    sites = (Site("s", "Site", Role.SITE, place, tuple(ids)), *(Site(c, c, Role.CONTROL, place) for c in ids))
    tables = []
    for name in ("sentinel2", "sentinel1", "black_marble"):
        for look, every in LOOKS[name].items():
            days = START + every * np.arange(1095 // every)
            for feature in FEATURES[name]:
                for site in sites:
                    value = rng.normal(0, noise, days.size)
                    size, course = effects.get((name, feature), (0.0, after))
                    if site.role is Role.SITE:
                        value = value + size * course(days)
                    if name in names:
                        tables.append(
                            table(site.site_id, name, look, feature, days, value * (scale or {}).get(name, 1))
                        )
    return AreaOfInterest("area", sites), pd.concat(tables, ignore_index=True)


def table(site_id, sensor, look, feature, days, value):
    columns = {
        "site_id": site_id,
        "sensor": sensor,
        "feature": feature,
        "look": look,
        "scene_id": [f"{sensor}{look}{d}" for d in days],
        "acquired": pd.to_datetime(days, unit="D", utc=True).as_unit("ns"),
        "value": value,
        "spread": 1.0,
        "valid_fraction": 1.0,
        "n_valid": 100,
    }
    return pd.DataFrame(columns)


def judge(area, series, used=ALL, settings=None):
    ends = {s.site_id: REFERENCE_END for s in area.targets}
    rng = np.random.default_rng(0)
    settings = settings or ScoreSettings()
    return score.score_sites(area, series, used, ends, dt.date(2026, 1, 1), settings, 0.4, rng)[1][0]


GONE = {("sentinel2", "activity"): (-2.0, after), ("sentinel1", "activity"): (-2.0, after)}
DARK = {("black_marble", "lights_anomaly"): (-3.0, after)}


def test_lights_that_fall_alone_are_lights_only():
    for seed in range(4):
        found = judge(*world(seed, DARK))
        assert found.state is State.LIGHTS_ONLY
        assert found.probability[State.EMPTIED] < 0.3
        assert abs((found.change_date - dt.date(1970, 1, 1)).days - CHANGE) <= 20
        assert found.change_date_earliest <= dt.date(1970, 1, 1) + dt.timedelta(days=CHANGE) <= found.change_date_latest
        assert "power cut" in found.reason


def test_lights_and_activity_together_are_a_departure():
    for seed in range(4):
        found = judge(*world(seed, GONE | DARK))
        assert found.state is State.EMPTIED
        assert found.probability[State.EMPTIED] > 0.9


def test_every_sensor_adds_to_the_odds():
    """Weak signs in all sensors: each alone says less than all together."""
    weak = {k: (0.45 * size, course) for k, (size, course) in (GONE | DARK).items()}
    together, alone = [], []
    for seed in range(6):
        together.append(judge(*world(seed, weak)).probability[State.EMPTIED])
        alone.append(judge(*world(seed, weak, names=("sentinel2",))).probability[State.EMPTIED])
    assert np.mean(together) > np.mean(alone) + 0.2


def test_lights_of_a_place_smaller_than_a_pixel_rule_no_cut_out():
    """Steady lights speak against a power cut where they are the place's own, and hardly where they are not."""
    area, series = world(7, {})
    wide, narrow = (box(103, 10, 103 + side, 10 + side) for side in (0.02, 0.001))
    cut = {}
    for place in (wide, narrow):
        sites = tuple(replace(s, geometry=place) for s in area.sites)
        cut[place] = judge(replace(area, sites=sites), series).probability[State.LIGHTS_ONLY]
    assert cut[wide] < 0.07
    assert 0.1 < cut[narrow] < 0.2


def test_a_sensor_that_is_missing_rules_nothing_out():
    """Without lights, a power cut stays as probable beside no change as it was before anything was seen."""
    prior = parameters().prior
    found = judge(*world(7, {}, names=("sentinel1", "sentinel2"))).probability
    expected = prior[State.LIGHTS_ONLY] / prior[State.UNCHANGED]
    assert found[State.LIGHTS_ONLY] / found[State.UNCHANGED] == pytest.approx(expected)


@pytest.mark.parametrize("size", [0.0, -5.0])
def test_without_a_view_of_the_ground_nothing_is_said_but_of_lights(size):
    found = judge(*world(1, {("black_marble", "lights_anomaly"): (size, after)}, names=("black_marble",)))
    assert found.state is (State.LIGHTS_ONLY if size else State.NOT_OBSERVABLE)
    if size:
        # What else dims the lights stays about as probable beside a power cut as it was before.
        prior = parameters().prior
        for state in (State.EMPTIED, State.DEMOLISHED):
            odds = found.probability[state] / found.probability[State.LIGHTS_ONLY]
            assert 0.3 < odds / (prior[state] / prior[State.LIGHTS_ONLY]) < 1
        assert found.probability[State.BUILDING] < 0.01
    else:
        assert "not the same as no change" in found.reason


@pytest.mark.parametrize("feature", ["brightness_down", "brightness_up"])
def test_pixels_that_moved_in_the_images_of_one_sensor_alone_are_no_change(feature):
    """A field whose crop came late: neither the whole place nor any other sensor sees anything."""
    late = {("sentinel2", feature): (15.0, after)}
    assert judge(*world(5, late)).probability[State.UNCHANGED] > 0.5


def test_pixels_that_moved_count_where_the_place_fell_still():
    left = judge(*world(5, {("sentinel2", "brightness_down"): (15.0, after), ("sentinel2", "activity"): (-5.0, after)}))
    assert left.probability[State.UNCHANGED] < 0.01


def test_a_short_outage_is_no_change():
    def outage(days):
        return ((days >= CHANGE) & (days < CHANGE + 14)).astype(float)

    found = judge(*world(2, {("black_marble", "lights_anomaly"): (-4.0, outage)}, noise=0.3))
    assert found.probability[State.UNCHANGED] > 0.5


def test_a_return_is_dated():
    back = {k: (1.5 * size, pause) for k, (size, _) in (GONE | DARK).items()}
    for seed in range(3):
        found = judge(*world(seed, back, noise=0.7))
        assert found.state is State.REOCCUPIED
        assert abs((found.back_date - dt.date(1970, 1, 1)).days - (CHANGE + 90)) <= 35
        assert found.back_date > found.change_date


def test_scaling_a_sensor_changes_nothing():
    one, other = (judge(*world(3, GONE | DARK, scale=scale)) for scale in (None, {"sentinel1": 40.0}))
    assert one.probability == pytest.approx(other.probability, abs=1e-6)
    assert one.change_date == other.change_date


def test_contributions_name_what_spoke():
    told = judge(*world(4, GONE | DARK)).contributions
    assert set(told) == {
        "sentinel2 nadir activity",
        "sentinel2 nadir ndvi_anomaly",
        "sentinel2 nadir brightness_down",
        "sentinel1 asc 1 activity",
        "sentinel1 desc 2 activity",
        "black_marble snpp lights_anomaly",
    }
    assert min(told[k] for k in told if "activity" in k or "lights" in k) > 0


def test_swapping_equal_sites_swaps_the_answers():
    area, series = world(5, GONE)
    twin = replace(area.sites[0], site_id="t")
    quiet = world(6, {})[1]
    both = pd.concat([series, quiet[quiet["site_id"] == "s"].assign(site_id="t")], ignore_index=True)
    pair = replace(area, sites=(area.sites[0], twin, *area.sites[1:]))
    swapped = both.assign(site_id=both["site_id"].replace({"s": "t", "t": "s"}))
    rng = [np.random.default_rng(0) for _ in range(2)]
    ends = {"s": REFERENCE_END, "t": REFERENCE_END}
    day = dt.date(2026, 1, 1)
    one, other = (
        score.score_sites(pair, t, ALL, ends, day, ScoreSettings(), 0.4, r)[1]
        for t, r in zip((both, swapped), rng, strict=True)
    )
    assert one[0].probability == pytest.approx(other[1].probability)
    assert one[1].probability == pytest.approx(other[0].probability)


def test_seen_counts_ground_apart_from_lights():
    seen = Seen({"sentinel2": [1, 5], "black_marble": [2, 3, 5]}, 0.5, ALL)
    assert seen.all_days == [1, 2, 3, 5]
    assert seen.of_ground() == [1, 5]


def test_combined_p_is_the_cauchy_mean():
    """tan(pi (0.5 - p)) of 0.1 and 0.5 are 3.0777 and 0; their mean 1.5388 belongs to p = 0.5 - atan(1.5388) / pi."""
    assert combined_p([0.1, 0.5]) == pytest.approx(0.5 - np.arctan(3.0776835 / 2) / np.pi, rel=1e-6)
    assert combined_p([]) is None
    assert combined_p([1e-6] * 5) == pytest.approx(1e-6, rel=1e-3)

"""States: each kind of change is told from the others, and from not being able to see."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from shapely.geometry import box

from compoundwatch import score
from compoundwatch.model import AreaOfInterest, Role, ScoreSettings, Site, State
from compoundwatch.score.parameters import parameters
from compoundwatch.score.states import log_bayes_factor
from compoundwatch.sensors.sentinel2 import SENSOR

START = 18_000
DAYS = START + 10 * np.arange(110)
REFERENCE_END = START + 548
CHANGE = REFERENCE_END + 120
FEATURES = ("activity", *(f"{f}_{k}" for f in ("ndvi", "brightness", "ndbi") for k in ("anomaly", "up", "down")))
SETTINGS = ScoreSettings()
late = DAYS >= CHANGE
ramp = np.clip((DAYS - CHANGE) / 60, 0, 1)
pulse = late & (DAYS < CHANGE + 100)


def world(seed, effects=None, noise=1.0, n_controls=6, keep=0.6, days=DAYS):
    """Series of one site and its controls in which every measurement has white noise of the same size."""
    rng = np.random.default_rng(seed)
    controls = [f"c{k}" for k in range(n_controls)]
    place = box(103, 10, 103.001, 10.001)
    sites = [Site("s", "Site", Role.SITE, place, tuple(controls)), *(Site(c, c, Role.CONTROL, place) for c in controls)]
    seen = rng.random(days.size) < keep
    rows = []
    for site in sites:
        for feature in FEATURES:
            value = rng.normal(0, noise, days.size)
            if site.site_id == "s" and effects:
                value = value + effects.get(feature, 0)
            rows.append(
                pd.DataFrame(
                    {
                        "site_id": site.site_id,
                        "sensor": "sentinel2",
                        "feature": feature,
                        "look": "nadir",
                        "scene_id": [f"x{d}" for d in days],
                        "acquired": pd.to_datetime(days, unit="D", utc=True).as_unit("ns"),
                        "value": np.where(seen, value, np.nan),
                        "spread": 1.0,
                        "valid_fraction": np.where(seen, 1.0, 0.0),
                        "n_valid": 100,
                    }
                )
            )
    return AreaOfInterest("area", tuple(sites)), pd.concat(rows, ignore_index=True)


def judge(area, series, settings=SETTINGS):
    ends = {s.site_id: REFERENCE_END for s in area.targets}
    rng = np.random.default_rng(0)
    return score.score_sites(area, series, [SENSOR], ends, dt.date(2026, 1, 1), settings, 0.4, rng)[1]


SCENARIOS = {
    State.EMPTIED: {
        "activity": -3.0 * late,
        "brightness_anomaly": -1.5 * late,
        "ndvi_anomaly": 1.5 * np.clip((DAYS - CHANGE - 20) / 180, 0, 1),
    },
    State.BUILDING: {
        "brightness_up": 10 * ramp,
        "ndvi_down": 10 * ramp,
        "brightness_anomaly": 3 * ramp,
        "ndvi_anomaly": -3 * ramp,
    },
    State.DEMOLISHED: {
        "brightness_down": 10 * late,
        "ndbi_up": 6 * late,
        "brightness_anomaly": -2.0 * late,
        "activity": -2.0 * late,
    },
    State.REOCCUPIED: {"activity": -4.0 * pulse, "brightness_anomaly": -2.0 * pulse},
}


@pytest.mark.parametrize("state", list(SCENARIOS), ids=str)
def test_each_change_is_told_from_the_others(state):
    answers = [judge(*world(seed, SCENARIOS[state]))[0] for seed in range(5)]
    right = [a for a in answers if a.state is state]
    # A pulse of ten views is the hardest; the other answers must say "inconclusive", not something else.
    assert len(right) >= (2 if state is State.REOCCUPIED else 4)
    assert {a.state for a in answers} <= {state, State.NOT_OBSERVABLE}
    off = [abs((a.change_date - dt.date(1970, 1, 1)).days - CHANGE) for a in right]
    assert np.median(off) <= 25
    for a in right:
        assert a.change_date_earliest <= a.change_date <= a.change_date_latest
        assert sum(a.probability.values()) == pytest.approx(1)
        assert a.score == pytest.approx(100 * (1 - a.probability[State.UNCHANGED]))


def test_a_quiet_site_is_unchanged_and_says_what_could_hide():
    answers = [judge(*world(seed, noise=0.15))[0] for seed in range(50, 57)]
    assert sum(a.state is State.UNCHANGED for a in answers) >= 6
    quiet = answers[0]
    assert quiet.change_date is None
    assert quiet.min_detectable < 0.4
    assert "cannot see people" in quiet.reason


def test_noise_that_hides_changes_is_not_called_unchanged():
    answer = judge(*world(1, noise=2.0))[0]
    assert answer.state is State.NOT_OBSERVABLE
    assert "could have gone unseen" in answer.reason


def test_without_views_nothing_is_said():
    answer = judge(*world(1, SCENARIOS[State.EMPTIED], keep=0.05))[0]
    assert answer.state is State.NOT_OBSERVABLE
    assert answer.score is None
    assert answer.p_value is None
    assert answer.probability == {}
    assert "not the same as no change" in answer.reason


def test_views_that_stop_before_the_change_say_nothing():
    area, series = world(1)
    series = series[series["acquired"].astype("int64") // 86_400_000_000_000 < REFERENCE_END + 15]
    assert judge(area, series)[0].state is State.NOT_OBSERVABLE


def test_sentinel_2_never_claims_a_power_cut():
    for effects in (None, *SCENARIOS.values()):
        found = judge(*world(2, effects))[0]
        assert found.state is not State.LIGHTS_ONLY
        assert found.probability[State.LIGHTS_ONLY] <= parameters().prior[State.LIGHTS_ONLY] / 0.7


def test_a_site_that_moved_in_no_known_way_is_not_called_unchanged():
    """A clear shift of one measurement that no class expects alone."""
    answer = judge(*world(9, {"ndbi_anomaly": 4.0 * late}, noise=0.3))[0]
    assert answer.state is State.NOT_OBSERVABLE
    assert "fits none" in answer.reason or "Inconclusive" in answer.reason


def test_order_of_rows_does_not_matter():
    area, series = world(3, SCENARIOS[State.EMPTIED])
    shuffled = series.sample(frac=1, random_state=1)
    # Features are judged in the order of the table, which feeds the random draws; everything else must agree.
    one, other = judge(area, series)[0], judge(area, shuffled)[0]
    assert one.state == other.state
    assert one.probability == pytest.approx(other.probability)
    assert one.change_date == other.change_date


def test_a_site_alone_is_judged_with_less_certainty():
    """The same fall that is called against controls is inconclusive without them: it may have come to everybody."""
    for seed in range(3):
        area, series = world(seed, SCENARIOS[State.BUILDING])
        alone = replace(area, sites=(replace(area.sites[0], controls=()), *area.sites[1:]))
        assert judge(area, series)[0].state is State.BUILDING
        lonely = judge(alone, series)[0]
        assert lonely.state is State.NOT_OBSERVABLE
        assert max(lonely.probability, key=lonely.probability.get) is State.BUILDING
        assert sum(lonely.probability.values()) == pytest.approx(1)


def test_q_values_know_how_many_sites_there_are():
    area, series = world(5, SCENARIOS[State.EMPTIED])
    copies = [replace(area.sites[0], site_id=f"s{k}") for k in range(4)]
    tables = [series] + [series[series["site_id"] == "s"].assign(site_id=f"s{k}") for k in range(4)]
    many = judge(replace(area, sites=(*area.sites, *copies)), pd.concat(tables, ignore_index=True))
    single = judge(area, series)[0]
    assert single.q_value == single.p_value
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5
    assert max(s.q_value for s in many) == pytest.approx(min(1, max(s.p_value for s in many) * harmonic), rel=1e-6)


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 3.0), (-1.5, 1.2), (6.0, 6.0)])
def test_bayes_factor_against_numerical_integration(mean, spread):
    """Marginal likelihood of size s ~ N(mean, spread²) on the allowed side, integrated numerically."""
    a, b = 4.2, 2.5
    low, high = (-np.inf, np.inf) if mean == 0 else (0, np.inf) if mean > 0 else (-np.inf, 0)
    mass = 1.0 if mean == 0 else norm.cdf(abs(mean) / spread)
    integral = quad(lambda s: np.exp(a * s - b * s * s / 2) * norm.pdf(s, mean, spread), low, high)[0]
    got = log_bayes_factor((np.array([a]), np.array([b])), mean, spread)[0]
    assert got == pytest.approx(np.log(integral / mass), abs=1e-6)

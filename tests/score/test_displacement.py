"""Displacement: parts by hand, honest p-values where nothing or only half of it happened, power on planted shifts."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest

from compoundwatch.formulas import stouffer
from compoundwatch.score import displacement as d
from compoundwatch.score.displacement import DisplacementSettings, displacement, distance_km, of_panel
from compoundwatch.score.panel import Panel

from .test_dates import event
from .test_event_study import DAYS, ar1
from .test_panel import site, table

STARTS = np.arange(0, 1000, 10)
EVENT = 700
NAMES = tuple(f"s{k}" for k in range(12))
SITES = [site(name, "ab", at=(103 + 0.1 * k, 10.0)) for k, name in enumerate(NAMES)]
RAID = event(EVENT, scope=NAMES[:5])
SETTINGS = DisplacementSettings()


def differences(rng, fall=0.0, rise=0.0, fall_day=EVENT - 10, rise_day=EVENT + 20, wander=1.0):
    """Five sites of the event and seven others with noise that wanders (autocorrelation 0.8 from span to span)."""
    values = np.array([0.5 * rng.normal(size=STARTS.size) + wander * ar1(rng, STARTS.size) for _ in NAMES])
    values[:5] -= fall * (fall_day <= STARTS)
    values[5:] += rise * (rise_day <= STARTS)
    return Panel("sentinel2", NAMES, STARTS, 10, values)


def judge(whole, rng, settings=SETTINGS):
    return of_panel(whole, SITES, RAID, rng, settings)


def test_steps_by_hand():
    found = d._steps(np.array([[0.0, 2.0, 5.0, 7.0, np.nan, 9.0]]), 2)
    assert found[0] == pytest.approx([np.nan, np.nan, 5.0, 3.5, 3.0, np.nan], nan_ok=True)


def test_steps_are_measured_in_the_sites_own_steps():
    """The median of |2|, |4|, |6| is 4; 1.4826 x 4 is the usual step."""
    found = d._standardised(np.array([[2.0, -4.0, 6.0, np.nan], [np.nan] * 4, [0.0] * 4]))
    assert found[0, 2] == pytest.approx(6 / 5.9304)
    assert np.isnan(found[1:]).all()


def test_sites_that_wander_together_count_for_less():
    """Four equal sites: their pooled steps are twice as large as those of independent ones."""
    z = np.tile(np.array([1.0, -1.0] * 20), (4, 1))
    assert d._excess(d._pool(z, np.ones(4)), 5, 30) == pytest.approx(2)
    assert d._excess(0.1 * z[0], 5, 30) == 1


def test_pooling_is_stouffers():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(6, 30))
    z[rng.random(z.shape) < 0.2] = np.nan
    weights = np.array([1.0, 1, 1, 1, 0, 0])
    got = d._pool(z, weights)
    wanted = stouffer(z[:4])
    enough = np.isfinite(z[:4]).sum(axis=0) >= 2
    assert got[enough] == pytest.approx(wanted[enough])
    assert np.isnan(got[~enough]).all()


def test_fall_and_rise_are_searched_in_their_order():
    falling, rising = np.zeros(30), np.zeros(30)
    falling[[9, 25]] = -3, -9  # the second lies outside the search
    rising[[5, 14]] = 8, 4  # the first lies before the fall
    found = d._largest(falling, rising, 10, d._Search(window=2, first=-3, last=3, lag=6))
    assert (found.fall, found.fall_at, found.rise, found.rise_at) == (3, 9, 4, 14)


def test_no_p_value_is_ever_zero():
    """Phipson and Smyth: (1 + 0)/(1 + 19), and ties count against the finding."""
    assert d._rank(5.0, np.zeros(19)) == pytest.approx(0.05)
    assert d._rank(0.0, np.zeros(19)) == 1
    assert d._rank(1.0, np.array([2.0, np.nan, 0.0])) == pytest.approx(2 / 3)


def test_all_labels_are_tried_where_they_are_few():
    """Three of six: 20 choices; only the true one falls most, so its rank is 1/20."""
    rng = np.random.default_rng(1)
    steps = rng.normal(0, 0.01, (6, 40))
    treated = np.array([True] * 3 + [False] * 3)
    steps[:3, 20] -= 5
    steps[3:, 22] += 5
    search = d._Search(window=2, first=-1, last=1, lag=4)
    found = d._find(steps, treated, 20, search)
    assert d._label_rank(steps, treated, 20, search, found, 999, rng) == (pytest.approx(0.05), 20)


def test_a_planted_displacement_is_found_with_date_lag_and_distance():
    hits = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = judge(differences(rng, fall=2.5, rise=2.5), rng)
        hits.append(found.p_value <= 0.05)
        if seed == 0:
            assert (found.treated, found.others) == (NAMES[:5], NAMES[5:])
            assert abs(found.fall_days + 10) <= 10
            assert found.lag_low <= found.lag_days <= found.lag_high
            assert abs(found.lag_days - 30) <= 20
            assert found.n_random_dates == 999
            assert found.n_relabellings == 792  # 12 choose 5: all of them
            assert found.reason.startswith("Consistent with displacement")
            assert all(r.nearest == "s4" for r in found.receivers)
            first = pyproj.Geod(ellps="WGS84").inv(103.401, 10.001, 103.501, 10.001)[2] / 1000
            assert min(r.km for r in found.receivers) == pytest.approx(first, rel=0.006)
    assert np.mean(hits) >= 0.8


def sizes(n, **planted):
    rng = np.random.default_rng(99)
    fast = DisplacementSettings(draws=99)
    found = [judge(differences(rng, **planted), rng, fast) for _ in range(n)]
    return {name: np.array([getattr(f, name) for f in found]) for name in ("p_value", "p_fall", "p_rise", "p_labels")}


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(d, "LAG_DRAWS", 20)


N = 100
SLACK = 3 * np.sqrt(0.1 * 0.9 / N)


def test_where_nothing_happened_p_values_are_honest():
    p = sizes(N)
    for name in ("p_fall", "p_rise", "p_labels"):
        assert (p[name] <= 0.1).mean() <= 0.1 + SLACK, name
    assert abs((p["p_labels"] <= 0.1).mean() - 0.1) <= SLACK
    assert (p["p_value"] <= 0.1).mean() <= 0.1


@pytest.mark.parametrize(("planted", "honest"), [({"fall": 3.0}, "p_rise"), ({"rise": 3.0}, "p_fall")])
def test_half_of_it_is_not_displacement(planted, honest):
    """Sites that fall while the others do nothing, or others that rise by themselves: found in at most one tenth."""
    p = sizes(N, **planted)
    assert (p[honest] <= 0.1).mean() <= 0.1 + SLACK
    assert (p["p_value"] <= 0.1).mean() <= 0.1 + SLACK


def test_everybody_falling_is_not_displacement():
    rng = np.random.default_rng(5)
    whole = differences(rng, fall=3.0)
    whole.values[5:] -= 3.0 * (STARTS >= EVENT - 10)
    assert judge(whole, rng).p_value > 0.2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"scope": NAMES[:2]}, "2 sites of e and 10 others"),
        ({"scope": ("*",)}, "12 sites of e and 0 others"),
        ({"scope": ()}, "0 sites of e"),
    ],
)
def test_too_few_sites_are_not_tested(change, why):
    rng = np.random.default_rng(6)
    found = of_panel(differences(rng), SITES, event(EVENT, **change), rng)
    assert not found.testable
    assert found.p_value is None
    assert found.receivers == ()
    assert found.reason.startswith("Not testable")
    assert why in found.reason


@pytest.mark.parametrize(("day", "why"), [(200, "begin too late"), (950, "end too soon"), (2000, "end too soon")])
def test_an_event_too_near_the_ends_of_the_series_is_not_tested(day, why):
    rng = np.random.default_rng(7)
    found = of_panel(differences(rng), SITES, event(day, scope=NAMES[:5]), rng)
    assert not found.testable
    assert why in found.reason


def test_from_the_table_of_series():
    rng = np.random.default_rng(8)
    values = {c: (DAYS, rng.normal(0, 0.1, DAYS.size)) for c in "ab"}
    for k, name in enumerate(NAMES):
        step = np.where(k < 5, -2.0, 2.0) * (DAYS >= EVENT)
        values[name] = (DAYS, rng.normal(0, 0.5, DAYS.size) + step)
    found = displacement(table(values), SITES, RAID, rng)
    assert found.sensor == "sentinel2"
    assert found.p_value <= 0.05


def test_distance_by_hand():
    assert distance_km(0, 0, 1, 0) == pytest.approx(111.195, abs=0.001)
    # Sihanoukville to Bavet, from the points of the gazetteer in seeds/places.csv.
    true = pyproj.Geod(ellps="WGS84").inv(103.52958, 10.60932, 106.13557, 11.06317)[2] / 1000
    assert distance_km(103.52958, 10.60932, 106.13557, 11.06317) == pytest.approx(true, rel=0.006)

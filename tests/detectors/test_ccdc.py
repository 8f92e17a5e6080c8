"""Consecutive anomalies; what the detector shares with its relatives is in tests/test_monitoring.py."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compoundwatch.detectors.ccdc import DETECTOR, Ccdc
from compoundwatch.errors import SettingsError
from compoundwatch.monitoring_null import RUNS


@pytest.mark.parametrize("consecutive", RUNS)
def test_size_for_any_number_of_views(consecutive: int) -> None:
    rng = np.random.default_rng(2)
    days = 18_000 + np.sort(rng.choice(900, 50, replace=False))
    values = rng.normal(0, 1, (50, 60_000)).astype(np.float32)
    values[rng.random(values.shape) < 0.3] = np.nan
    found = Ccdc(consecutive=consecutive).test(values, days, int(days[25]))
    p = found.p_value[np.isfinite(found.p_value)]
    for level in (0.05, 0.01):
        slack = 3 * np.sqrt(level * (1 - level) / p.size)
        assert np.mean(p < level) < level + slack
        if consecutive < 8 or level < 0.05:  # hardly one pixel in thirty has any row of eight in so few views
            assert np.mean(p < level) > level - slack


def test_unknown_number_of_views() -> None:
    with pytest.raises(SettingsError, match="rows of 4, 6, 8 views, not of 5"):
        Ccdc(consecutive=5)


def test_statistic_is_large_and_the_date_right() -> None:
    rng = np.random.default_rng(3)
    days = 18_000 + 10 * np.arange(80)
    values = rng.normal(0, 0.01, (80, 50)).astype(np.float32)
    values[60:66] -= 1
    found = Ccdc().test(values, days, int(days[50]))
    assert (found.p_value < 1e-6).all()
    assert (found.statistic < -1.5).all()
    np.testing.assert_array_equal(found.day, days[60])
    np.testing.assert_array_equal(found.day_earliest, days[59])
    assert np.median(found.effect) == pytest.approx(-1, abs=0.01)


def test_five_large_errors_need_a_sixth() -> None:
    """The row is as large as its smallest error: five clouds and an ordinary view are no larger than that view."""
    rng = np.random.default_rng(4)
    days = 18_000 + 10 * np.arange(80)
    values = rng.normal(0, 0.01, (80, 500)).astype(np.float32)
    values[60:65] -= 1
    five = Ccdc().test(values, days, int(days[50])).statistic
    values[65] -= 1
    six = Ccdc().test(values, days, int(days[50])).statistic
    assert np.median(abs(five)) < 0.7
    assert np.median(six) < -2.5


def test_clouds_in_the_reference_period_do_not_hide_a_change() -> None:
    rng = np.random.default_rng(5)
    days = 18_000 + 10 * np.arange(80)
    values = rng.normal(0, 0.05, (80, 500)).astype(np.float32)
    values[:40][rng.random((40, 500)) < 0.08] -= 0.8
    values[60:] -= 0.25
    assert np.mean(Ccdc().test(values, days, int(days[40])).p_value < 0.01) > 0.6


@pytest.mark.parametrize("reference_end", ["2008-01-01", "2010-01-01", "2012-01-01"])
@pytest.mark.parametrize(("feature", "rises"), [("nbr", False), ("swir2", True)])
def test_date_of_a_burnt_landsat_pixel_is_that_of_cold(feature: str, rises: bool, reference_end: str) -> None:
    """COLD, over seven bands together, breaks on ordinal day 735040; the view before is of day 735032 (see oracles)."""
    table = pd.read_csv(Path(__file__).parents[1] / "oracles" / "landsat_pixel.csv")
    epoch = dt.date(1970, 1, 1).toordinal()
    days = table["ordinal_day"].to_numpy() - epoch
    nir, swir2 = table["nir"].to_numpy(), table["swir2"].to_numpy()
    values = {"nbr": (nir - swir2) / (nir + swir2), "swir2": swir2 / 1e4}[feature]
    found = DETECTOR.test(values[:, None].astype(np.float32), days, int(np.datetime64(reference_end).astype(int)))
    assert found.p_value[0] < 0.01
    assert found.day[0] + epoch == 735040
    assert found.day_earliest[0] + epoch == 735032
    assert (found.statistic[0] > 0) == rises

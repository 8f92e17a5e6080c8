"""Sites minus the median of their controls, in spans of days, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box

from compoundwatch.errors import ContractError
from compoundwatch.model import Role, Site
from compoundwatch.score.panel import panel


def site(site_id, controls=(), role=Role.SITE, at=(103.0, 10.0)):
    return Site(site_id, site_id, role, box(at[0], at[1], at[0] + 0.002, at[1] + 0.002), tuple(controls))


def table(values, feature="activity", sensor="sentinel2"):
    """A table of site series from site id -> (days, values)."""
    days = np.concatenate([np.asarray(d) for d, _ in values.values()])
    numbers = np.concatenate([np.asarray(row, dtype=float) for _, row in values.values()])
    return pd.DataFrame(
        {
            "site_id": np.repeat(list(values), [len(row) for _, row in values.values()]),
            "sensor": sensor,
            "feature": feature,
            "look": "nadir",
            "scene_id": "x",
            "acquired": pd.to_datetime(days, unit="D", utc=True).as_unit("ns"),
            "value": numbers,
            "spread": 1.0,
            "valid_fraction": np.where(np.isfinite(numbers), 1.0, 0.0),
            "n_valid": 100,
        }
    )


def test_by_hand():
    series = table(
        {
            "s": ([100, 104, 110, 121], [1.0, 3.0, 5.0, 9.0]),
            "a": ([101, 111], [1.0, 1.0]),
            "b": ([103, 112, 119], [2.0, 4.0, 6.0]),
            "c": ([105, 125], [6.0, 1.0]),
        }
    )
    found = panel(series, [site("s", "abc")], "activity", 10, 100)
    assert found.starts.tolist() == [100, 110, 120]
    # 100..109: mean(1, 3) - median(1, 2, 6); 110..119: 5 - median(1, 5); 120..: only one control was seen.
    assert found.values[0] == pytest.approx([0.0, 2.0, np.nan], nan_ok=True)
    assert found.sensor == "sentinel2"


def test_a_span_starts_at_the_origin_whatever_comes_first():
    series = table({k: ([93, 99, 100], [0.0, 0.0, 1.0]) for k in "sab"})
    assert panel(series, [site("s", "ab")], "activity", 10, 100).starts.tolist() == [90, 100]


def test_sites_without_enough_controls_are_left_out_not_made_up():
    series = table({k: ([100], [1.0]) for k in ("s", "t", "a", "b")})
    found = panel(series, [site("s", "a"), site("t", "ab"), site("gone", "ab")], "activity", 10, 100)
    assert found.site_ids == ("t",)
    assert found.of(["s", "t"]).shape == (1, 1)


def test_the_sensor_with_most_measurements_is_used_unless_one_is_named():
    one = table({k: ([100, 110], [1.0, 1.0]) for k in "sab"})
    other = table({k: ([100], [9.0]) for k in "sab"}, sensor="sentinel1")
    series = pd.concat([other, one], ignore_index=True)
    assert panel(series, [site("s", "ab")], "activity", 10, 100).sensor == "sentinel2"
    assert panel(series, [site("s", "ab")], "activity", 10, 100, "sentinel1").sensor == "sentinel1"


def test_looks_of_different_level_are_not_mixed_up():
    """A second look that is 10 higher everywhere changes nothing, though the site is seen in it later only."""
    days, rng = list(range(100, 140, 5)), np.random.default_rng(0)
    values = {k: (days, rng.normal(0, 1, 8)) for k in "sab"}
    one = table(values)
    two = table({k: (d, v + 10) for k, (d, v) in values.items()}).assign(look="other")
    both = pd.concat([one[one["site_id"] != "s"], one[:4], two[two["site_id"] != "s"], two[4:8]], ignore_index=True)
    found = panel(both, [site("s", "ab")], "activity", 5, 100).values[0]
    wanted = panel(one, [site("s", "ab")], "activity", 5, 100).values[0]
    assert np.ptp((found - wanted)[:4]) == pytest.approx(0)
    assert np.ptp((found - wanted)[4:]) == pytest.approx(0)
    assert np.abs(found - wanted).max() < 3


def test_nothing_measured_gives_an_empty_panel():
    found = panel(table({"s": ([100], [np.nan])}), [site("s", "ab")], "activity", 10, 100)
    assert found.site_ids == ()
    assert found.values.shape == (0, 0)


def test_other_tables_are_refused():
    with pytest.raises(ContractError):
        panel(pd.DataFrame({"site_id": []}), [], "activity", 10, 100)

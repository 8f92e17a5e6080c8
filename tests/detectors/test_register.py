"""What is the same for all series detectors: looks kept apart and combined, level, direction, units."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import combine_pvalues

from compoundwatch import detectors
from compoundwatch.formulas import decibel
from compoundwatch.model import PixelChange

DAYS = np.arange(18_000, 18_000 + 12 * 60, 12)
END = 18_000 + 12 * 40


def cube(rng, step=0.0, level=0.0):
    values = rng.normal(level, 1, (DAYS.size, 5, 7))
    values[DAYS >= END + 48] += step
    return values.astype(np.float32)


def run(values, days, looks, name="welch", unit="1"):
    order = np.argsort(days, kind="stable")
    return detectors.change_map(
        values[order], days[order], looks[order], END, detectors.series_detector(name), 0.01, unit
    )


def two(first, second):
    """Two looks, the second a day later than the first."""
    return (
        np.concatenate([first, second]),
        np.concatenate([DAYS, DAYS + 1]),
        np.array(["a"] * DAYS.size + ["b"] * DAYS.size, dtype=object),
    )


def test_looks_of_different_level_are_never_compared():
    """Seen from the other side everything is 50 higher, from the start of the second part on only."""
    rng = np.random.default_rng(1)
    values, days, looks = two(cube(rng), cube(rng, level=50))
    keep = (looks == "a") | (days >= END)
    found = run(values[keep], days[keep], looks[keep])
    assert (found["p_value"].values > 1e-4).all(), "the second look has no past and must not count"
    assert (found["n_before"].values == 40).all()


def test_combined_p_is_stouffers_with_sign():
    rng = np.random.default_rng(2)
    one, other = cube(rng, step=0.4), cube(rng, step=0.4)
    whole = run(*two(one, other))
    parts = [run(v, DAYS, np.array(["a"] * DAYS.size, dtype=object)) for v in (one, other)]
    for y, x in np.ndindex(5, 7):
        sided = []
        for part in parts:
            p, up = float(part["p_value"][y, x]), float(part["statistic"][y, x]) > 0
            sided.append(p / 2 if up else 1 - p / 2)
        up = combine_pvalues(sided, method="stouffer").pvalue
        assert float(whole["p_value"][y, x]) == pytest.approx(2 * min(up, 1 - up), rel=1e-4, abs=1e-7)


def test_looks_that_could_not_test_do_not_count_when_combined():
    """By hand: p = 0.0455 is z = 2, p = 0.3173 is z = 1."""

    def look(p_values, signs):
        n = len(p_values)
        nothing = np.full(n, np.nan, dtype=np.float32)
        return PixelChange(
            np.float32(signs), np.float32(p_values), *(nothing.copy() for _ in range(5)),
            np.full(n, 3, dtype=np.int32), np.full(n, 4, dtype=np.int32),
        )  # fmt: skip

    first = look([0.0455, 0.0455, 0.0455, np.nan, 0.0], [1, 1, 1, np.nan, 1])
    second = look([0.3173, 0.3173, np.nan, np.nan, 1.0], [1, -1, np.nan, np.nan, 1])
    found = detectors.combine([first, second])
    np.testing.assert_allclose(found.statistic[:4], [3 / np.sqrt(2), 1 / np.sqrt(2), 2, np.nan], atol=1e-3)
    np.testing.assert_allclose(found.p_value, [0.0339, 0.4795, 0.0455, np.nan, 0], atol=1e-3)
    assert np.isfinite(found.statistic[4])
    assert (found.n_before == 6).all()


def test_two_looks_see_what_one_misses_and_contradictions_cancel():
    rng = np.random.default_rng(3)
    one, other = cube(rng, step=0.9), cube(rng, step=0.9)
    alone = run(one, DAYS, np.array(["a"] * DAYS.size, dtype=object))
    assert (run(*two(one, other))["direction"] == 1).sum() > (alone["direction"] == 1).sum()
    assert (run(*two(one, -one))["p_value"].values > 0.9).all()


def test_no_date_where_there_is_no_direction():
    rng = np.random.default_rng(4)
    values = cube(rng)
    values[DAYS >= END + 48, :, :3] += 5
    found = run(values, DAYS, np.array(["a"] * DAYS.size, dtype=object))
    dated = ~np.isnat(found["date"].values)
    np.testing.assert_array_equal(dated, found["direction"].values != 0)
    assert dated[:, :3].all()


def test_decibels_become_power_for_a_detector_that_needs_it():
    rng = np.random.default_rng(5)
    power = (rng.gamma(4.4, 0.05 / 4.4, (DAYS.size, 5, 7))).astype(np.float32)
    looks = np.array(["a"] * DAYS.size, dtype=object)
    linear = run(power, DAYS, looks, "omnibus", "linear power")
    np.testing.assert_allclose(
        run(decibel(power), DAYS, looks, "omnibus", "dB")["p_value"], linear["p_value"], rtol=2e-3, atol=1e-6
    )
    omnibus, welch = detectors.series_detector("omnibus"), detectors.series_detector("welch")
    assert detectors.suits(omnibus, "dB")
    assert not detectors.suits(omnibus, "reflectance")
    assert detectors.suits(welch, "reflectance")

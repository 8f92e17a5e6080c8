"""Seven questions to every series detector, on simulated pixels whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pytest

from compoundwatch import detectors
from compoundwatch.model import PixelChange, SeriesDetector

SERIES = {name: d for name, d in detectors.available().items() if d.kind == "series"}
RADAR = {"omnibus"}
"""Detectors of intensities: they are given speckle instead of a season with additive noise."""


@pytest.fixture(params=sorted(SERIES))
def detector(request: pytest.FixtureRequest) -> SeriesDetector:
    return SERIES[request.param]


@dataclass(frozen=True)
class World:
    """Series of pixels with one step each (0 = none) at ``changed``, a day between two acquisitions."""

    values: npt.NDArray[np.float32]
    days: npt.NDArray[np.int64]
    reference_end: int
    changed: int


def world(detector: SeriesDetector, step: npt.ArrayLike, seed: int, dates: int = 64, cloudy: float = 0.25) -> World:
    """One pixel per ``step``, in standard deviations of the noise (radar: in half decibels)."""
    rng = np.random.default_rng(seed)
    step = np.asarray(step, dtype=float)
    days = 17_000 + np.cumsum(rng.integers(5, 25, dates))
    reference_end = int(days[dates // 2])
    k = dates // 2 + dates // 8
    after = (np.arange(dates) >= k)[:, None]
    shape = (dates, step.size)
    if detector.name in RADAR:
        looks = detector.looks  # type: ignore[attr-defined]
        values = 0.1 * rng.gamma(looks, 1 / looks, shape) * 10 ** (after * step / 20)
    else:
        season = 0.1 * np.cos(2 * np.pi * days / 365.25 + 0.7)[:, None] if detector.name != "welch" else 0
        values = 0.5 + season + 0.05 * (rng.standard_normal(shape) + after * step)
    values[rng.random(shape) < cloudy] = np.nan
    return World(values.astype(np.float32), days, reference_end, int(days[k]))


def ask(detector: SeriesDetector, w: World) -> PixelChange:
    return detector.test(w.values, w.days, w.reference_end)


def same(a: PixelChange, b: PixelChange, *, mirrored: bool = False, rounding: float = 0.0) -> None:
    for field in fields(PixelChange):
        sign = -1 if mirrored and field.name in ("statistic", "effect") else 1
        slack = 0.0 if field.name.startswith(("day", "n_")) else rounding
        x, y = getattr(a, field.name), sign * getattr(b, field.name)
        np.testing.assert_allclose(x, y, rtol=slack, atol=slack, err_msg=field.name)


@pytest.mark.parametrize("level", [0.05, 0.01])
def test_false_alarms_are_as_rare_as_promised(detector: SeriesDetector, level: float) -> None:
    found = ask(detector, world(detector, np.zeros(100_000), seed=12))
    p = found.p_value[np.isfinite(found.p_value)]
    assert p.size > 90_000
    assert np.mean(p < level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / p.size))


def test_rises_and_falls_are_found_equally_often(detector: SeriesDetector) -> None:
    size = 8.0 if detector.name in RADAR else 4.0
    up = ask(detector, world(detector, np.full(4000, size), seed=2))
    down = ask(detector, world(detector, np.full(4000, -size), seed=3))
    share_up, share_down = np.mean(up.p_value < 0.01), np.mean(down.p_value < 0.01)
    assert share_up > 0.5
    assert share_up == pytest.approx(share_down, abs=0.04)
    called = up.p_value < 0.01
    assert np.mean(up.statistic[called] > 0) > 0.99
    assert np.mean(up.effect[called] > 0) > 0.99


def test_negating_the_data_mirrors_the_answer(detector: SeriesDetector) -> None:
    if detector.name in RADAR:
        pytest.skip("intensities are positive")
    w = world(detector, np.linspace(-3, 3, 301), seed=4)
    same(ask(detector, w), detector.test(-w.values, w.days, w.reference_end), mirrored=True)


def test_the_change_lies_in_the_gap_between_clear_views(detector: SeriesDetector) -> None:
    w = world(detector, np.full(500, 20.0), seed=5)
    found = ask(detector, w)
    called = found.p_value < 0.001
    assert np.mean(called) > 0.95
    np.testing.assert_array_equal(found.day[called], found.day_latest[called])
    holds = (found.day_earliest < w.changed) & (w.changed <= found.day_latest)
    assert np.mean(holds[called]) > 0.9
    for p in np.flatnonzero(called)[:50]:
        seen = w.days[np.isfinite(w.values[:, p])]
        assert found.day[p] in seen
        assert found.day_earliest[p] == seen[seen < found.day[p]].max()


def test_an_all_cloud_date_changes_nothing_and_views_are_counted(detector: SeriesDetector) -> None:
    w = world(detector, np.linspace(-5, 5, 101), seed=6)
    found = ask(detector, w)
    before = w.days < w.reference_end
    np.testing.assert_array_equal(found.n_before, np.isfinite(w.values[before]).sum(axis=0))
    np.testing.assert_array_equal(found.n_after, np.isfinite(w.values[~before]).sum(axis=0))
    values, days = w.values, w.days
    for k in (50, 10):
        values = np.insert(values, k, np.nan, axis=0)
        days = np.insert(days, k, days[k - 1] + 1)
    # Another place in the tile adds up in another order; where two windows tie, either may be taken.
    same(found, detector.test(values, days, w.reference_end), rounding=1e-2)


def test_too_few_views_are_not_tested(detector: SeriesDetector) -> None:
    w = world(detector, np.full(40, 8.0), seed=7, cloudy=0.0)
    values, before = w.values.copy(), w.days < w.reference_end
    values[:, 0] = np.nan
    values[~before, 1] = np.nan
    values[before, 2] = np.nan
    values[np.flatnonzero(before)[detector.min_before - 1 :], 3] = np.nan
    values[np.flatnonzero(~before)[detector.min_after - 1 :], 4] = np.nan
    found = detector.test(values, w.days, w.reference_end)
    for name in ("statistic", "p_value", "effect", "effect_se", "day", "day_earliest", "day_latest"):
        answer = getattr(found, name)
        assert np.isnan(answer[:5]).all(), name
        assert np.isfinite(answer[5:]).all(), name
    np.testing.assert_array_equal(found.n_before[:3], [0, before.sum(), 0])
    np.testing.assert_array_equal(found.n_after[:3], [0, 0, (~before).sum()])


def test_nothing_before_or_after_the_reference_end_is_not_tested(detector: SeriesDetector) -> None:
    w = world(detector, np.full(30, 8.0), seed=8)
    for end in (int(w.days[0]), int(w.days[-1]) + 1):
        assert np.isnan(detector.test(w.values, w.days, end).p_value).all()


def test_dates_moved_by_a_thousand_days_move_the_answer(detector: SeriesDetector) -> None:
    w = world(detector, np.full(200, 10.0), seed=9)
    found, later = ask(detector, w), detector.test(w.values, w.days + 1000, w.reference_end + 1000)
    np.testing.assert_array_equal(found.day + 1000, later.day)
    np.testing.assert_array_equal(found.day_earliest + 1000, later.day_earliest)
    np.testing.assert_allclose(found.statistic, later.statistic, rtol=2e-3)


def test_tiles_put_together_equal_the_whole(detector: SeriesDetector) -> None:
    w = world(detector, np.linspace(-4, 4, 700), seed=10)
    kept = w.values.copy()
    whole = ask(detector, w)
    np.testing.assert_array_equal(w.values, kept, err_msg="the input was changed")
    same(whole, ask(detector, w))
    parts = [detector.test(w.values[:, k], w.days, w.reference_end) for k in (slice(0, 300), slice(300, 700))]
    for field in fields(PixelChange):
        together = np.concatenate([getattr(part, field.name) for part in parts])
        np.testing.assert_array_equal(getattr(whole, field.name), together, err_msg=field.name)


def test_types_and_self_description(detector: SeriesDetector) -> None:
    found = ask(detector, world(detector, np.zeros(33), seed=11))
    for field in fields(PixelChange):
        assert getattr(found, field.name).shape == (33,), field.name
    assert found.p_value.dtype == np.float32
    assert found.day.dtype == np.float64
    assert found.n_before.dtype == np.int32
    assert SERIES[detector.name] is detector
    assert detector.title
    assert "doi:" in detector.source

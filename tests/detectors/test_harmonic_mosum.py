"""Season and MOSUM: the kinds of change it is for, and its size on a million unchanged pixels."""

from __future__ import annotations

import numpy as np
import pytest

from compoundwatch.detectors.harmonic_mosum import DETECTOR


def _world(seed: int, pixels: int, dates: int = 80, missing: float = 0.4) -> tuple[np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(seed)
    days = 18_500 + np.sort(rng.choice(1400, dates, replace=False))
    values = rng.standard_normal((dates, pixels), dtype=np.float32)
    values[rng.random(values.shape, dtype=np.float32) < missing] = np.nan
    return values, days, int(days[dates // 2])


@pytest.mark.slow
def test_size_on_a_million_pixels() -> None:
    values, days, end = _world(1, 1_000_000)
    p = DETECTOR.test(values, days, end).p_value
    p = p[np.isfinite(p)]
    for level in (0.05, 0.01):  # the table itself is simulated: 3 % of the level beside three standard errors
        assert np.mean(p < level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / p.size) + 0.03 * level)


def test_spells_and_steps() -> None:
    values, days, end = _world(2, 3000)
    lasting, passing = values.copy(), values.copy()
    lasting[50:] += 2
    passing[50:62] += 2
    found = [np.mean(DETECTOR.test(v, days, end).p_value < 0.01) for v in (lasting, passing)]
    assert found[0] > 0.9
    assert found[1] > 0.5


def test_a_season_is_no_change() -> None:
    values, days, end = _world(3, 20_000)
    plain = DETECTOR.test(values, days, end)
    season = (5 * np.sin(2 * np.pi * days / 365.25 + 1))[:, None].astype(np.float32)
    seasonal = DETECTOR.test(values + season, days, end)
    np.testing.assert_allclose(seasonal.p_value, plain.p_value, atol=0.02)
    assert DETECTOR.title

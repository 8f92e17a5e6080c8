"""Season and CUSUM: the kinds of change it is for; what it shares with its relatives is in tests/test_monitoring.py."""

from __future__ import annotations

import numpy as np

from compoundwatch.detectors.harmonic_cusum import DETECTOR
from compoundwatch.detectors.harmonic_mosum import DETECTOR as MOSUM


def test_finds_lasting_steps_better_than_moving_sums_do() -> None:
    rng = np.random.default_rng(2)
    days = 18_500 + np.sort(rng.choice(1400, 80, replace=False))
    values = rng.standard_normal((80, 3000), dtype=np.float32)
    values[rng.random(values.shape, dtype=np.float32) < 0.4] = np.nan
    values[50:] += 1.5
    end = int(days[40])
    ours, theirs = (np.mean(d.test(values, days, end).p_value < 0.01) for d in (DETECTOR, MOSUM))
    assert ours > theirs + 0.05
    assert ours > 0.5

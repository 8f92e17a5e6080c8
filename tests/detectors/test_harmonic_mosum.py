"""Season and MOSUM: the kinds of change it is for; what it shares with its relatives is in tests/test_monitoring.py."""

from __future__ import annotations

import numpy as np

from compoundwatch.detectors.harmonic_cusum import DETECTOR as CUSUM
from compoundwatch.detectors.harmonic_mosum import DETECTOR


def test_finds_steps_and_spells() -> None:
    rng = np.random.default_rng(2)
    days = 18_500 + np.sort(rng.choice(1400, 80, replace=False))
    values = rng.standard_normal((80, 3000), dtype=np.float32)
    values[rng.random(values.shape, dtype=np.float32) < 0.4] = np.nan
    lasting, passing = values.copy(), values.copy()
    lasting[50:] += 2
    passing[50:62] += 2
    end = int(days[40])
    steps, spells = (np.mean(DETECTOR.test(v, days, end).p_value < 0.01) for v in (lasting, passing))
    assert steps > 0.8
    assert spells > 0.4
    assert spells > np.mean(CUSUM.test(passing, days, end).p_value < 0.01) + 0.1

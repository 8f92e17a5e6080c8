"""The same values give the same bytes: compiled now or loaded from disk, on any number of threads, in any tile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from compoundwatch import monitoring
from compoundwatch.regression import TILE

FIT = """
import sys
import numpy as np
from compoundwatch import regression as r

rng = np.random.default_rng(5)
days = 18_000 + np.sort(rng.choice(1300, 90, replace=False))
values = rng.standard_t(3, (90, r.TILE)) + 2 * np.cos(2 * np.pi * days / 365.25)[:, None] + 5
values[rng.random(values.shape) < 0.3] = np.nan
rows, seen = np.zeros((91, r.TILE), np.float32), np.zeros((91, r.TILE), np.float32)
state = np.zeros(r.SLOTS * r.TILE, np.float32)
r.load(values.astype(np.float32), 0, r.TILE, rows, seen, state)
r.fit(rows, seen, r.cycles(days), 90, (1e-4, 1.5, 0.7785, 3, 2.5), state)
state.tofile(sys.argv[1])
print(sum(r.fit.stats.cache_misses.values()), "compiled")
"""


def test_compiled_now_or_loaded_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel calls is compiled twice, alone and as part of it; which copy runs differs between the two."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    said = [
        subprocess.run(
            [sys.executable, "-c", FIT, str(tmp_path / name)], check=True, capture_output=True, text=True
        ).stdout
        for name in ("compiled", "loaded")
    ]
    assert said == ["1 compiled\n", "0 compiled\n"]
    assert (tmp_path / "compiled").read_bytes() == (tmp_path / "loaded").read_bytes()


@pytest.fixture(scope="module")
def cube() -> tuple[np.ndarray, np.ndarray]:
    """Values float32 (dates, pixels) with 30 % missing and a fall in every second pixel; days."""
    rng = np.random.default_rng(6)
    days = 18_000 + np.sort(rng.choice(1800, 150, replace=False))
    values = rng.normal(0.5, 0.03, (150, 3 * TILE + 7))
    values[days > 19_520, ::2] -= 0.3
    values[rng.random(values.shape) < 0.3] = np.nan
    return values.astype(np.float32), days


def _bytes(values: np.ndarray, days: np.ndarray, first: int = 0) -> dict[str, bytes]:
    found = monitoring.monitor(values, days, 19_460, windows=(4, 8, 16, 32))
    return {name: column[first:].tobytes() for name, column in vars(found).items()}


def test_on_any_number_of_threads(cube: tuple[np.ndarray, np.ndarray]) -> None:
    many = _bytes(*cube)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert _bytes(*cube) == many
    finally:
        numba.set_num_threads(before)


@pytest.mark.parametrize("cut", [1, 101, TILE])
def test_in_any_tile(cube: tuple[np.ndarray, np.ndarray], cut: int) -> None:
    values, days = cube
    assert _bytes(values[:, cut:], days) == _bytes(values, days, first=cut)

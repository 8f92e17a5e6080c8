"""A watch over ten sites is killed at random moments and run again: it ends as if nobody had touched it."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compoundwatch import simulate as simulator

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = int(os.environ.get("COMPOUNDWATCH_CRASHES", "4"))
"""How often the watch is killed; 30 take some minutes."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place") / "imagery"
    simulator.simulate(
        folder,
        np.random.default_rng(5),
        scenarios=("building", "unchanged", "demolished", "unchanged", "building") * 2,
        start=dt.date(2023, 1, 2),
        end=dt.date(2024, 9, 30),
        revisit_days=30,
        controls=2,
        regional_controls=1,
        site_m=(110.0, 130.0),
    )
    return folder


def killed(place: Path, folder: Path, moments: int, seed: int) -> list[dict]:
    command = [sys.executable, "-m", "tests.workspaces", place, folder, "--moments", moments, "--seed", seed]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(c) for c in command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(3600)
def test_killed_at_random_moments(place, tmp_path):
    found = killed(place, tmp_path, MOMENTS, seed=1)
    assert len(found) == MOMENTS
    assert [m["differs"] for m in found] == [[]] * MOMENTS
    assert [m["litter"] for m in found] == [[]] * MOMENTS
    assert any(m["killed"] for m in found)

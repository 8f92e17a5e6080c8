"""A made-up place with known truth, and the main job on it."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np

from compoundwatch import simulate as simulator
from compoundwatch.model import WatchResult
from compoundwatch.pipeline.progress import Progress, silent
from compoundwatch.pipeline.watching import watch

DEMO_SEED = 20260115


def simulate(out: Path | str, seed: int = 0, progress: Progress = silent) -> simulator.Simulation:
    """Write a made-up place with known truth: a STAC catalogue, its areas, events and truth.

    Raises
    ------
    OutputError : the folder is not empty or cannot be written.
    """
    return simulator.simulate(Path(out), np.random.default_rng(seed), progress=progress)


def demo(out: Path | str, progress: Progress = silent) -> WatchResult:
    """Simulate a place and watch it, without a network: what the tool does, from end to end.

    Parameters
    ----------
    out : new or empty folder; gets ``imagery`` with the made-up place and ``result`` with what was found.
    progress : called with the task in words, how much of it is done, and how much there is.

    Raises
    ------
    OutputError : the folder is not empty or cannot be written.
    """
    folder = Path(out)
    made = simulator.simulate(folder / "imagery", np.random.default_rng(DEMO_SEED), **simulator.DEMO, progress=progress)
    return watch(
        made.areas,
        out=folder / "result",
        catalog=made.catalog,
        start=made.start,
        end=made.end,
        events=made.events,
        now=dt.datetime.combine(made.end, dt.time(12), dt.UTC),
        seed=DEMO_SEED,
        progress=progress,
    )


def demo_truth(out: Path | str) -> dict[str, str]:
    """What was put into each site of a demo: site id -> phrase."""
    truth = json.loads((Path(out) / "imagery" / "truth.json").read_text(encoding="utf-8"))
    return {
        row["site_id"]: row["scenario"] + (f" on {row['change_date']}" if row.get("change_date") else "")
        for row in truth["sites"]
    }

"""Many places on a Dask cluster: here one of two processes on this machine, as it would be with machines elsewhere.

Needs ``pip install 'compoundwatch[cluster]'`` and no network. Starts a scheduler and two workers, makes a place up, and
watches it with the workers and without. Prints both answers: they are the same to the last bit, for a worker is sent a
place and sends back what it found, and only the process that was started writes.

    python examples/dask_cluster.py [--out cluster] [--revisit-days 8]

With a cluster of your own, give its address to ``cw.watch(..., dask="tcp://scheduler:8786")``; see docs/scale.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
from pathlib import Path

import numpy as np
from distributed import LocalCluster

import compoundwatch as cw
from compoundwatch import simulate

START, END = dt.date(2023, 1, 2), dt.date(2025, 6, 30)


def main() -> None:
    """Watch a made-up place with a cluster and without."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("cluster"), help="new or empty folder")
    parser.add_argument("--revisit-days", type=int, default=8, help="days from one made-up image to the next")
    given = parser.parse_args()
    rng = np.random.default_rng(5)
    size = {"revisit_days": given.revisit_days, "site_m": (110.0, 150.0), "controls": 3, "regional_controls": 1}
    made = simulate.simulate(given.out / "imagery", rng, scenarios=("demolished",), start=START, end=END, **size)
    job = {"catalog": made.folder, "start": START, "end": END}
    with LocalCluster(n_workers=2, threads_per_worker=1, memory_limit="1.5GB", dashboard_address=None) as cluster:
        print(f"{len(cluster.workers)} workers at {cluster.scheduler_address}")
        spread = cw.watch(made.areas, out=given.out / "result", dask=cluster.scheduler_address, **job)
    alone = cw.watch(made.areas, **job)
    for there, here in zip(spread.states, alone.states, strict=True):
        print(f"{there.site_id} on the cluster: {there.state}, score {there.score}")
        print(f"{here.site_id} without it:     {here.state}, score {here.score}")
    print(f"all series alike: {spread.series.equals(alone.series)}")


if __name__ == "__main__":
    main()

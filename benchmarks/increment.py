"""What one new date costs in a workspace of five years, beside the first run, and whether anything is read again.

Usage: python benchmarks/increment.py [FOLDER] [--sites 1] [--years 5] [--controls 8]

Simulates a place, watches it up to the last date but one, takes away every pixel that was read, and watches it again
with the last date there. Both runs are processes of their own, measured by their CPU time (user and system); what
Python and its libraries need to start, which does not grow with the sites, is measured too and taken off once more.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

START = dt.date(2021, 1, 2)
REVISIT_DAYS = 5
RUN = """
import datetime as dt, sys
from compoundwatch import pipeline
from compoundwatch.pipeline import watching
import compoundwatch.outputs.report
place, out, end = sys.argv[1:]
if out:
    now = dt.datetime.fromisoformat(end + "T06:00:00+00:00")
    pipeline.watch(place + "/sites.geojson", out=out, catalog=place, start=dt.date(2021, 1, 2), end=now.date(), now=now)
"""


def run(place: Path, out: Path | str, end: dt.date) -> tuple[float, float]:
    """CPU seconds and seconds of one run; without ``out``, of starting alone."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, str(place), str(out), end.isoformat()]
    subprocess.run(command, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - began


def hide(place: Path, last: str, aside: Path) -> None:
    """Take the last scene out of the catalogue."""
    path = place / "sentinel-2-l2a" / "collection.json"
    shutil.copy(path, aside)
    collection = json.loads(path.read_text())
    collection["links"] = [k for k in collection["links"] if f"/{last}/" not in k["href"]]
    path.write_text(json.dumps(collection))


def clear(folder: Path) -> bool:
    (item,) = folder.glob("*.json")
    return bool(json.loads(item.read_text())["properties"]["eo:cloud_cover"] < 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "compoundwatch-increment")
    parser.add_argument("--sites", type=int, default=1)
    parser.add_argument("--years", type=float, default=5)
    parser.add_argument("--controls", type=int, default=8)
    asked = parser.parse_args()
    place, out = asked.folder / "imagery", asked.folder / "workspace"
    if not place.exists():
        from compoundwatch import simulate

        kinds = ("building", "unchanged", "emptied", "demolished", "unchanged")
        simulate.simulate(
            place,
            np.random.default_rng(1),
            scenarios=[kinds[k % len(kinds)] for k in range(asked.sites)],
            start=START,
            end=START + dt.timedelta(days=round(365.25 * asked.years) + 30),
            revisit_days=REVISIT_DAYS,
            controls=asked.controls,
            regional_controls=1,
        )
    shutil.rmtree(out, ignore_errors=True)
    scenes = sorted((p for p in (place / "sentinel-2-l2a").iterdir() if p.is_dir()), key=lambda p: p.name.split("_")[2])
    first = START + dt.timedelta(days=round(365.25 * asked.years))
    named = {p: dt.datetime.strptime(p.name.split("_")[2], "%Y%m%d").date() for p in scenes}
    new = next(p for p, day in named.items() if day > first and clear(p))
    end = next(day for day in reversed(list(named.values())) if day < named[new])
    start_cpu, _ = run(place, "", end)
    first_cpu, first_wall = run(place, out, end)
    old = [file for p, day in named.items() if day <= end for file in p.glob("*.tif")]
    for file in old:
        file.rename(file.with_suffix(".gone"))
    try:
        again_cpu, again_wall = run(place, out, end)
        more_cpu, more_wall = run(place, out, named[new])
    finally:
        for file in old:
            file.with_suffix(".gone").rename(file)
    store = sum(p.stat().st_size for p in out.rglob("*") if p.is_file() and "cache" not in p.parts) / 1e6
    cache = sum(p.stat().st_size for p in (out / "cache").rglob("*") if p.is_file()) / 1e6
    print(f"{asked.sites} sites, {asked.controls} controls, {asked.years:g} years, {len(scenes)} scenes; CPU s (wall)")
    print(f"  to start Python alone          {start_cpu:8.2f}")
    print(f"  first run                      {first_cpu:8.2f} ({first_wall:.1f})")
    print(f"  the same command again         {again_cpu:8.2f} ({again_wall:.1f})  1/{first_cpu / again_cpu:.0f}")
    print(f"  one new date                   {more_cpu:8.2f} ({more_wall:.1f})  1/{first_cpu / more_cpu:.0f}")
    work = (first_cpu - start_cpu) / (more_cpu - start_cpu)
    print(f"  one new date, without starting {more_cpu - start_cpu:8.2f}  1/{work:.0f}")
    print(f"  files of old dates were not there to be read; workspace {store:.1f} MB, cache {cache:.1f} MB")


if __name__ == "__main__":
    main()

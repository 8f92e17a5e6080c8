"""Many sites on the workers of a Dask cluster: how much faster two are than one, and how much memory they take.

    python benchmarks/scale.py --sites 200
    python benchmarks/scale.py --sites 500 --workers 2        # memory only, without the run of one worker

Made-up scenes of one region, with small sites side by side that share three controls, are watched from a local folder.
Printed are the seconds of the step that is spread (reading and testing all places), the speed-up, whether the results
are equal, and the peak memory of this process and of the largest worker after every quarter of the places: flat means
that the later quarters add nothing. Per-site figures of docs/scale.md come from here.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pystac
import rasterio
from affine import Affine
from shapely.geometry import box, mapping

from compoundwatch.grid import project
from compoundwatch.model import ExportSettings, Settings
from compoundwatch.pipeline import watch

EPSG, LEFT, TOP = 32648, 300_000.0, 1_200_000.0
PITCH, SIDE = 30, 10
"""Pixels from site to site, and on a side of a site."""
START, END, STEP = dt.date(2022, 1, 1), dt.date(2024, 12, 31), 25
LEVELS = {"blue": 0.06, "green": 0.09, "red": 0.08, "nir": 0.28, "swir16": 0.20}


def place(folder: Path, count: int) -> Path:
    """Scenes and a file of ``count`` sites; returns the file."""
    across = int(np.ceil(np.sqrt(count + 3)))
    side = 2 * (across * PITCH // 2 + PITCH)
    rng = np.random.default_rng(5)
    ground = rng.normal(0, 0.02, (side, side))
    catalog = pystac.Catalog("made-up", "made-up scenes")
    for day in range(0, (END - START).days, STEP):
        when = dt.datetime.combine(START + dt.timedelta(days=day), dt.time(3, 30), dt.UTC)
        name = f"S2_{when:%Y%m%d}"
        outline = rasterio.warp.transform_bounds(
            f"EPSG:{EPSG}", "EPSG:4326", LEFT, TOP - 10 * side, LEFT + 10 * side, TOP
        )
        stated = {"s2:processing_baseline": "05.11", "eo:cloud_cover": 5.0, "grid:code": "MGRS-48PUA"}
        item = pystac.Item(name, mapping(box(*outline)), list(outline), when, stated, collection="sentinel-2-l2a")
        for band, level in LEVELS.items():
            seen = level + ground + rng.normal(0, 0.005, (side, side))
            values = np.clip(np.rint(seen * 1e4 + 1000), 1, 20_000).astype(np.uint16)
            write(folder / name / f"{band}.tif", values[::2, ::2] if band == "swir16" else values, side)
            rule = {"raster:bands": [{"nodata": 0, "scale": 1e-4, "offset": -0.1}]}
            item.add_asset(band, pystac.Asset(str(folder / name / f"{band}.tif"), extra_fields=rule))
        write(folder / name / "scl.tif", np.full((side // 2, side // 2), 4, dtype=np.uint8), side)
        item.add_asset("scl", pystac.Asset(str(folder / name / "scl.tif")))
        catalog.add_item(item)
    catalog.normalize_hrefs(str(folder))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    features = []
    for k in range(count + 3):
        x, y = LEFT + 10 * PITCH * (k % across + 0.7), TOP - 10 * PITCH * (k // across + 0.7)
        outline = project(box(x, y - 10 * SIDE, x + 10 * SIDE, y), EPSG, 4326)
        said = {"site_id": f"S{k}", "name": f"Site {k}", "role": "control" if k < 3 else "site"}
        if k >= 3:
            said["controls"] = ["S0", "S1", "S2"]
        features.append({"type": "Feature", "geometry": mapping(outline), "properties": said})
    path = folder / "sites.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def write(path: Path, values: np.ndarray, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    step = 10.0 * side / values.shape[1]
    size = {"width": values.shape[1], "height": values.shape[0], "count": 1, "dtype": values.dtype, "nodata": 0}
    where = {"crs": f"EPSG:{EPSG}", "transform": Affine(step, 0, LEFT, 0, -step, TOP)}
    with rasterio.open(path, "w", driver="COG", compress="DEFLATE", predictor="YES", **size, **where) as file:
        file.write(values, 1)


def peak_mb(pid: int) -> float:
    """Most memory that a process ever held, in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def children() -> list[int]:
    found, waiting = [], [os.getpid()]
    while waiting:
        pid = waiting.pop()
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            mine = [int(p) for p in task.read_text().split()]
            found += mine
            waiting += mine
    return found


class Watcher:
    """Is told of progress; notes when the first and the last place were done, and the memory on the way."""

    def __init__(self) -> None:
        self.first = self.last = 0.0
        self.memory: list[str] = []

    def __call__(self, task: str, done: int, total: int) -> None:
        if task == "reading":
            self.first = time.perf_counter()
        if not task.startswith("read "):
            return
        self.last = time.perf_counter()
        if done in {round(total * part / 4) for part in (1, 2, 3, 4)}:
            own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            workers = []
            for pid in children():
                try:
                    workers.append(peak_mb(pid))
                except (OSError, IndexError):
                    continue
            self.memory.append(f"{done} places: {own:.0f} MB here, {max(workers, default=0):.0f} MB in a worker")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=200)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    asked = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} when it began")
    settings = Settings(export=ExportSettings(rasters=False, report=False, frames=0))
    with tempfile.TemporaryDirectory() as folder:
        sites = place(Path(folder) / "imagery", asked.sites)
        results, seconds = {}, {}
        for workers in asked.workers:
            watcher = Watcher()
            results[workers] = watch(
                sites,
                catalog=sites.parent,
                out=Path(folder) / f"out{workers}",
                start=START,
                end=END,
                now=dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
                settings=settings,
                workers=workers,
                progress=watcher,
            )
            seconds[workers] = watcher.last - watcher.first
            places = asked.sites + 3
            print(f"{workers} workers: {places} places in {seconds[workers]:.1f} s", end=", ")
            print(f"{seconds[workers] / places * workers:.2f} s of a worker for each")
            print("".join(f"    {line}\n" for line in watcher.memory), end="")
    if len(asked.workers) > 1:
        first, last = asked.workers[0], asked.workers[-1]
        print(f"speed-up of {last} over {first}: {seconds[first] / seconds[last]:.2f}")
        one, other = results[first], results[last]
        same = one.series.equals(other.series) and [repr(s) for s in one.states] == [repr(s) for s in other.states]
        print(f"results equal: {same}")


if __name__ == "__main__":
    main()

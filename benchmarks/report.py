"""How large a report of many sites is, how long it takes to write, and how soon a browser shows it.

Run: python benchmarks/report.py [--sites 100] [--side 60] [--out FOLDER]. Every site has pictures of full noise, which
no compression can shrink much, three years of measurements, and frames over time. The browser is Chromium.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import shapely

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.outputs import conftest as small

from compoundwatch.grid import Grid, project
from compoundwatch.model import Event, Picture, Role, Site
from compoundwatch.outputs.reading import as_stored
from compoundwatch.outputs.report import write_report
from compoundwatch.pipeline.summarising import told
from compoundwatch.sensors import sensor

TIMES = 5


def noise(rng: np.random.Generator, grid: Grid, day: str) -> Picture:
    """A picture in which neighbouring pixels have little to do with one another."""
    base = rng.normal(120, 12, (grid.rows, grid.cols, 1)) + rng.normal(0, 9, (grid.rows, grid.cols, 3))
    acquired = dt.datetime.fromisoformat(f"{day}T03:25:41+00:00")
    seen = np.ones(grid.shape, bool)
    return Picture(f"S2_{day}", "sentinel2", acquired, grid, np.clip(base, 0, 255).astype(np.uint8), seen)


def many(n: int, side: int):
    """A result of ``n`` sites across Cambodia, with pictures of ``side`` pixels."""
    rng = np.random.default_rng(0)
    base = small.result._get_wrapped_function()()
    series = small.series()
    own = series[series["site_id"] == "kk-1"]
    sites, tables, states, pictures, frames = [], [], [], {}, {}
    controls = tuple(s for s in base.area.sites if s.role is Role.CONTROL)
    for k in range(n):
        name = f"site-{k:03}"
        left, top = 300_000 + 10.0 * rng.integers(0, 30_000), 1_200_000 + 10.0 * rng.integers(0, 30_000)
        grid = Grid(32648, left, top, 10.0, side, side)
        inside = shapely.box(left + 60, top - 10 * side + 60, left + 10 * side - 60, top - 60)
        ids = tuple(c.site_id for c in controls)
        sites.append(Site(name, f"Made-up place {k}", Role.SITE, project(inside, 32648, 4326), ids, 100.0, "made up"))
        tables.append(own.assign(site_id=name, value=own["value"] + rng.normal(0, 0.01, len(own))))
        states.append(replace((small.EMPTIED, small.QUIET)[k % 2], site_id=name))
        days = pd.date_range("2022-02-01", "2024-12-20", periods=12).strftime("%Y-%m-%d")
        frames[name] = tuple(noise(rng, grid, day) for day in days)
        pictures[name] = (frames[name][6], frames[name][-1])
    scope = tuple(s.site_id for s in sites)
    raid = Event("raid", dt.date(2024, 3, 20), dt.date(2024, 3, 20), "here", scope, "raid", "A raid", "made up", "K")
    area = replace(base.area, sites=(*sites, *controls), events=(raid,))
    beside = series[series["site_id"].str.startswith("control")]
    return replace(
        base,
        area=area,
        sensors=(sensor("sentinel2"),),
        series=pd.concat([*tables, beside], ignore_index=True),
        states=tuple(states),
        effects=(),
        changes=(),
        pictures=pictures,
        frames=frames,
        skipped=(),
    )


def seconds_to_show(page: Path) -> list[tuple[float, float]]:
    """Seconds until the page is loaded, its script has run and its first screen is drawn, and how much of that its own
    thread of the browser worked (which other programs on the machine do not lengthen)."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        for _ in range(TIMES):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            inside = tab.context.new_cdp_session(tab)
            inside.send("Performance.enable", {"timeDomain": "threadTicks"})
            tab.goto(page.resolve().as_uri(), wait_until="load")
            timing = tab.evaluate("performance.getEntriesByType('navigation')[0].toJSON()")
            paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            metrics = {m["name"]: m["value"] for m in inside.send("Performance.getMetrics")["metrics"]}
            found.append((max(paint, timing["loadEventEnd"]) / 1000, metrics["TaskDuration"]))
            tab.close()
        browser.close()
    return found


def main() -> None:
    """Print sizes and times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=100)
    parser.add_argument("--side", type=int, default=60, help="pixels of a picture's side")
    parser.add_argument("--out", type=Path, help="keep the page here")
    options = parser.parse_args()
    result = many(options.sites, options.side)
    with tempfile.TemporaryDirectory() as aside:
        page = (options.out or Path(aside)) / "report.html"
        stored = as_stored(result)
        start = time.process_time()
        said = told(stored)
        computed = time.process_time() - start
        start = time.process_time()
        write_report(page, stored, result.sensors, said)
        written = time.process_time() - start
        shown = seconds_to_show(page)
        waited, worked = (statistics.median(column) for column in zip(*shown, strict=True))
        print(f"{options.sites} sites, pictures of {options.side} x {options.side} pixels")
        print(f"size             {page.stat().st_size / 1e6:6.1f} MB")
        print(f"verdicts         {computed:6.1f} s of one core")
        print(f"writing          {written:6.1f} s of one core")
        print(f"page is shown    {waited:6.2f} s (median of {TIMES}), of which its thread works {worked:.2f} s")


if __name__ == "__main__":
    main()

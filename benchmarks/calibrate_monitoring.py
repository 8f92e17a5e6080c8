"""Simulates the null distribution of the monitoring statistics and writes src/compoundwatch/monitoring_null.py.

    python benchmarks/calibrate_monitoring.py [pixels per cell, default 600000]

Independent normal noise at irregular dates, for every number of views before and after the end of the reference period,
through the code that tests real pixels, with its default settings. The statistics depend on the noise's variance not at
all, and on the dates and the season very little; that is what makes one table do. About ten minutes on two
cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from compoundwatch import monitoring

BEFORE = (8, 10, 12, 15, 20, 30, 50, 100, 200, 400)
AFTER = (4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 20, 28, 32, 48, 64, 96, 160, 300)
LEVELS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0003, 0.0001)
RUNS = (4, 6, 8)
WINDOWS = (4, 8, 16, 32)
SEARCHES = {
    "MOVING_SUM": ({"windows": WINDOWS}, "Windows of 4, 8, 16 and 32 views."),
    "LASTING_STEP": ({"windows": ()}, "A step that lasts to the end of the series, at least three views."),
} | {
    f"RUN_OF_{length}": ({"windows": WINDOWS, "run": length, "clip": 4.0}, f"A row of {length} views on one side.")
    for length in RUNS
}
CHUNK = 50_000
VIEWS_PER_YEAR = 15
TARGET = Path(__file__).resolve().parents[1] / "src/compoundwatch/monitoring_null.py"
HEAD = '''"""Quantiles of the largest monitoring statistic where nothing happens: simulated, for honest p-values.

Made by benchmarks/calibrate_monitoring.py: independent normal noise at irregular dates through ``monitoring.monitor``
with its default settings, for every number of views before (outer level) and after (middle level) the end of the
reference period; the innermost numbers are the values exceeded with the probabilities ``LEVELS``.
"""

Table = tuple[tuple[tuple[float, ...], ...], ...]
'''


def cell(n_before: int, n_after: int, pixels: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Quantiles of all statistics for one pair of counts, over many draws of dates."""
    found: list[list[np.ndarray]] = [[] for _ in SEARCHES]
    for _ in range(max(1, pixels // CHUNK)):
        before, after = (round(365 * np.clip(n / VIEWS_PER_YEAR, 1, 4)) for n in (n_before, n_after))
        days = np.r_[np.sort(rng.uniform(0, before, n_before)), np.sort(rng.uniform(before, before + after, n_after))]
        noise = rng.standard_normal((n_before + n_after, CHUNK), dtype=np.float32)
        for statistics, (search, _meaning) in zip(found, SEARCHES.values(), strict=True):
            result = monitoring.monitor(noise, days.astype(np.int64), before, min_after=3, **search)
            assert (result.n_before == n_before).all()
            statistics.append(np.abs(result.statistic))
    return [np.quantile(np.concatenate(statistics), 1 - np.array(LEVELS)) for statistics in found]


def text(name: str, cells: list[list[np.ndarray]], meaning: str) -> str:
    lines = [f"{name}: Table = ("]
    for n_before, row in zip(BEFORE, cells, strict=True):
        lines.append(f"    (  # {n_before} views before")
        lines += [f"        ({', '.join(f'{q:.3f}' for q in quantiles)})," for quantiles in row]
        lines.append("    ),")
    return "\n".join([*lines, ")", f'"""{meaning}"""', ""])


def module(rows: list[list[list[np.ndarray]]]) -> str:
    """The text of ``monitoring_null`` from ``cell`` of every count after (inner) and before (outer)."""
    axes = f"VIEWS_BEFORE = {BEFORE}\nVIEWS_AFTER = {AFTER}\nLEVELS = {LEVELS}\n"
    tables = [
        text(name, [[both[k] for both in row] for row in rows], meaning)
        for k, (name, (_search, meaning)) in enumerate(SEARCHES.items())
    ]
    runs = ", ".join(f"{length}: RUN_OF_{length}" for length in RUNS)
    return "\n".join([HEAD, axes, *tables, f'RUNS = {{{runs}}}\n"""Rows by their length in views."""\n'])


def main() -> None:
    pixels = int(sys.argv[1]) if len(sys.argv) > 1 else 600_000
    rows = []
    for n_before in BEFORE:
        rng = np.random.default_rng((20240229, n_before))
        rows.append([cell(n_before, n_after, pixels, rng) for n_after in AFTER])
        print(n_before, "views before: done", flush=True)
    TARGET.write_text(module(rows))


if __name__ == "__main__":
    main()

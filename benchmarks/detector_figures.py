"""One picture for each detector that follows a season: a pixel, its season, the process, its boundary, the date found.

    python benchmarks/detector_figures.py [harmonic_mosum|harmonic_cusum|ccdc ...]

Writes docs/images/<detector>.png. The pixel is simulated: 110 dates of three years, a third of the views missing, one
view in twenty darkened by cloud, and a fall of 0.10 that lasts (harmonic_cusum) or passes after five months.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from compoundwatch import change_search as search
from compoundwatch import detectors, monitoring, monitoring_null, regression

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
FIRST_DAY = np.datetime64("2021-01-01")
REFERENCE_END, BEGIN, END = (np.datetime64(day) for day in ("2023-01-01", "2023-05-10", "2023-10-10"))
LEVEL = 0.01
TILE = regression.TILE


def pixel(lasts: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values float32 (dates, 1) with NaN, and dates."""
    rng = np.random.default_rng(9)
    dates = FIRST_DAY + np.sort(rng.choice(3 * 365, 110, replace=False))
    days = (dates - FIRST_DAY).astype(int)
    values = 0.5 + 0.12 * np.cos(2 * np.pi * (days - 200) / 365.25) + rng.normal(0, 0.035, dates.size)
    values[(dates >= BEGIN) & (lasts | (dates < END))] -= 0.10
    values -= np.where(rng.random(dates.size) < 0.05, rng.uniform(0.1, 0.3, dates.size), 0)
    values[rng.random(dates.size) < 0.33] = np.nan
    return values.astype(np.float32)[:, None], dates


@dataclass
class Followed:
    """What the kernels make of one pixel: season on all ``days``; errors of the views after the reference end, and the
    same less what they inherit (``fresh``); views before; noise and correlation of neighbours.
    """

    days: np.ndarray
    season: np.ndarray
    errors: np.ndarray
    fresh: np.ndarray
    before: int
    sigma: float
    rho: float


def follow(values: np.ndarray, days: np.ndarray, end: int, windows: tuple[int, ...], clip: float) -> Followed:
    """As ``change_search`` does it, step by step, for the first pixel of a tile."""
    n, high = int(np.searchsorted(days, end)), len(days) + 1
    rows, seen, state = (regression.aligned(k, TILE) for k in (high, high, regression.SLOTS))
    total, fade, places = (
        regression.aligned(high - n, TILE),
        regression.aligned(high - n - 1, TILE),
        np.zeros(TILE, "u4"),
    )
    state, waves, lengths = state.reshape(-1), regression.cycles(days - end), np.array(windows, np.int32)
    state[:] = 0
    regression.load(values, 0, 1, rows, seen, state)
    regression.fit(rows, seen, waves, n, (1e-4, 1.5, monitoring.huber_efficiency(1.5), 3, clip), state)
    level, c, s = (state[slot] for slot in (regression.LEVEL, regression.COSINE, regression.SINE))
    daily = np.arange(days[0], days[-1] + 1)
    daily_waves = regression.cycles(daily - end)[:-1]
    season = state[regression.SHIFT] + level + c * daily_waves[:, 0] + s * daily_waves[:, 1]
    regression.prediction_errors(rows, seen, waves, n, state)
    search.add_up_errors(rows, seen, n, places, total, state)
    search.largest_windows(total, lengths, np.zeros((2 * max(len(windows), 1), TILE), np.float32), state)
    search.largest_step(rows, seen, n, fade, state)
    search.correlation_without_step(rows, seen, n, fade, state)
    search.correlation_without_mean(total, search.STEP_BEGIN, search.AFTER, state)
    if windows:
        search.correlation_without_mean(total, search.BEST_BEGIN, search.BEST_END, state)
    search.noise(search.BEST if windows else search.STEP, state)
    search.whiten(rows, seen, n, places, total, state)
    views = seen[n:-1, 0] > 0
    return Followed(
        daily,
        season,
        rows[n:-1, 0][views],
        total[1 : views.sum() + 1, 0],
        int(state[regression.VIEWS]),
        float(state[regression.SIGMA]),
        float(state[search.RHO]),
    )


def moving_sums(found: Followed, windows: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Standardised sums of the last h errors, for each h."""
    curves = {}
    for h in windows:
        sums = np.convolve(found.errors, np.ones(h), "full")[: found.errors.size]
        sums[: h - 1] = np.nan
        variance = search.variance_of_sum(np.float32(found.rho), np.float32(h))
        if h <= sums.size:
            curves[f"sum of {h} views"] = sums / np.sqrt(h * variance) / found.sigma
    return curves


def steps(found: Followed) -> dict[str, np.ndarray]:
    """Standardised size of a lasting step that begins with each view."""
    m = found.before + np.arange(1, found.errors.size + 1)
    weights = 1 / np.sqrt(m * (m - 1.0))
    late = np.cumsum((weights * found.errors)[::-1])[::-1]
    left = m[-1] - m + 1
    variance = [search.variance_of_sum(np.float32(found.rho), np.float32(k)) for k in left]
    size = late * np.sqrt((m - 1) * m[-1] / left) / np.sqrt(variance) / found.sigma
    return {"lasting step that begins here": np.where(left >= 3, size, np.nan)}


def draw(name: str) -> Path:
    detector = detectors.series_detector(name)
    values, dates = pixel(lasts=name == "harmonic_cusum")
    days, end = dates.astype(np.int64), int(REFERENCE_END.astype(np.int64))
    answer = detector.test(values, days, end)
    found = follow(values, days, end, detector.windows, detector.clip_sigma)
    later = dates[(dates >= REFERENCE_END) & np.isfinite(values[:, 0])]
    if detector.run:
        curves = {"prediction error, less what it inherits": found.fresh / found.sigma}
    else:
        curves = moving_sums(found, detector.windows) if detector.windows else steps(found)
        largest = max(np.nanmax(abs(curve)) for curve in curves.values())
        assert abs(largest - abs(answer.statistic[0])) < 1e-3, "the picture must show what the detector found"
    quantiles = monitoring.null_quantiles(detector.table, [found.before], [found.errors.size])[0, 0]
    boundary = quantiles[monitoring_null.LEVELS.index(LEVEL)]
    day = answer.day[0].astype("datetime64[D]")

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4.6), sharex=True, constrained_layout=True)
    top.plot(dates, values[:, 0], ".", color="0.35", label="views")
    top.plot(
        found.days.astype("datetime64[D]"),
        found.season,
        color="tab:green",
        lw=1,
        label="season of the reference period",
    )
    for axis in (top, bottom):
        axis.axvline(REFERENCE_END, color="0.6", lw=0.8, ls=":")
        axis.axvline(BEGIN, color="tab:blue", lw=1, ls="--")
        axis.axvline(day, color="tab:red", lw=1)
    for label, curve in curves.items():
        bottom.plot(later, curve, marker=".", ms=4, lw=0.9, label=label)
    if detector.run:
        rows = np.lib.stride_tricks.sliding_window_view(curve, detector.run)
        k = int(np.argmax(np.maximum(rows.min(axis=1), -rows.max(axis=1))))
        row = slice(k, k + detector.run)
        bottom.plot(later[row], curve[row], color="tab:red", lw=2, label="the row found")
    label = f"p = {LEVEL}" + (f" for the smallest of {detector.run} in a row" if detector.run else "")
    for sign in (-1, 1):
        bottom.axhline(sign * boundary, color="tab:red", lw=0.8, ls="--", label=label if sign > 0 else None)
    bottom.axhline(0, color="0.8", lw=0.6)
    top.set_ylabel("NDVI")
    bottom.set_ylabel("standard deviations")
    top.legend(loc="lower left", fontsize=7)
    bottom.legend(loc="lower left", fontsize=7)
    top.set_title(
        f"{name}: p = {answer.p_value[0]:.1g}; first view of the change {day} (red), truth {BEGIN} (blue)", fontsize=9
    )
    path = FOLDER / f"{name}.png"
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path


def main() -> None:
    for name in sys.argv[1:] or ("harmonic_mosum", "harmonic_cusum", "ccdc"):
        path = draw(name)
        print(path.name, path.stat().st_size // 1000, "kB")


if __name__ == "__main__":
    main()

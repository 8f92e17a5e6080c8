"""One picture for each detector, of simulated pixels and pairs with a known change.

    python benchmarks/detector_figures.py [detector ...] [--folder docs/images]

Writes <detector>.png. The detectors that follow a season see one pixel: 110 dates of three years, a third of the views
missing, one view in twenty darkened by cloud, and a fall of 0.10 that lasts (harmonic_cusum) or passes after five
months. omnibus and welch see radar of 4.4 looks that rises by 4 dB. The detectors of pairs see the made-up ground of
pair_sizes.py with patches that changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pair_sizes
from matplotlib.dates import AutoDateLocator
from PIL import Image
from scipy import ndimage, stats

from compoundwatch import change_search as search
from compoundwatch import detectors, monitoring, monitoring_null, regression
from compoundwatch.formulas import decibel, omnibus_factors

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
FIRST_DAY = np.datetime64("2021-01-01")
REFERENCE_END, BEGIN, END = (np.datetime64(day) for day in ("2023-01-01", "2023-05-10", "2023-10-10"))
LEVEL = 0.01
LOOKS, RISE_DB = 4.4, 4.0
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


def draw_season(name: str) -> plt.Figure:
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
    return figure


def radar_pixel() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear power float32 (dates, 1), dates every twelve days, and whether the date is one of the change."""
    rng = np.random.default_rng(3)
    dates = FIRST_DAY + 24 * 30 + 12 * np.arange(50)
    changed = dates >= BEGIN + 30
    power = 0.05 * rng.gamma(LOOKS, 1 / LOOKS, dates.size) * 10 ** (RISE_DB / 10 * changed)
    return power.astype(np.float32)[:, None], dates, changed


def draw_radar(name: str) -> plt.Figure:
    """Views in decibels with the two means; below, what is asked of each date."""
    power, dates, changed = radar_pixel()
    end = REFERENCE_END + 120
    values = power if name == "omnibus" else decibel(power)
    answer = detectors.series_detector(name).test(values, dates.astype(np.int64), int(end.astype(np.int64)))
    day = answer.day[0].astype("datetime64[D]")
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4.2), sharex=True, constrained_layout=True)
    top.plot(dates, decibel(power)[:, 0], ".", color="0.35", label="views")
    later = dates >= (end if name == "welch" else day)
    for part, colour in ((~later, "tab:green"), (later, "tab:orange")):
        mean = values[part, 0].mean()
        level = decibel(np.array([mean]))[0] if name == "omnibus" else mean
        top.plot(dates[part][[0, -1]], [level, level], color=colour, lw=1.5, label=f"mean of {part.sum()} views")
    if name == "omnibus":
        size = omnibus_factors(power, LOOKS)[0][:, 0]
        shown = dates[1:] >= end
        bottom.bar(dates[1:][shown], size[shown], width=7, color="tab:blue", label="factor of one date")
        bottom.axhline(stats.chi2.isf(LEVEL, 1), color="tab:red", lw=0.8, ls="--", label=f"p = {LEVEL} of one date")
        bottom.set_ylabel("-2 rho ln R")
    else:
        places = [k for k in range(5, dates.size - 4) if dates[k] >= end]
        between = [
            (values[k:, 0].mean() - values[:k, 0].mean()) ** 2 * k * (dates.size - k) / dates.size for k in places
        ]
        bottom.plot(dates[places], between, marker=".", ms=4, lw=0.9, label="between two means that part here")
        bottom.set_ylabel("sum of squares (dB$^2$)")
    for axis in (top, bottom):
        axis.xaxis.set_major_locator(AutoDateLocator(maxticks=8))
        axis.axvline(end, color="0.6", lw=0.8, ls=":")
        axis.axvline(dates[changed][0], color="tab:blue", lw=1, ls="--")
        axis.axvline(day, color="tab:red", lw=1)
    top.set_ylabel("backscatter (dB)")
    top.legend(loc="lower right", fontsize=7)
    bottom.legend(loc="upper right", fontsize=7)
    truth = dates[changed][0]
    top.set_title(f"{name}: p = {answer.p_value[0]:.1g}; date found {day} (red), truth {truth} (blue)", fontsize=9)
    return figure


def draw_pair(name: str) -> plt.Figure:
    """Before, after, the statistic, and what is called, with the outlines of the truth."""
    rng, shape = np.random.default_rng(5), (110, 150)
    radar = name == "log_ratio"
    before, after = (
        pair_sizes.radar(rng, shape, LOOKS, 0.0)
        if radar
        else pair_sizes.optical(rng, shape, "haze" if name == "irmad" else "noise")
    )
    truth = np.zeros(shape, dtype=int)
    truth[15:40, 20:50] = truth[70:80, 120:135] = 1
    truth[60:95, 55:85] = truth[20:26, 100:106] = -1
    after = after * ((10 ** (0.4 * truth)) if radar else 1.35**truth)
    if name == "irmad":
        after = ndimage.shift(after, (0, 0.3, -0.3), order=3, mode="nearest")
    found = detectors.pair_detector(name).compare(before.astype(np.float32), after.astype(np.float32), LEVEL)
    figure, axes = plt.subplots(2, 2, figsize=(7, 5.4), constrained_layout=True)
    pictures = [decibel(x[0]) if radar else x[:3].mean(axis=0) for x in (before, after)]
    low, high = np.percentile(np.concatenate(pictures), (2, 98))
    far = np.percentile(abs(found.statistic), 99)
    outside = np.count_nonzero(found.direction[truth == 0])
    share = np.mean(found.direction[truth != 0] == truth[truth != 0])
    for axis, image, title, options in zip(
        axes.flat,
        (*pictures, found.statistic, found.direction),
        (
            "before",
            "after",
            "statistic",
            f"called: {share:.0%} of the changed pixels, and {outside} others",
        ),
        ({"vmin": low, "vmax": high, "cmap": "gray"},) * 2
        + ({"vmin": -far, "vmax": far, "cmap": "RdBu_r"}, {"vmin": -1, "vmax": 1, "cmap": "RdBu_r"}),
        strict=True,
    ):
        axis.imshow(image, interpolation="nearest", **options)
        axis.contour(truth != 0, levels=[0.5], colors="black", linewidths=0.7)
        axis.set_title(title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


DRAWN: dict[str, Callable[[str], plt.Figure]] = {
    "harmonic_mosum": draw_season,
    "harmonic_cusum": draw_season,
    "ccdc": draw_season,
    "omnibus": draw_radar,
    "welch": draw_radar,
    "log_ratio": draw_pair,
    "irmad": draw_pair,
    "pca_kmeans": draw_pair,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="*", default=list(DRAWN), metavar="detector")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    for name in options.detectors:
        path = options.folder / f"{name}.png"
        figure = DRAWN[name](name)
        figure.savefig(path, dpi=90)
        plt.close(figure)
        Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path.name, path.stat().st_size // 1000, "kB")


if __name__ == "__main__":
    main()

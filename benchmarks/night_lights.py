"""Figure and numbers of docs/sensors/black_marble.md, from simulated nights.

    python benchmarks/night_lights.py [folder for the picture, default docs/images]

One compound and eight controls under one tropical sky, seen by two satellites for two years; 160 nights before the end
the compound loses four fifths of its light. Prints what the cycle of the angle of view adds to the noise, and the step
that is measured where the compound gives a fifth to all of the light of its cells.
"""

from __future__ import annotations

import datetime as dt
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from compoundwatch.formulas import remove_cycle
from compoundwatch.sensors.black_marble import FLOOR

FIRST = dt.date(2024, 6, 1)
NIGHTS, LEFT_ON, REFERENCE = 730, 570, 500
ANGLE_SD, NIGHT_SD, WEATHER_SD = 0.22, 0.22, 0.10
"""Standard deviations of log radiance: of the 16 angles of view of a place, of one night at one place, and of one
night at all places of a town."""
PLATFORMS = {"snpp": "#1f77b4", "noaa20": "#d95f02"}


def clear_nights(days: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nights with a view: seven in ten in the dry season, one in six at the height of the rains, in runs of days."""
    share = 0.43 + 0.27 * np.cos(2 * np.pi * ((days % 365.25) - 20) / 365.25)
    state = np.convolve(rng.normal(size=len(days) + 4), np.ones(5) / 5**0.5, mode="valid")
    return state < np.quantile(state, share)


def place(days: np.ndarray, weather: np.ndarray, light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The feature of one place through one satellite; ``light`` is what its cells give off, nW cm-2 sr-1."""
    angles = rng.normal(0, ANGLE_SD, 16)
    radiance = light * np.exp(angles[days % 16] + weather + rng.normal(0, NIGHT_SD, len(days)))
    return np.log(radiance + FLOOR)


def world(share: float, fall: float, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Days, and for each satellite the series of compound (first) and controls, NaN = no view."""
    start = (FIRST - dt.date(1970, 1, 1)).days
    days = np.arange(start, start + NIGHTS)
    clear = clear_nights(days, rng)
    seen = {}
    for platform in PLATFORMS:
        weather = rng.normal(0, WEATHER_SD, NIGHTS)
        left = np.arange(NIGHTS) >= LEFT_ON
        lights = [18 * (1 - share * fall * left)] + [np.full(NIGHTS, level) for level in np.geomspace(4, 40, 8)]
        rows = np.stack([place(days, weather, light, rng) for light in lights])
        rows[:, ~clear | (rng.random(NIGHTS) < 0.1)] = np.nan
        seen[platform] = rows
    return days, seen


def cleaned(days: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.stack([remove_cycle(days, row, days[REFERENCE]) for row in rows])


def difference(rows: np.ndarray) -> np.ndarray:
    """Compound minus the median of its controls."""
    with np.errstate(all="ignore"):
        return rows[0] - np.median(rows[1:], axis=0)


def draw(path: Path) -> None:
    rng = np.random.default_rng(11)
    days, seen = world(0.6, 0.8, rng)
    dates = days.astype("datetime64[D]")
    figure, axes = plt.subplots(2, 1, figsize=(9.6, 4.6), sharex=True, height_ratios=(1, 1))
    for platform, colour in PLATFORMS.items():
        rows = seen[platform]
        axes[0].plot(dates, rows[0], "o", color=colour, markersize=2.5, alpha=0.8, label=platform)
        axes[1].plot(dates, difference(cleaned(days, rows)), "o", color=colour, markersize=2.5, alpha=0.8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nights without a view
        both = np.nanmean([difference(cleaned(days, rows)) for rows in seen.values()], axis=0)
        running = np.array([np.nanmedian(both[max(0, k - 10) : k + 11]) for k in range(NIGHTS)])
    axes[1].plot(dates, running, color="black", linewidth=1.4, label="median of 21 nights")
    axes[0].set_ylabel("lights of the site\nln(nW cm$^{-2}$ sr$^{-1}$)")
    axes[1].set_ylabel("site minus controls,\ncycle removed")
    for axis in axes:
        axis.axvline(dates[LEFT_ON], color="grey", linewidth=1)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(loc="lower left", fontsize=8, ncols=2, frameon=False)
    axes[0].annotate(
        "four fifths of the\nsite's lamps out", (dates[LEFT_ON + 6], axes[0].get_ylim()[1]), va="top", fontsize=8
    )
    axes[0].set_ylim(*axes[0].get_ylim())
    figure.align_ylabels()
    figure.savefig(path, dpi=100, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    Image.open(path).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def numbers() -> None:
    rng = np.random.default_rng(12)
    spread: dict[str, list[float]] = {"as measured": [], "cycle removed": [], "and minus controls": []}
    steps = {share: [] for share in (0.2, 0.4, 0.6, 0.8, 1.0)}
    for _ in range(60):
        days, seen = world(0.6, 0.0, rng)
        for rows in seen.values():
            kept = slice(REFERENCE, None)
            clean = cleaned(days, rows)
            spread["as measured"].append(np.nanstd(rows[0, kept]))
            spread["cycle removed"].append(np.nanstd(clean[0, kept]))
            spread["and minus controls"].append(np.nanstd(difference(clean)[kept]))
    for name, values in spread.items():
        print(f"standard deviation of one night, {name}: {np.mean(values):.2f}")
    for share in steps:
        for _ in range(40):
            days, seen = world(share, 0.8, rng)
            both = [difference(cleaned(days, rows)) for rows in seen.values()]
            steps[share].append(np.nanmean([np.nanmean(d[LEFT_ON:]) - np.nanmean(d[:LEFT_ON]) for d in both]))
        print(f"share {share:.1f} of the light, four fifths of it out: step {np.mean(steps[share]):+.2f}")


if __name__ == "__main__":
    root = Path(__file__).resolve().parents[1]
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "docs" / "images"
    draw(folder / "sensor_black_marble.png")
    numbers()

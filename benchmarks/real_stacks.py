"""Detectors on real series: how many pixels are called where nothing is known to have happened?

    python benchmarks/real_stacks.py [folder that holds data/] [picture to draw: docs/images/sensor_sentinel1.png]

Three places of the folder of real imagery; a part whose files are absent says so and is left out.

- data/series/distmetrics-opera-s1: ten dates of OPERA RTC-S1 (30 m, one orbit, January to May 2024) over the
  highlands of Papua New Guinea. VH as it is, and VV and VH smoothed by total variation. No change is known; some ground
  may have changed all the same, so that the shares are upper bounds of the false alarms.
- data/series/gfmap-cdse: ten dates of Sentinel-1 (10 m, four orbits) and twelve of Sentinel-2 in April 2023, Belgium.
  Fields in spring change: a share called is no false alarm here.
- data/series/nrt-romania-s2: 140 dates of Sentinel-2, ground whose five summer medians lie within 0.08 NDVI.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
import romania_pixels
import xarray as xr
from scipy import stats

from compoundwatch import detectors
from compoundwatch.detectors.omnibus import Omnibus
from compoundwatch.formulas import decibel, estimate_looks, linear_power, stouffer
from compoundwatch.model import PixelChange
from compoundwatch.sensors import sentinel2

DEFAULT_SHARED = Path(__file__).resolve().parents[2] / "shared"
OPERA = "data/series/distmetrics-opera-s1/tests/test_data"
BELGIUM = "data/series/gfmap-cdse/tests/tests_unit/results"
LEVELS = (0.05, 0.01)
REPEAT_DAYS = 12
GRD_LOOKS = 4.4
CROP = (slice(75, 175), slice(100, 250))


def main() -> None:
    shared = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("COMPOUNDWATCH_SHARED", DEFAULT_SHARED))
    for needed, part in ((OPERA, opera), (BELGIUM, belgium), (romania_pixels.CUBE, romania)):
        if (shared / needed).exists():
            part(shared / needed)
        else:
            print(f"left out: {needed} not found in {shared}; give the folder that holds data/")
    if len(sys.argv) > 2 and (shared / OPERA).exists():
        draw(shared / OPERA, Path(sys.argv[2]))


# ------------------------------------------------------------------------------------------------ Papua New Guinea


def opera(folder: Path) -> None:
    power, days = _opera(folder / "T009_019294_IW2_cropped", "VH")
    whole = np.isfinite(power).all(axis=0)
    pixels, end = power[:, whole], int(days[5])
    print(f"OPERA RTC-S1, VH, {len(days)} dates, {whole.sum()} pixels seen on all; five dates before and five after")
    _speckle(pixels, power)
    looks = estimate_looks(pixels)
    for number in (GRD_LOOKS, looks):
        _share(f"omnibus, {number:.1f} looks", Omnibus(number).test(pixels, days, end))
    for name in ("welch", "harmonic_mosum", "harmonic_cusum", "ccdc"):
        _share(name, detectors.series_detector(name).test(decibel(pixels), days, end))
    _pairs(power, days)
    smooth = [_opera(folder / "T009_019294_IW2_cropped_tv", name)[0].reshape(len(days), -1) for name in ("VV", "VH")]
    print("the same, VV and VH, smoothed by total variation, 15000 pixels")
    for name, values in zip(("VV", "VH"), smooth, strict=True):
        _share(f"welch {name}", detectors.series_detector("welch").test(decibel(values), days, end))
    z = [detectors.series_detector("welch").test(decibel(v), days, end).statistic for v in smooth]
    noise = [decibel(v) - decibel(v).mean(axis=0) for v in smooth]
    for name, part in (("VV", noise[0]), ("VH", noise[1]), ("VH - VV", noise[1] - noise[0])):
        whole = part.mean(axis=1, keepdims=True)
        print(
            f"   {name}: all move by {whole.std(ddof=1):.2f} dB, a pixel among them by {_spread(part - whole):.2f} dB"
        )
    alone = [n - n.mean(axis=1, keepdims=True) for n in noise]
    whole, pixel = (float(np.corrcoef(*(n.ravel() for n in part))[0, 1]) for part in (noise, alone))
    print(f"   correlation of VV and VH over time: {whole:.2f}; without what the whole picture does: {pixel:.2f}")
    for r in (0.0, whole):
        _rates(f"welch VV and VH, correlation {r:.2f}", 2 * stats.norm.sf(np.abs(stouffer(z, correlation=r))))


def _spread(values: np.ndarray) -> float:
    """Mean over pixels of the standard deviation over dates."""
    return float(values.std(axis=0, ddof=1).mean())


def _opera(folder: Path, polarisation: str) -> tuple[np.ndarray, np.ndarray]:
    """Linear power float32 (dates, rows, cols) and days since 1970."""
    images, days = [], []
    for path in sorted(folder.glob(f"*_{polarisation}_*.tif")):
        with rasterio.open(path) as file:
            images.append(file.read(1))
        stamp = re.search(r"_(\d{4})(\d\d)(\d\d)T\d{6}Z_\d{8}T", path.name)
        days.append(np.datetime64("-".join(stamp.groups())).astype("datetime64[D]").astype(np.int64))
    return np.stack(images), np.array(days)


def _speckle(pixels: np.ndarray, images: np.ndarray) -> None:
    """Looks from views of the same pixel, and from the evenest neighbourhoods of single images."""
    by_time = ", ".join(f"{estimate_looks(pixels, q):.1f} at quantile {q}" for q in (0.5, 0.9, 0.99))
    even = []
    for image in images:
        windows = np.lib.stride_tricks.sliding_window_view(image, (7, 7))[::7, ::7].reshape(-1, 49).astype(np.float64)
        windows = windows[np.isfinite(windows).all(axis=1)]
        even.append(windows.mean(axis=1) ** 2 / windows.var(axis=1, ddof=1))
    quartiles = np.percentile(np.concatenate(even), (50, 75, 95))
    print(f"   looks from successive views: {by_time}")
    print(f"   mean^2 / variance of 7 x 7 pixels: median {quartiles[0]:.1f}, upper quartile {quartiles[1]:.1f}")
    logs = np.log(pixels) - np.log(pixels).mean(axis=1, keepdims=True)
    found = np.percentile(logs.var(axis=0, ddof=1), (50, 95, 99))
    looks = estimate_looks(pixels)
    pure = np.log(np.random.default_rng(1).gamma(looks, 1 / looks, pixels.shape)).var(axis=0, ddof=1)
    wanted = np.percentile(pure, (50, 95, 99))
    beyond = np.mean(logs.var(axis=0, ddof=1) > wanted[-1])
    pairs = ", ".join(f"{f:.3f} ({w:.3f})" for f, w in zip(found, wanted, strict=True))
    print(f"   variance of ln power over time, 50, 95 and 99 % of pixels, and of speckle of {looks:.1f} looks: {pairs}")
    print(f"   pixels beyond what 1 % of such speckle reaches: {beyond:.3f}")


def _pairs(images: np.ndarray, days: np.ndarray) -> None:
    """Neighbouring dates, and the first against the last."""
    detector = detectors.pair_detector("log_ratio")
    for name, pairs in (("neighbouring dates", [(k, k + 1) for k in range(len(days) - 1)]), ("first, last", [(0, -1)])):
        found = [detector.compare(images[a][None], images[b][None], 0.01) for a, b in pairs]
        p = np.concatenate([f.p_value[np.isfinite(f.p_value)] for f in found])
        called = np.mean(np.concatenate([f.direction[np.isfinite(f.p_value)] for f in found]) != 0)
        _rates(f"log_ratio, {name}", p, f"; called at 0.01: {called:.4f}")


def draw(folder: Path, picture: Path) -> None:
    """The figure of docs/sensors/sentinel1.md: one view, the mean of ten, and how much pixels move between views."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle
    from PIL import Image

    power, _ = _opera(folder / "T009_019294_IW2_cropped", "VH")
    seen = power[:, *CROP]
    pixels = power[:, np.isfinite(power).all(axis=0)]
    fig, axes = plt.subplots(1, 3, figsize=(10.4, 2.55), width_ratios=(1, 1, 0.9), layout="constrained")
    for ax, image, title in zip(axes, (seen[0], seen.mean(axis=0)), ("one view", "mean of ten views"), strict=False):
        shown = ax.imshow(decibel(image), cmap="gray", vmin=-18, vmax=-8, interpolation="nearest")
        ax.add_patch(Rectangle((4, 4), 200 / 30, 200 / 30, fill=False, edgecolor="yellow", linewidth=1.2))
        ax.set_title(title, fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
    fig.colorbar(shown, ax=axes[:2], label="VH, dB", shrink=0.95, pad=0.01)
    looks = estimate_looks(pixels)
    pure = np.random.default_rng(1).gamma(looks, 1 / looks, pixels.shape)
    bins = np.linspace(0, 4.5, 60)
    for values, name, style in ((pixels, "found", {"color": "0.7"}), (pure, f"speckle of {looks:.1f} looks", {})):
        spread = decibel(values).std(axis=0, ddof=1)
        kind = {"histtype": "step", "color": "black"} if style == {} else {}
        axes[2].hist(spread, bins, density=True, label=name, **style, **kind)
    axes[2].set_xlabel("spread of a pixel over ten views, dB", fontsize=8)
    axes[2].set_yticks([])
    axes[2].tick_params(labelsize=8)
    axes[2].legend(fontsize=8, frameon=False)
    for side in ("top", "right", "left"):
        axes[2].spines[side].set_visible(False)
    fig.savefig(picture, dpi=96)
    Image.open(picture).convert("RGB").quantize(48).save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size} bytes")


# --------------------------------------------------------------------------------------------------------- Belgium


def belgium(folder: Path) -> None:
    with xr.open_dataset(folder / "cdse_sentinel1_grd.nc") as cube:
        days = cube["t"].values.astype("datetime64[D]").astype(np.int64)
        bands = {n: linear_power(20 * np.log10(cube[f"S1-SIGMA0-{n}"].values) - 83.0) for n in ("VV", "VH")}
    with xr.open_dataset(folder / "cdse_sentinel2_l2a.nc") as cube:
        clear = [float(sentinel2.valid({"scl": c}).mean()) for c in cube["S2-L2A-SCL"].values]
    print(f"Belgium: {len(clear)} optical dates, clear share {', '.join(f'{c:.2f}' for c in clear)}")
    for name, power in bands.items():
        steps = list(_same_orbit(decibel(power), days))
        moved = np.array([np.mean(s) for s in steps])
        print(
            f"   {name}: {len(steps)} pairs of one orbit 12 days apart, looks {_looks_of_pairs(power, days):.1f}, "
            f"mean moves by {moved.min():+.1f} to {moved.max():+.1f} dB"
        )
    ratio = [
        np.mean(b) - np.mean(a) for a, b in zip(*(_same_orbit(decibel(p), days) for p in bands.values()), strict=True)
    ]
    print(f"   VH - VV: mean moves by {min(ratio):+.1f} to {max(ratio):+.1f} dB")
    detector = detectors.pair_detector("log_ratio")
    found = [
        detector.compare(*(np.stack([b[k] for b in bands.values()]) for k in pair), 0.01) for pair in _orbit_pairs(days)
    ]
    called = np.mean([f.direction != 0 for f in found])
    _rates(
        "log_ratio, VV and VH", np.concatenate([f.p_value.ravel() for f in found]), f"; called at 0.01: {called:.4f}"
    )


def _orbit_pairs(days: np.ndarray) -> Iterator[tuple[int, int]]:
    for a in range(len(days)):
        yield from ((a, b) for b in range(len(days)) if days[b] - days[a] == REPEAT_DAYS)


def _same_orbit(values: np.ndarray, days: np.ndarray) -> Iterator[np.ndarray]:
    yield from (values[b] - values[a] for a, b in _orbit_pairs(days))


def _looks_of_pairs(power: np.ndarray, days: np.ndarray) -> float:
    return float(np.median([estimate_looks(power[list(pair)]) for pair in _orbit_pairs(days)]))


# --------------------------------------------------------------------------------------------------------- Romania


def romania(path: Path) -> None:
    values, _, days, dates = romania_pixels.load(path)
    stable = np.ptp(romania_pixels.medians(values, dates, romania_pixels.SUMMER), axis=0) < 0.08
    end = int(np.datetime64(romania_pixels.REFERENCE_END).astype(np.int64))
    print(f"Romania, NDVI, {len(days)} dates, {stable.sum()} stable pixels, from {romania_pixels.REFERENCE_END} on")
    for name in ("harmonic_mosum", "harmonic_cusum", "ccdc", "welch"):
        _share(name, detectors.series_detector(name).test(values[:, stable], days, end))


# ---------------------------------------------------------------------------------------------------------- tables


def _share(name: str, found: PixelChange) -> None:
    if not np.isfinite(found.p_value).any():
        print(f"   {name:34s} not tested: too few views")
        return
    _rates(name, found.p_value)


def _rates(name: str, p: np.ndarray, more: str = "") -> None:
    p = p[np.isfinite(p)]
    shares = ", ".join(f"p < {level} in {np.mean(p < level):.4f}" for level in LEVELS)
    print(f"   {name:34s} {shares} of {p.size}{more}")


if __name__ == "__main__":
    main()

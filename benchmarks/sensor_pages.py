"""Figures and numbers of docs/sensors/landsat.md and docs/sensors/sentinel2.md, from real imagery.

    python benchmarks/sensor_pages.py [folder that holds data/] [folder for the pictures, default docs/images]

Draws sensor_sentinel2.png (Romania, data/series/nrt-romania-s2) and sensor_landsat.png (Taizhou,
data/labelled/landsat_taizhou), and prints what the mask leaves of the Romanian series and how much the angle of view
changes reflectance between neighbouring Landsat paths and Sentinel-2 orbits. Without the imagery it prints the latter.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import rasterio
import xarray as xr
from matplotlib.patches import Rectangle
from PIL import Image

from compoundwatch.formulas import normalised_difference
from compoundwatch.sensors import sentinel2

ROOT = Path(__file__).resolve().parents[1]
ROMANIA = "data/series/nrt-romania-s2/sentinel2_cube_subset_romania_10m.nc"
TAIZHOU = "data/labelled/landsat_taizhou"
PARTLY_CLOUDY = "2018-07-26"
FELLED, STABLE = (slice(69, 75), slice(45, 51)), (slice(30, 36), slice(84, 90))
CROP = (slice(40, 160), slice(60, 180))

KERNEL_WEIGHTS = {
    # Isotropic, geometric, volumetric: Roy et al. 2016, doi:10.1016/j.rse.2016.01.023, table 5.
    "green": (0.1306, 0.0178, 0.0580),
    "red": (0.1690, 0.0227, 0.0574),
    "nir": (0.3093, 0.0330, 0.1535),
    "swir16": (0.3430, 0.0453, 0.1154),
}


def reflectances(sun_zenith: float, view_zenith: float, azimuth: float) -> dict[str, float]:
    """Reflectance of average land by the RossThick-LiSparse-R model (Schaaf et al. 2002); angles in degrees."""
    s, v, phi = np.deg2rad([sun_zenith, view_zenith, azimuth])
    cos_phase = np.cos(s) * np.cos(v) + np.sin(s) * np.sin(v) * np.cos(phi)
    phase = np.arccos(cos_phase)
    volume = ((np.pi / 2 - phase) * cos_phase + np.sin(phase)) / (np.cos(s) + np.cos(v)) - np.pi / 4
    secants = 1 / np.cos(s) + 1 / np.cos(v)
    tan = np.tan(s) * np.tan(v)
    distance2 = np.tan(s) ** 2 + np.tan(v) ** 2 - 2 * tan * np.cos(phi)
    t = np.arccos(np.clip(2 * np.sqrt(distance2 + (tan * np.sin(phi)) ** 2) / secants, -1, 1))
    overlap = (t - np.sin(t) * np.cos(t)) * secants / np.pi
    geometry = overlap - secants + (1 + cos_phase) / (2 * np.cos(s) * np.cos(v))
    return {band: iso + geo * geometry + vol * volume for band, (iso, geo, vol) in KERNEL_WEIGHTS.items()}


def print_view_angles() -> None:
    """What the edges of two swaths, one seen from the east and one from the west, differ by at 12 degrees north."""
    print("seen from the east against from the west, 12 degrees north, 10:15 local time")
    print("swath edge     month    brightness      ndvi      ndbi")
    suns = {"January": (42, 140), "April": (27, 90), "July": (30, 60), "October": (32, 120)}
    for name, edge in (("Landsat, 7.0", 7.0), ("Sentinel-2, 10", 10.0)):
        for month, (zenith, azimuth) in suns.items():
            east, west = (reflectances(zenith, edge, toward - azimuth) for toward in (102, 282))
            bright = [(b["green"] + b["red"]) / 2 for b in (east, west)]
            ndvi = [(b["nir"] - b["red"]) / (b["nir"] + b["red"]) for b in (east, west)]
            ndbi = [(b["swir16"] - b["nir"]) / (b["swir16"] + b["nir"]) for b in (east, west)]
            print(
                f"{name:14} {month:8} {100 * (bright[0] / bright[1] - 1):9.1f} % "
                f"{ndvi[0] - ndvi[1]:9.4f} {ndbi[0] - ndbi[1]:9.4f}"
            )


def save(figure: plt.Figure, path: Path) -> None:
    """As a PNG of 255 colours: small enough for a repository."""
    figure.savefig(path, dpi=100, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    Image.open(path).convert("RGB").quantize(255, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def stretched(bands: list[np.ndarray], white: float) -> np.ndarray:
    return np.clip(np.nan_to_num(np.stack(bands, axis=-1)) / white, 0, 1) ** (1 / 1.4)


def draw_sentinel2(path: Path, out: Path) -> None:
    with xr.open_dataset(path) as cube:
        blue, green, red, nir, scl = (cube[b].values for b in ("B2", "B3", "B4", "B8", "SCL"))
        dates = cube["time"].values.astype("datetime64[D]")
    valid = sentinel2.valid({"scl": scl})
    plain = np.isin(scl, sentinel2.CLEAR_CODES)
    shares = valid.mean(axis=(1, 2))
    print(f"Romania, {len(dates)} dates: {100 * valid.mean():.0f} % of all pixels valid")
    print(f"without the rim {100 * plain.mean():.0f} %")
    print(f"{(shares >= 0.4).sum()} dates 40 % valid or more, {(shares == 0).sum()} wholly lost")
    ndvi = normalised_difference(nir, red)
    day = int(np.argmin(np.abs(dates - np.datetime64(PARTLY_CLOUDY))))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.5), width_ratios=(1, 1.75))
    picture = stretched([red[day] * 1e-4, green[day] * 1e-4, blue[day] * 1e-4], 0.25)
    left.imshow(picture, interpolation="nearest")
    left.contourf(np.where(valid[day], np.nan, 1.0), levels=[0.5, 1.5], colors="none", hatches=["////"])
    left.set_title(f"{dates[day]}, hatched: not valid", fontsize=9)
    left.set_xticks([])
    left.set_yticks([])
    for (rows, cols), colour, label in ((FELLED, "#d95f02", "felled"), (STABLE, "#1b9e77", "stable")):
        corner = (cols.start - 0.5, rows.start - 0.5)
        size = (cols.stop - cols.start, rows.stop - rows.start)
        left.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=2))
        kept = valid[:, rows, cols].mean(axis=(1, 2)) >= 0.4
        series = np.array([np.median(ndvi[k, rows, cols]) for k in range(len(dates))])
        right.plot(dates[~kept], series[~kept], "x", color=colour, alpha=0.35, markersize=4)
        right.plot(dates[kept], series[kept], "o", color=colour, markersize=4, label=label)
    right.plot([], [], "x", color="grey", label="masked")
    right.set_ylabel("NDVI, median of 60 m x 60 m")
    right.set_ylim(-0.15, 1)
    right.legend(loc="lower left", fontsize=8, ncols=3)
    right.spines[["top", "right"]].set_visible(False)
    save(figure, out / "sensor_sentinel2.png")


def draw_landsat(folder: Path, out: Path) -> None:
    pictures, indices = [], []
    for name in ("t1.tif", "t2.tif"):
        with rasterio.open(folder / name) as file:
            blue, green, red, nir = (file.read(k).astype(np.float32)[CROP] for k in (1, 2, 3, 4))
        pictures.append(np.stack([red, green, blue], axis=-1))
        indices.append(normalised_difference(nir, red))
    change = indices[1] - indices[0]
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.6))
    for axis, picture, year in zip(axes, pictures, (2000, 2003), strict=False):
        low, high = (np.percentile(picture, q, axis=(0, 1)) for q in (1, 99))
        axis.imshow(np.clip((picture - low) / (high - low), 0, 1), interpolation="nearest")
        axis.set_title(f"{year}", fontsize=9)
    shown = axes[2].imshow(change - np.median(change), cmap="BrBG", vmin=-0.4, vmax=0.4, interpolation="nearest")
    axes[2].set_title("change of (nir - red) / (nir + red)", fontsize=9)
    figure.colorbar(shown, ax=axes[2], fraction=0.046)
    for axis in axes:
        axis.add_patch(Rectangle((8, 8), 200 / 30, 200 / 30, fill=False, edgecolor="red", linewidth=1.5))
        axis.text(8 + 200 / 30 + 2, 14, "200 m", fontsize=8, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
        axis.set_xticks([])
        axis.set_yticks([])
    save(figure, out / "sensor_landsat.png")


def main() -> None:
    print_view_angles()
    default = os.environ.get("COMPOUNDWATCH_SHARED", ROOT.parent / "shared")
    shared = Path(sys.argv[1] if len(sys.argv) > 1 else default)
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "images"
    if not (shared / ROMANIA).is_file():
        print(f"no imagery in {shared}; nothing drawn")
        return
    draw_sentinel2(shared / ROMANIA, out)
    draw_landsat(shared / TAIZHOU, out)


if __name__ == "__main__":
    main()

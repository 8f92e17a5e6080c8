"""What changed between two images of one place: GeoTIFFs of any sensor that lie on the same pixels.

Needs nothing: without arguments it makes two images up, the second with a new roof of 20 x 30 pixels in it. Prints
which test was taken and why, and the shares of pixels that became brighter, became darker, or could not be tested. The
folder ``two-dates`` then holds GeoTIFFs for QGIS.

    python examples/two_dates.py [BEFORE AFTER] [--out two-dates]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

import compoundwatch as cw


def make_up(folder: Path) -> list[Path]:
    """Two noisy images of open ground, four bands each; the second shows a new roof."""
    rng = np.random.default_rng(3)
    ground = rng.normal(1000, 200, (4, 60, 80))
    later = ground.copy()
    later[:, 10:30, 10:40] += 600
    profile = {"driver": "GTiff", "width": 80, "height": 60, "count": 4, "dtype": "uint16"}
    profile |= {"crs": "EPSG:32648", "transform": Affine(10, 0, 300_000, 0, -10, 1_200_000)}
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "before.tif", folder / "after.tif"]
    for path, image in zip(paths, (ground, later), strict=True):
        with rasterio.open(path, "w", **profile) as file:
            file.write(np.clip(image + rng.normal(0, 20, image.shape), 1, None).astype(np.uint16))
    return paths


def main() -> None:
    """Compare, and print how much of what could be tested changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, nargs="*", metavar="BEFORE AFTER")
    parser.add_argument("--out", type=Path, default=Path("two-dates"))
    given = parser.parse_args()
    before, after = given.images or make_up(given.out)
    result = cw.compare(before, after, out=given.out / "result")
    tested = np.isfinite(result.change.p_value)
    direction = result.change.direction[tested]
    print(f"detector {result.detector}: {result.why}")
    print(f"more {(direction > 0).mean():.1%}, less {(direction < 0).mean():.1%}, not tested {(~tested).mean():.1%}")
    print(f"open {given.out}/result/direction.tif in QGIS")


if __name__ == "__main__":
    main()

"""The examples run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_two_dates(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ground = rng.normal(1000, 200, (4, 60, 80))
    place = {"crs": "EPSG:32648", "transform": Affine(10, 0, 300_000, 0, -10, 1_200_000)}
    for name in ("before", "after"):
        image = ground + rng.normal(0, 20, ground.shape)
        if name == "after":
            image[:, 10:30, 10:40] += 600
        size = {"width": 80, "height": 60, "count": 4, "dtype": "uint16"}
        with rasterio.open(tmp_path / f"{name}.tif", "w", driver="GTiff", **size, **place) as file:
            file.write(np.clip(image, 1, None).astype(np.uint16))
    command = [sys.executable, str(EXAMPLES / "two_dates.py"), "before.tif", "after.tif", "result"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    more = re.search(r"more ([\d.]+)%, less ([\d.]+)%", found.stdout)
    assert more
    assert abs(float(more[1]) - 100 * 600 / 4800) < 2
    assert float(more[2]) < 2
    with rasterio.open(tmp_path / "result" / "direction.tif") as file:
        assert (file.read(1)[12:28, 12:38] == 1).mean() > 0.95

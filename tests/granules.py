"""Granules as the archive makes them, written for tests: Collection 2, full size, one window of values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

FOLDER = "HDFEOS/GRIDS/VIIRS_Grid_DNB_2d/Data Fields"
CELLS, SIZE = 2400, 10 / 2400
CLEAR = 0b11_0010  # at night, over land, cloud mask of high quality, confident clear
LAYERS: Mapping[str, tuple[Any, float]] = {
    "DNB_BRDF-Corrected_NTL": (np.float32, -999.9),
    "Mandatory_Quality_Flag": (np.uint8, 255),
    "QF_Cloud_Mask": (np.uint16, 65535),
    "Snow_Flag": (np.uint8, 255),
}
H, V = 28, 7
"""The tile from 100 to 110 degrees east and 10 to 20 north."""
BASE = dt.date(2025, 5, 3)


def name(
    day: dt.date = BASE,
    product: str = "VNP46A2",
    tile: tuple[int, int] = (H, V),
    collection: str = "002",
    produced: str = "2025130123456",
) -> str:
    return f"{product}.A{day:%Y%j}.h{tile[0]:02d}v{tile[1]:02d}.{collection}.{produced}.h5"


def write(
    path: Path,
    radiance: np.ndarray | float,
    row: int = 0,
    col: int = 0,
    *,
    shape: tuple[int, int] = (12, 14),
    codes: Mapping[str, np.ndarray | int] | None = None,
    tile: tuple[int, int] | None = None,
) -> Path:
    """A granule with values from (row, col) on, elsewhere missing; ``codes`` as in LAYERS, clear where not given."""
    h, v = tile or (int(path.name.split(".")[2][1:3]), int(path.name.split(".")[2][4:6]))
    values: dict[str, np.ndarray | float] = {
        "DNB_BRDF-Corrected_NTL": radiance,
        "Mandatory_Quality_Flag": 0,
        "QF_Cloud_Mask": CLEAR,
        "Snow_Flag": 0,
    } | dict(codes or {})
    shape = radiance.shape if isinstance(radiance, np.ndarray) else shape
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group(FOLDER)
        for layer, (kind, missing) in LAYERS.items():
            made = group.create_dataset(
                layer, (CELLS, CELLS), kind, chunks=(240, 240), compression="gzip", fillvalue=missing
            )
            made.attrs["_FillValue"] = np.array([missing], dtype=kind)
            made[row : row + shape[0], col : col + shape[1]] = values[layer]
        group["lat"] = 90 - 10 * v - SIZE * (np.arange(CELLS) + 0.5)
        group["lon"] = -180 + 10 * h + SIZE * (np.arange(CELLS) + 0.5)
    return path

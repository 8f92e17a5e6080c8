"""Map tiles of change maps, in the colours of the map legend, and of pictures as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from rio_tiler.errors import TileOutsideBounds
from rio_tiler.io import Reader
from rio_tiler.models import ImageData

from compoundwatch.outputs.legend import DIRECTION_COLOURS

DEEPEST = 22
TILE = 256
Kind = Literal["change", "picture"]


def kind(path: str, entry: Mapping[str, Any]) -> Kind | None:
    """How a file of the result is drawn as tiles, None if it is not."""
    if path.endswith(".tif") and path.startswith("rasters/") and entry.get("layer") == "direction":
        return "change"
    return "picture" if path.endswith(".tif") and path.startswith("pictures/") else None


def layers(entries: Mapping[str, Mapping[str, Any]], attributions: Mapping[str, str]) -> list[dict[str, Any]]:
    """All layers that have tiles: their name, site, sensor, feature or time, and whose imagery it is.

    ``attributions`` holds what must stand beside imagery, by sensor.
    """
    found = []
    for path, entry in entries.items():
        drawn = kind(path, entry)
        if drawn:
            said = {name: entry.get(name) for name in ("site_id", "sensor", "feature", "acquired", "when")}
            credit = attributions.get(str(entry.get("sensor")), "")
            found.append({"name": path.removesuffix(".tif"), "kind": drawn, **said, "attribution": credit})
    return found


def png(path: Path, drawn: Kind | None, x: int, y: int, z: int) -> bytes:
    """One tile (256 x 256) of the web's common grid; what was not seen or not tested is transparent."""
    # Only this driver: a file that says it is a TIFF must not lead to others.
    with rasterio.open(path, driver="GTiff") as source, Reader(None, dataset=source) as reader:
        try:
            image = reader.tile(x, y, z, tilesize=TILE, resampling_method="nearest", reproject_method="nearest")
        except TileOutsideBounds:
            image = ImageData(np.ma.MaskedArray(np.zeros((1, TILE, TILE), np.uint8), mask=True))
            drawn = "picture"
    if drawn == "change":
        colours = {value: (*_rgb(colour), 255) for value, colour in DIRECTION_COLOURS.items()}
        return bytes(_coloured(image, colours).render(img_format="PNG"))
    return bytes(image.render(img_format="PNG"))


def _coloured(image: ImageData, colours: Mapping[int, tuple[int, int, int, int]]) -> ImageData:
    values = image.array[0]
    painted = np.zeros((3, *values.shape), np.uint8)
    seen = np.zeros(values.shape, bool)
    for value, colour in colours.items():
        where = np.ma.filled(values == value, False)
        painted[:, where] = np.array(colour[:3], np.uint8)[:, None]
        seen |= where
    return ImageData(np.ma.MaskedArray(painted, np.broadcast_to(~seen, painted.shape)))


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.lstrip("#"))
    return red, green, blue

"""Reading pixels: scenes to a stack of features on one grid, aligned with one another, and pictures for people."""

from compoundwatch.stack.chips import Chips, Lacking, SiteChips
from compoundwatch.stack.files import is_remote
from compoundwatch.stack.load import Day, by_day, load, picture
from compoundwatch.stack.memory import (
    Memory,
    from_arrays,
    pictures_in,
    recalled,
    recalled_picture,
    to_arrays,
)
from compoundwatch.stack.pair import Image, check_pair, polygon_mask, read_image
from compoundwatch.stack.survey import survey

__all__ = [
    "Chips",
    "Day",
    "Image",
    "Lacking",
    "Memory",
    "SiteChips",
    "by_day",
    "check_pair",
    "from_arrays",
    "is_remote",
    "load",
    "picture",
    "pictures_in",
    "polygon_mask",
    "read_image",
    "recalled",
    "recalled_picture",
    "survey",
    "to_arrays",
]

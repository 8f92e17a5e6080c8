"""Reading pixels: scenes to a stack of features on one grid, aligned with one another, and pictures for people."""

from compoundwatch.stack.load import Day, by_day, load, picture
from compoundwatch.stack.pair import Image, check_pair, polygon_mask, read_image
from compoundwatch.stack.survey import survey

__all__ = ["Day", "Image", "by_day", "check_pair", "load", "picture", "polygon_mask", "read_image", "survey"]

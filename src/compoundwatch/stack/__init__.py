"""Reading pixels: scenes to a stack of features on one grid, and pictures for people."""

from compoundwatch.stack.load import Day, by_day, load, picture

__all__ = ["Day", "by_day", "load", "picture"]

"""Colours of states and directions and words of directions, defined once for map styles and report alike.

The colours are those of Okabe and Ito (2008, https://jfly.uni-koeln.de/color/) and a light grey, which readers with any
common form of colour blindness can tell apart. (Their purple is left out: beside grey it is lost on some readers.) They
fill areas and swatches; text is never drawn in them.
"""

from __future__ import annotations

from collections.abc import Mapping

from compoundwatch.ladder import STATE_WORDS, words
from compoundwatch.model import State

__all__ = [
    "DIRECTION_COLOURS",
    "DIRECTION_NAMES",
    "STATE_COLOURS",
    "STATE_WORDS",
    "direction_text",
    "feature_label",
    "words",
]

ORANGE, GREEN, YELLOW = "#E69F00", "#009E73", "#F0E442"
BLUE, VERMILLION, BLACK, GREY = "#0072B2", "#D55E00", "#000000", "#CCCCCC"

STATE_COLOURS: Mapping[State, str] = {
    State.UNCHANGED: GREEN,
    State.EMPTIED: VERMILLION,
    State.BUILDING: BLUE,
    State.DEMOLISHED: BLACK,
    State.REOCCUPIED: ORANGE,
    State.LIGHTS_ONLY: YELLOW,
    State.NOT_OBSERVABLE: GREY,
}
DIRECTION_COLOURS: Mapping[int, str] = {1: BLUE, -1: VERMILLION}
DIRECTION_NAMES: Mapping[int, str] = {1: "more", -1: "less", 0: "no change"}


ABBREVIATIONS = frozenset({"evi", "nbr", "ndbi", "ndmi", "ndvi", "ndwi", "vv", "vh"})
"""Feature names that readers know in capitals."""


def feature_label(feature: str) -> str:
    """A feature's name for readers: "NDVI", "brightness"."""
    return " ".join(w.upper() if w in ABBREVIATIONS else w for w in feature.split("_"))


def direction_text(direction: int, feature: str) -> str:
    """Words for a direction of change: "more NDVI", "less brightness"."""
    return f"{DIRECTION_NAMES[direction]} {feature_label(feature)}"

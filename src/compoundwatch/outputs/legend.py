"""Colours, shapes and words of states and directions, defined once for map styles, pictures and report alike.

The colours are those of Okabe and Ito (2008, https://jfly.uni-koeln.de/color/) and a light grey, which readers with any
common form of colour blindness can tell apart. (Their purple is left out: beside grey it is lost on some readers.) They
fill areas and swatches; text is never drawn in them.
"""

from __future__ import annotations

from collections.abc import Mapping

from compoundwatch.ladder import INCONCLUSIVE, STATE_WORDS, words
from compoundwatch.model import State

__all__ = [
    "DIRECTION_COLOURS",
    "DIRECTION_NAMES",
    "INCONCLUSIVE",
    "INK",
    "MUTED",
    "STATE_COLOURS",
    "STATE_SHAPES",
    "STATE_WORDS",
    "casing",
    "direction_text",
    "feature_label",
    "words",
]

ORANGE, GREEN, YELLOW = "#E69F00", "#009E73", "#F0E442"
BLUE, VERMILLION, BLACK, GREY = "#0072B2", "#D55E00", "#000000", "#CCCCCC"
INK, MUTED, WHITE = "#1B2733", "#5B6B7A", "#FFFFFF"
"""Of lines and labels that stand for no state: events and text; control areas and footprints; paper."""

STATE_COLOURS: Mapping[State, str] = {
    State.UNCHANGED: GREEN,
    State.EMPTIED: VERMILLION,
    State.BUILDING: BLUE,
    State.DEMOLISHED: BLACK,
    State.REOCCUPIED: ORANGE,
    State.LIGHTS_ONLY: YELLOW,
    State.NOT_OBSERVABLE: GREY,
}
STATE_SHAPES: Mapping[State, tuple[str, int]] = {
    State.UNCHANGED: ("circle", 0),
    State.EMPTIED: ("triangle", 180),
    State.BUILDING: ("square", 0),
    State.DEMOLISHED: ("cross_fill", 45),
    State.REOCCUPIED: ("diamond", 0),
    State.LIGHTS_ONLY: ("star", 0),
    State.NOT_OBSERVABLE: ("hexagon", 0),
}
"""The shape of a marker, as QGIS names it, and its turn in degrees clockwise: states differ without colour too."""
INCONCLUSIVE_SHAPE = ("pentagon", 0)
"""Of a site that is inconclusive, which has the colour of NOT_OBSERVABLE."""

DIRECTION_COLOURS: Mapping[int, str] = {1: BLUE, -1: VERMILLION}
DIRECTION_NAMES: Mapping[int, str] = {1: "more", -1: "less", 0: "no change"}


ABBREVIATIONS = frozenset({"evi", "nbr", "ndbi", "ndmi", "ndvi", "ndwi", "vv", "vh"})
"""Feature names that readers know in capitals."""


def casing(colour: str) -> str:
    """The colour of a line around another, so that it is seen on dark imagery and on white paper alike."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else WHITE


def feature_label(feature: str) -> str:
    """A feature's name for readers: "NDVI", "brightness"."""
    return " ".join(w.upper() if w in ABBREVIATIONS else w for w in feature.split("_"))


def direction_text(direction: int, feature: str) -> str:
    """Words for a direction of change: "more NDVI", "less brightness"."""
    return f"{DIRECTION_NAMES[direction]} {feature_label(feature)}"

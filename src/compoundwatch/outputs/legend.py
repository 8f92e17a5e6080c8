"""Colours and fixed words of states and directions, defined once for map styles and report alike.

The colours are those of Okabe and Ito (2008, https://jfly.uni-koeln.de/color/) and a light grey, which readers with any
common form of colour blindness can tell apart. (Their purple is left out: beside grey it is lost on some readers.) They
fill areas and swatches; text is never drawn in them.
"""

from __future__ import annotations

from collections.abc import Mapping

from compoundwatch.model import SiteState, State

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
STATE_WORDS: Mapping[State, str] = {
    State.UNCHANGED: "consistent with no change",
    State.EMPTIED: "consistent with a fall of activity",
    State.BUILDING: "consistent with construction",
    State.DEMOLISHED: "consistent with demolition",
    State.REOCCUPIED: "consistent with activity that fell and came back",
    State.LIGHTS_ONLY: "consistent with a fall of night lights alone",
    State.NOT_OBSERVABLE: "not observable",
}
INCONCLUSIVE = "inconclusive"

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


def words(state: SiteState, probability_called: float) -> str:
    """The rung of the language ladder a site stands on: "consistent with ...", "inconclusive" or "not observable".

    A site without an answer is inconclusive where its probabilities are known and neither a change nor its absence
    reaches ``probability_called`` (0-1).
    """
    unchanged = state.probability.get(State.UNCHANGED)
    undecided = unchanged is not None and 1 - probability_called < unchanged < probability_called
    if state.state is State.NOT_OBSERVABLE and undecided:
        return INCONCLUSIVE
    return STATE_WORDS[state.state]

"""The language ladder: the only words in which a state is told, from score to map legend, and never a stronger one.

Three rungs: "consistent with" a change or its absence, "inconclusive", "not observable". The last two are answers of
their own and never mean that nothing changed.
"""

from __future__ import annotations

from collections.abc import Mapping

from compoundwatch.model import SiteState, State, Timing

CONSISTENT = "consistent with"
INCONCLUSIVE = "inconclusive"
NOT_OBSERVABLE = "not observable"
NOT_NO_CHANGE = "this is not the same as no change"
"""What is said wherever there is no answer."""

STATE_WORDS: Mapping[State, str] = {
    State.UNCHANGED: f"{CONSISTENT} no change",
    State.EMPTIED: f"{CONSISTENT} a fall of activity",
    State.BUILDING: f"{CONSISTENT} construction",
    State.DEMOLISHED: f"{CONSISTENT} demolition",
    State.REOCCUPIED: f"{CONSISTENT} activity that fell and came back",
    State.LIGHTS_ONLY: f"{CONSISTENT} a fall of night lights alone",
    State.NOT_OBSERVABLE: NOT_OBSERVABLE,
}
"""A state in a few words."""

MEANING: Mapping[State, str] = {
    State.UNCHANGED: "no change was seen that its controls do not share",
    State.EMPTIED: f"its yards and roads fell still, which is {CONSISTENT} most activity having left",
    State.BUILDING: f"new roofs or cleared ground appeared, which is {CONSISTENT} construction",
    State.DEMOLISHED: f"roofs darkened or vanished, which is {CONSISTENT} demolition",
    State.REOCCUPIED: f"activity fell and came back, which is {CONSISTENT} the site being used again",
    State.LIGHTS_ONLY: f"lights fell while nothing else did, which is {CONSISTENT} a power cut",
    State.NOT_OBSERVABLE: NOT_OBSERVABLE,
}
"""What was measured, and what it is consistent with."""

COUNTED: Mapping[State, str] = {
    State.EMPTIED: "with most activity having left",
    State.REOCCUPIED: "with activity that fell and came back",
    State.BUILDING: "with construction",
    State.DEMOLISHED: "with demolition",
    State.LIGHTS_ONLY: "with a cut of lights alone",
    State.UNCHANGED: "with no change",
}
"""How a count of sites in a state is told, after "the measurements are consistent"."""

DATED: Mapping[State, str] = {
    State.EMPTIED: "a fall of activity",
    State.REOCCUPIED: "a fall of activity, which came back later,",
    State.BUILDING: "construction that began",
    State.DEMOLISHED: "demolition that began",
    State.LIGHTS_ONLY: "a cut of lights",
}
"""The change that a site is held against an event with, before "before", "at" or "after"."""

TIMING_WORDS: Mapping[Timing, str] = {
    Timing.BEFORE: f"{CONSISTENT} a change before it",
    Timing.AT: f"{CONSISTENT} a change within a day of it",
    Timing.AFTER: f"{CONSISTENT} a change after it",
    Timing.UNDATED: f"{CONSISTENT} a change on an unknown day",
    Timing.NONE: f"{CONSISTENT} no change",
    Timing.INCONCLUSIVE: INCONCLUSIVE,
    Timing.NOT_OBSERVABLE: NOT_OBSERVABLE,
}
"""When a site changed, seen from a dated event."""


def words(state: SiteState, probability_called: float) -> str:
    """The rung a site stands on: "consistent with ...", "inconclusive" or "not observable".

    A site without an answer is inconclusive where its probabilities are known and neither a change nor its absence
    reaches ``probability_called`` (0-1).
    """
    unchanged = state.probability.get(State.UNCHANGED)
    undecided = unchanged is not None and 1 - probability_called < unchanged < probability_called
    if state.state is State.NOT_OBSERVABLE and undecided:
        return INCONCLUSIVE
    return STATE_WORDS[state.state]

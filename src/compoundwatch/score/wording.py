"""The sentences in which a state is told, in the words of the language ladder."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compoundwatch import ladder
from compoundwatch.ladder import MEANING, NOT_NO_CHANGE
from compoundwatch.model import Sensor, State

OPEN, UNSEEN = ladder.INCONCLUSIVE.capitalize(), ladder.NOT_OBSERVABLE.capitalize()


@dataclass(frozen=True)
class Views:
    """How well a site was seen: counts of usable dates and controls; smallest detectable fall (fraction, or None)."""

    n_views: int
    n_before: int
    n_after: int
    n_controls: int
    detectable: float | None


def too_few_views(views: Views, need_before: int, need_after: int) -> str:
    """Why a site with few views has no answer."""
    return (
        f"{UNSEEN}: {views.n_before} usable views before and {views.n_after} after the end of the reference "
        f"period, where {need_before} and {need_after} are needed; {NOT_NO_CHANGE}."
    )


def inconclusive(p_change: float) -> str:
    """Why a site between change and no change has no answer."""
    return (
        f"{OPEN}: the probability of a change is {p_change:.0%}, too high to say that nothing happened and too "
        "low to say that something did."
    )


def unexplained(p_value: float) -> str:
    """Why a site that moved in a way of its own has no answer."""
    return (
        f"{OPEN}: its measurements moved against those of its controls (p {p_value:.2g}) in a way that fits none "
        "of the changes looked for; look at the pictures and charts."
    )


def too_noisy(views: Views, limit: float) -> str:
    """Why a site whose own noise hides changes has no answer."""
    seen = (
        "activity could not be measured"
        if views.detectable is None
        else (
            f"a fall of activity of up to {views.detectable:.0%} could have gone unseen, more than the {limit:.0%} "
            "allowed"
        )
    )
    return f"{UNSEEN}: no change was seen, but {seen}; {NOT_NO_CHANGE}."


def called(
    state: State,
    probability: Mapping[State, float],
    dates: Sequence[dt.date | None],
    views: Views,
    sensors: Sequence[Sensor],
) -> str:
    """One sentence for a site with an answer: what, when, how sure, and what could not be seen."""
    compared = (
        f"compared with {views.n_controls} control areas" if views.n_controls else "compared with its own past only"
    )
    blind = "; ".join(f"{s.title} cannot see {s.blind_to}" for s in sensors)
    if state is State.UNCHANGED:
        return (
            f"No change: {MEANING[state]} (probability {probability[state]:.0%}, {views.n_views} views, {compared}; a "
            f"fall of activity below {views.detectable:.0%} could have gone unseen; {blind})."
        )
    _, earliest, latest = dates
    kind = "" if probability[state] >= 0.8 else ", the kind of change is less certain than the change"
    return (
        f"Changed between {earliest} and {latest}: {MEANING[state]} (probability {probability[state]:.0%}{kind}; "
        f"{views.n_views} views, {compared}; {blind})."
    )

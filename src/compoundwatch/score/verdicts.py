"""Sites against dated events: did a site change before, at or after, and how surely?

The day of an official raid is not the day of change, so the date of change is never taken from the event: its posterior
is compared with the days on which the event may have been. Probabilities are those of the state times those of the
date, and never sharper than the gap between the views that enclose the change (see ``dates``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compoundwatch import ladder
from compoundwatch.model import Event, SiteState, State, Timing, Verdict, VerdictSettings
from compoundwatch.score.dates import DayWeights, change_days, date, day_number, event_days, later_by

DEPARTURES = (State.EMPTIED, State.REOCCUPIED)
"""States in which activity fell: a site that came back had fallen before."""

CONFOUNDING: Mapping[str, str] = {
    "power": "a cut of the grid dims lights and stops machines while people may stay",
    "conflict": "shelling and flight change a place whatever is announced",
    "ceasefire": "the end of fighting brings movement back",
    "border": "a border that shuts or opens changes traffic without anybody leaving a site",
    "holiday": "on holidays yards and roads fall still and fill again by themselves",
}
"""Kinds of event that change what satellites measure without the departure or return that is looked for, and why."""

ALL_SITES = "*"
FITS, OPEN, UNSEEN = (w.capitalize() for w in (ladder.CONSISTENT, ladder.INCONCLUSIVE, ladder.NOT_OBSERVABLE))
DATED = (Timing.BEFORE, Timing.AT, Timing.AFTER)


def concerns(event: Event, site_id: str) -> bool:
    """Whether an event is about a site."""
    return site_id in event.scope or ALL_SITES in event.scope


def verdicts(
    states: Sequence[SiteState],
    events: Sequence[Event],
    settings: VerdictSettings,
    views: Mapping[str, Sequence[int]],
) -> tuple[Verdict, ...]:
    """Every site against every event that concerns it, in the order of the sites, then of the events.

    Parameters
    ----------
    states : one per site.
    views : per site, the days (since 1970-01-01) on which it was seen well enough; a site may be missing.
    """
    return tuple(
        verdict(state, event, settings, events, views.get(state.site_id, ()))
        for state in states
        for event in events
        if concerns(event, state.site_id)
    )


def verdict(
    state: SiteState,
    event: Event,
    settings: VerdictSettings,
    others: Sequence[Event] = (),
    views: Sequence[int] = (),
) -> Verdict:
    """One site against one event.

    With c the day of change, e that of the event (uniform over its range) and P the probability that the site changed:
    P(before) = P x P(c - e < -a), P(at) = P x P(\\|c - e\\| <= a), P(after) = P x P(c - e > a), P(none) = 1 - P, with a
    = ``settings.at_days``. Where no date was called, P stays undated.

    Parameters
    ----------
    others : further events, for those that confound; ``event`` may be among them.
    views : days (since 1970-01-01) on which the site was seen well enough.
    """
    days = change_days(state, views)
    blind = _blind(state, event, settings, views, days is not None)
    apart = None if days is None or blind else later_by(days, event_days(event))
    probability = {} if blind else _probabilities(state, apart, settings.at_days)
    departed = sum(state.probability.get(s, 0.0) for s in DEPARTURES)
    earlier = 0.0 if apart is None else apart.between(-np.inf, -1)
    low, high = (None, None) if apart is None else apart.interval(settings.level)
    timing = _called(probability, settings.probability_called)
    confounders = confounding(event, others, state.site_id, settings, days)
    return Verdict(
        site_id=state.site_id,
        event_id=event.event_id,
        event_kind=event.kind,
        state=state.state,
        timing=timing,
        probability=probability,
        days=None if apart is None else apart.median,
        days_low=low,
        days_high=high,
        change_first=None if blind else (1 - probability[Timing.NONE]) * earlier,
        departure_first=None if blind else departed * earlier,
        confounded_by=tuple(e.event_id for e in confounders),
        reason=_confounded(blind or _reason(state, event, timing, probability, apart, settings), confounders),
    )


def _blind(state: SiteState, event: Event, settings: VerdictSettings, views: Sequence[int], dated: bool) -> str:
    """Why nothing can be said of a site and an event, a sentence without full stop; empty where something can."""
    about = f"{event.kind} {event.event_id}"
    if state.state is State.NOT_OBSERVABLE or not state.probability:
        return f"{UNSEEN}: nothing can be said of this site and the {about}; {ladder.NOT_NO_CHANGE}"
    if not views:
        return ""
    seen = sorted(views)
    # The last view of the reference period: changes are looked for from there on.
    since = seen[min(state.n_before, len(seen)) - 1] if state.n_before else seen[0]
    if day_number(event.earliest) < since:
        return f"{UNSEEN}: the {about} may lie before {date(since)}, from when on changes were looked for"
    after = sum(v > day_number(event.latest) for v in seen)
    if not dated and after < settings.min_views_after:
        return (
            f"{UNSEEN}: only {after} usable views after the {about}, where {settings.min_views_after} are needed "
            "to speak of no change"
        )
    return ""


def _probabilities(state: SiteState, apart: DayWeights | None, at_days: int) -> dict[Timing, float]:
    none = state.probability.get(State.UNCHANGED, 0.0)
    if apart is None:
        return dict.fromkeys(DATED, 0.0) | {Timing.UNDATED: 1 - none, Timing.NONE: none}
    early, at = apart.between(-np.inf, -at_days - 1), apart.between(-at_days, at_days)
    dated = (early, at, max(0.0, 1 - early - at))
    probability = {timing: (1 - none) * share for timing, share in zip(DATED, dated, strict=True)}
    return probability | {Timing.UNDATED: 0.0, Timing.NONE: none}


def _called(probability: Mapping[Timing, float], threshold: float) -> Timing:
    if not probability:
        return Timing.NOT_OBSERVABLE
    best = max(probability, key=lambda timing: probability[timing])
    return best if probability[best] >= threshold and best is not Timing.UNDATED else Timing.INCONCLUSIVE


def confounding(
    event: Event,
    others: Sequence[Event],
    site_id: str,
    settings: VerdictSettings,
    days: DayWeights | None,
) -> tuple[Event, ...]:
    """Events of a kind in CONFOUNDING that concern the site and lie near the event or may have caused the change.

    Near the event: at most ``settings.reach_days`` from it. Cause of the change: begun before the change was over, and
    at most so many days before it began. The event itself comes first where it is of such a kind.
    """
    reach = settings.reach_days
    spans = [(day_number(event.earliest) - reach, day_number(event.latest) + reach)]
    if days is not None:
        low, high = days.interval(settings.level)
        spans.append((low - reach, high))
    found = [event] if event.kind in CONFOUNDING else []
    for other in others:
        if other.kind not in CONFOUNDING or other.event_id == event.event_id or not concerns(other, site_id):
            continue
        begins, ends = day_number(other.earliest), day_number(other.latest)
        if any(begins <= high and ends >= low for low, high in spans):
            found.append(other)
    return tuple(found)


def _reason(
    state: SiteState,
    event: Event,
    timing: Timing,
    probability: Mapping[Timing, float],
    apart: DayWeights | None,
    settings: VerdictSettings,
) -> str:
    about = f"{event.kind} {event.event_id}"
    if timing is Timing.NONE:
        return f"No change was seen, before or after the {about} (probability {probability[Timing.NONE]:.0%})"
    if apart is None:
        return (
            f"{OPEN}: a change has probability {probability[Timing.UNDATED]:.0%} and no date that could be held "
            f"against the {about}"
        )
    low, high = apart.interval(settings.level)
    shares = ", ".join(f"{t.value.lower()} {probability[t]:.0%}" for t in (*DATED, Timing.NONE))
    begin = (
        f"{OPEN} against the {about}"
        if timing is Timing.INCONCLUSIVE
        else f"{FITS} {ladder.DATED.get(state.state, 'a change')} {timing.value.lower()} the {about}"
    )
    return (
        f"{begin} ({shares}; change minus event {apart.median:+.0f} days, {settings.level:.0%} interval {low:+d} to "
        f"{high:+d})"
    )


def _confounded(said: str, confounders: Sequence[Event]) -> str:
    if not confounders:
        return f"{said}."
    first = confounders[0]
    more = f" and {len(confounders) - 1} more" if len(confounders) > 1 else ""
    return f"{said}. Confounded by {first.event_id}{more}: {CONFOUNDING[first.kind]}."

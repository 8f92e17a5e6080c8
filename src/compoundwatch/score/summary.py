"""The view over all sites: how many are consistent with what, before or after an event, and how sure that number is.

A number of sites is a sum of uncertain answers, so it has a distribution: that of Poisson and binomial trials with a
probability each (the Poisson-binomial; Hong 2013, doi:10.1016/j.csda.2012.10.006), worked out exactly by convolution.
Counting the labels instead would hide what is uncertain and be wrong on average. Sites without an answer are in no
number; the largest that they allow is told beside it (worst-case bounds; Manski 2003, doi:10.1007/b97478).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from compoundwatch import ladder
from compoundwatch.errors import ContractError
from compoundwatch.model import (
    Count,
    Event,
    EventSummary,
    Holding,
    Site,
    SiteState,
    State,
    Summary,
    Timing,
    Verdict,
    VerdictSettings,
)
from compoundwatch.score.dates import DayWeights, Float64
from compoundwatch.score.displacement import displacement
from compoundwatch.score.event_study import event_study
from compoundwatch.score.holding import holding, spells
from compoundwatch.score.verdicts import DATED, DEPARTURES, verdicts

COUNTED = tuple(s for s in State if s is not State.NOT_OBSERVABLE)
WORTH_TELLING = 0.05
"""Expected numbers below this are not put into a sentence."""

CAVEAT = (
    "These are expected numbers and intervals from the probabilities of single sites, taken as independent of one "
    "another. They speak of yards, roads, roofs and lights; who was there, why activity changed and where anybody went "
    "is not seen. Inconclusive and not observable are not the same as no change, and a fall of activity is no proof "
    "that a site is out of use."
)
EVENT_CAVEAT = (
    "The day of a change is known to within the gap between usable views. That a change came before or after an event "
    "does not say that one caused the other."
)


def count_distribution(probabilities: Sequence[float]) -> Float64:
    """Probability of each number of successes, 0 ... n, in independent trials: float64 (n + 1,), sum 1."""
    distribution = np.ones(1)
    for p in probabilities:
        distribution = np.convolve(distribution, [1 - p, p])
    return np.maximum(distribution, 0)


def count(probabilities: Sequence[float], unanswered: int, level: float) -> Count:
    """The expected number with its interval, from the probability of each answered site.

    Raises
    ------
    ContractError : a probability does not lie between 0 and 1.
    """
    if any(not -1e-9 <= p <= 1 + 1e-9 for p in probabilities):
        raise ContractError(f"probabilities of sites must lie between 0 and 1, found {sorted(probabilities)}")
    chances = np.clip(np.asarray(probabilities, dtype=np.float64), 0, 1)
    low, high = DayWeights(0, count_distribution(chances.tolist())).interval(level)
    return Count(float(chances.sum()), low, high, chances.size, high + unanswered)


def summarise(
    states: Sequence[SiteState],
    history: Sequence[SiteState],
    sites: Sequence[Site],
    events: Sequence[Event],
    told_events: Sequence[str] | None,
    series: pd.DataFrame,
    views: Mapping[str, Sequence[int]],
    rng: np.random.Generator,
    settings: VerdictSettings,
) -> Summary:
    """Everything that is said about the sites together.

    Parameters
    ----------
    states : the latest of each site.
    history : all that was ever said, the latest included.
    sites : polygons of the sites with the ids of their controls.
    events : all events; those of which is told, and others that may confound them.
    told_events : ids of the events that the sites are held against; None = the raids that fall into the time watched.
    series : columns of ``model.SERIES_COLUMNS``, sites and controls together.
    views : per site, the days (since 1970-01-01) on which it was seen well enough.
    rng : source of the random dates, labels and durations.

    Raises
    ------
    ContractError : there is no state.
    """
    if not states:
        raise ContractError("a summary needs at least one site with a state")
    answered = [s for s in states if s.state is not State.NOT_OBSERVABLE and s.probability]
    silent = [s for s in states if s not in answered]
    counts: dict[State, Count] = {
        state: count([s.probability.get(state, 0.0) for s in answered], len(silent), settings.level)
        for state in COUNTED
    }
    found, withdrawn = spells(history)
    held = verdicts(states, events, settings, views)
    told = _default_events(events, held) if told_events is None else told_events
    unseen = tuple(s.site_id for s in silent if not s.probability)
    inconclusive = tuple(s.site_id for s in silent if s.probability)
    days = sorted(s.as_of for s in states)
    called = [s for s in answered if s.state is not State.UNCHANGED]
    expected_false = float(sum(s.probability.get(State.UNCHANGED, 0.0) for s in called))
    return Summary(
        as_of_earliest=days[0],
        as_of_latest=days[-1],
        level=settings.level,
        n_sites=len(states),
        n_answered=len(answered),
        unseen=unseen,
        inconclusive=inconclusive,
        counts=counts,
        spells=found,
        withdrawn=withdrawn,
        holding=holding(found, rng, level=settings.level),
        events=tuple(_about(e, held, states, sites, series, rng, settings) for e in events if e.event_id in told),
        sentence=_sentence(states, len(answered), len(unseen), len(inconclusive), counts, settings.level),
        caveat=CAVEAT + _false_text(len(called), expected_false),
        n_called=len(called),
        n_expected_false=expected_false,
    )


def _about(
    event: Event,
    held: Sequence[Verdict],
    states: Sequence[SiteState],
    sites: Sequence[Site],
    series: pd.DataFrame,
    rng: np.random.Generator,
    settings: VerdictSettings,
) -> EventSummary:
    ours = [v for v in held if v.event_id == event.event_id]
    answered = [v for v in ours if v.probability]
    silent = len(ours) - len(answered)
    departed = {s.site_id: sum(s.probability.get(d, 0.0) for d in DEPARTURES) for s in states}
    fell = {
        timing: count([departed[v.site_id] * _share(v, timing) for v in answered], silent, settings.level)
        for timing in (*DATED, Timing.UNDATED)
    }
    first = count([v.departure_first or 0.0 for v in answered], silent, settings.level)
    confounded = tuple(v.site_id for v in ours if v.confounded_by)
    return EventSummary(
        event=event,
        verdicts=tuple(ours),
        fell=fell,
        fell_first=first,
        confounded=confounded,
        study=event_study(series, sites, event),
        displacement=displacement(series, sites, event, rng),
        sentence=_event_sentence(event, len(ours), len(answered), fell, settings),
        caveat=EVENT_CAVEAT + _confounded_text(len(confounded), len(ours)),
    )


def _share(verdict: Verdict, timing: Timing) -> float:
    """Probability of a timing, given that the site changed."""
    changed = 1 - verdict.probability[Timing.NONE]
    return verdict.probability[timing] / changed if changed > 0 else 0.0


def _default_events(events: Sequence[Event], held: Sequence[Verdict]) -> tuple[str, ...]:
    """Ids of the raids of which something can be said at one site at least."""
    seen = {v.event_id for v in held if v.probability}
    return tuple(e.event_id for e in events if e.kind == "raid" and e.event_id in seen)


# -------------------------------------------------------------------------------------------------------------- words


def counted(n: int, what: str) -> str:
    """A number with its noun: "1 site", "2 sites"."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _number(found: Count) -> str:
    return f"{found.expected:.1f} ({found.low} to {found.high})"


def _days(event: Event) -> str:
    return str(event.earliest) if event.earliest == event.latest else f"{event.earliest} to {event.latest}"


def _sentence(
    states: Sequence[SiteState],
    n_answered: int,
    n_unseen: int,
    n_inconclusive: int,
    counts: Mapping[State, Count],
    level: float,
) -> str:
    days = sorted(s.as_of for s in states)
    when = f"on {days[0]}" if days[0] == days[-1] else f"between {days[0]} and {days[-1]}"
    silent = f"{n_inconclusive} {ladder.INCONCLUSIVE} and {n_unseen} {ladder.NOT_OBSERVABLE}"
    if not n_answered:
        return f"Of {counted(len(states), 'site')} judged {when}, none has an answer: {silent}."
    told = [
        f"{words} at {'an expected ' * (k == 0)}{_number(counts[state])}"
        for k, (state, words) in enumerate(ladder.COUNTED.items())
        if counts[state].expected >= WORTH_TELLING or state in (State.EMPTIED, State.UNCHANGED)
    ]
    left = counts[State.EMPTIED]
    allowed = f"; counting these, up to {left.at_most} may have emptied" if left.at_most > left.high else ""
    begin = f"Of {counted(len(states), 'site')} judged {when}, {counted(n_answered, 'answer')} could be given"
    end = f" The others are {silent}{allowed}." if n_answered < len(states) else ""
    return f"{begin}: the measurements are consistent {_joined(told)} of them ({level:.0%} intervals).{end}"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _event_sentence(
    event: Event, n: int, n_answered: int, fell: Mapping[Timing, Count], settings: VerdictSettings
) -> str:
    about = f"the {event.kind} of {_days(event)} ({event.place})"
    if not n_answered:
        unseen = ladder.NOT_OBSERVABLE.capitalize()
        return f"{unseen}: nothing can be said of the {counted(n, 'site')} that {about} concerns."
    near = counted(settings.at_days, "day")
    before, at, after, undated = (_number(fell[t]) for t in (*DATED, Timing.UNDATED))
    more = (
        f"; at {undated} it may have fallen on an unknown day" if fell[Timing.UNDATED].expected >= WORTH_TELLING else ""
    )
    return (
        f"Of {counted(n, 'site')} that {about} concerns, {n_answered} could be held against it: activity is consistent "
        f"with having fallen before it at an expected {before} of them, within {near} of it at {at} and after it at "
        f"{after} ({settings.level:.0%} intervals){more}."
    )


def _false_text(n: int, expected: float) -> str:
    if not n:
        return ""
    return f" Of the {counted(n, 'site')} called changed, {expected:.1f} are expected not to have changed."


def _confounded_text(n: int, of: int) -> str:
    if not n:
        return ""
    return f" At {n} of {of} sites another event may explain what was measured, so this one is confounded there."


def holding_text(found: Holding) -> str:
    """How long stillness holds, in a few sentences."""
    shares = []
    for day, share, low, high, at_risk in zip(
        found.days, found.share, found.low, found.high, found.at_risk, strict=True
    ):
        if at_risk >= 1:
            span = "not known" if low is None or high is None else f"{low:.0%} to {high:.0%}"
            shares.append(f"{share:.0%} ({span}) for more than {day} days")
    begin = (
        f"Activity fell at {counted(found.n_sites, 'site')} and came back at {found.n_ended} while watched; "
        f"{found.n_sites - found.n_ended} still when last judged (censored on the right), "
        f"{counted(found.n_interval_censored, 'duration')} known within an interval only."
    )
    if not shares:
        return f"{begin} None was followed long enough to say how long stillness holds."
    return f"{begin} Estimated to stay still: {_joined(shares)} ({found.level:.0%} interval)."

"""From the evidence of all measurements to the state of a site, with a probability for every state.

A change is a class, a date and a way of changing. For each, every measurement gives a Bayes factor against "nothing
happened": the marginal likelihood of a template whose size has a one-sided normal prior, in closed form once the noise
is whitened. A measurement may be blind to a class at this very site, so its factor is mixed with 1 (spike and slab;
Mitchell and Beauchamp 1988, doi:10.1080/01621459.1988.10478694), capped, and tempered, because the noise model is
itself only a model. Under every class one of the measurements it says nothing of may show an artefact.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, logsumexp
from scipy.stats import norm

from compoundwatch.model import ScoreSettings, Sensor, SiteEffect, SiteState, State
from compoundwatch.score import wording
from compoundwatch.score.effects import SHAPES, Evidence, Float64
from compoundwatch.score.series import ACTIVITY


@dataclass(frozen=True)
class Expected:
    """What a class of change does to one measurement: shape, mean and spread of its size, chance that it shows at all.

    Sizes are in units of the white noise of the site's own series; the sign of ``mean`` is the only one allowed.
    """

    feature: str
    shape: str
    mean: float
    spread: float
    shows: float


EXPECTED: Mapping[State, tuple[Expected, ...]] = {
    State.EMPTIED: (
        Expected(ACTIVITY, "sudden", -1.5, 1.2, 0.85),
        Expected("ndvi_anomaly", "regrowth", 1.5, 1.5, 0.4),
        Expected("ndvi_up", "regrowth", 2.0, 2.0, 0.4),
        Expected("brightness_down", "regrowth", 4.0, 4.0, 0.4),
        Expected("brightness_anomaly", "regrowth", -1.5, 1.5, 0.4),
    ),
    State.BUILDING: (
        Expected("brightness_up", "gradual", 8.0, 8.0, 0.9),
        Expected("ndvi_down", "gradual", 8.0, 8.0, 0.8),
        Expected("brightness_anomaly", "gradual", 2.0, 2.0, 0.8),
        Expected("ndvi_anomaly", "gradual", -2.0, 2.0, 0.7),
    ),
    State.DEMOLISHED: (
        Expected("brightness_down", "sudden", 8.0, 8.0, 0.9),
        Expected("ndbi_up", "sudden", 4.0, 4.0, 0.5),
        Expected("brightness_anomaly", "sudden", -1.5, 1.5, 0.7),
        Expected(ACTIVITY, "sudden", -1.5, 1.2, 0.7),
    ),
    State.REOCCUPIED: (Expected(ACTIVITY, "pulse", -1.5, 1.2, 0.85),),
}
"""Which measurements speak for which state. LIGHTS_ONLY needs night lights and is not listed for optical sensors."""

STRUCTURAL = (State.BUILDING, State.DEMOLISHED)
ALONE = 3.0
"""Most that one measurement can say for a structural change (natural log) before others say the same: roofs that come
or go show in brightness, greenness and built-up index together, a stain that a mask missed in one of them."""

SUPPORT = 3.0
"""Regrowth alone says nothing of a departure: it may weigh so many times what the sudden signs say."""

PRIOR: Mapping[State, float] = {
    State.UNCHANGED: 0.72,
    State.EMPTIED: 0.10,
    State.BUILDING: 0.07,
    State.DEMOLISHED: 0.05,
    State.REOCCUPIED: 0.06,
}
ARTEFACT_SHARE = 0.2
"""Chance that one measurement, of which a class says nothing, takes a step of either sign all the same."""
UNEXPLAINED = 0.01
"""A site whose measurements moved with a p-value below this is never called unchanged."""
TEMPER = 0.5
CAP = 30.0


@dataclass(frozen=True)
class Posterior:
    """Probability of every state (sum 1), and per changed state that of every date tried, float64 (n_taus,)."""

    probability: Mapping[State, float]
    dates: Mapping[State, Float64]
    taus: npt.NDArray[np.int64]


def log_bayes_factor(fit: tuple[Float64, Float64], mean: float, spread: float) -> Float64:
    """Log marginal likelihood ratio of a template with size ~ N(mean, spread²), cut off at zero when mean is not zero.

    With a = T'K⁻¹y and b = T'K⁻¹T and v = spread²: ½((a + m/v)²/(b + 1/v) - m²/v - ln(1 + v b)), plus the logarithm
    of the ratio of the posterior to the prior mass on the allowed side.
    """
    a, b = fit
    v = spread**2
    value = 0.5 * ((a + mean / v) ** 2 / (b + 1 / v) - mean**2 / v - np.log1p(v * b))
    if mean:
        side = np.sign(mean)
        value = value + log_ndtr(side * (a + mean / v) / np.sqrt(b + 1 / v)) - log_ndtr(abs(mean) / spread)
    return np.asarray(value)


def posterior(evidence: Mapping[str, Evidence]) -> Posterior:
    """Probabilities of the states from the evidence of all measurements of a site (feature name -> Evidence)."""
    taus = next(iter(evidence.values())).taus
    n = taus.size
    artefact = {
        feature: float(logsumexp(_capped(TEMPER * log_bayes_factor(e.fits["step"], 0.0, 3.0)))) - np.log(n)
        for feature, e in evidence.items()
    }
    log_dates: dict[State, Float64] = {}
    for state, expected in EXPECTED.items():
        at_hand = [e for e in expected if e.feature in evidence]
        if not at_hand:
            continue
        other = _artefact(artefact, {e.feature for e in at_hand})
        likelihood = _class_likelihood(at_hand, evidence, n, state in STRUCTURAL)
        log_dates[state] = np.log(PRIOR[state]) - np.log(n) + likelihood + other
    logs = {State.UNCHANGED: float(np.log(PRIOR[State.UNCHANGED])) + _artefact(artefact, set())}
    logs |= {state: float(logsumexp(dates)) for state, dates in log_dates.items()}
    total = float(logsumexp(list(logs.values())))
    probability = {state: float(np.exp(logs[state] - total)) if state in logs else 0.0 for state in State}
    dates = {state: np.exp(values - logsumexp(values)) for state, values in log_dates.items()}
    return Posterior(probability, dates, taus)


def _artefact(factors: Mapping[str, float], explained: set[str]) -> float:
    """Log likelihood ratio of "one measurement that the class says nothing of shows an artefact, or none does"."""
    rest = [f for feature, f in factors.items() if feature not in explained]
    if not rest:
        return 0.0
    any_one = float(logsumexp(rest)) - np.log(len(rest))
    return float(np.logaddexp(np.log1p(-ARTEFACT_SHARE), np.log(ARTEFACT_SHARE) + any_one))


def _class_likelihood(
    expected: Sequence[Expected], evidence: Mapping[str, Evidence], n: int, corroborated: bool
) -> Float64:
    """Log likelihood ratio of one class at every date, over its ways of changing.

    All measurements that share the class's way (sudden, gradual, pulse) change in the same manner at the same date.
    Those with a way of their own (regrowth) follow at any later date: they support what the others say, within
    SUPPORT, and say nothing of the date.
    """
    key = expected[0].shape
    ways = []
    for way in SHAPES[key]:
        parts, later = [], np.zeros(n)
        for e in expected:
            shape = way if e.shape == key else SHAPES[e.shape][0]
            factor = _capped(TEMPER * log_bayes_factor(evidence[e.feature].fits[shape], e.mean, e.spread))
            part = np.logaddexp(np.log1p(-e.shows), np.log(e.shows) + factor)
            if e.shape == key:
                parts.append(part)
            else:
                later += np.maximum.accumulate(part[::-1])[::-1]
        total = np.sum(parts, axis=0)
        if corroborated:
            total = np.sum([np.minimum(p, ALONE + 2 * np.maximum(0, total - p)) for p in parts], axis=0)
        ways.append(total + np.minimum(later, SUPPORT * np.maximum(total, 0)))
    return np.asarray(logsumexp(ways, axis=0) - np.log(len(ways)))


def _capped(factor: Float64) -> Float64:
    """Lower the whole curve until its peak is CAP: no measurement decides alone, but each keeps its say on the date."""
    return factor - max(0.0, float(factor.max()) - CAP)


def date_interval(found: Posterior, state: State, usable: Sequence[int], level: float = 0.9) -> tuple[int, int, int]:
    """Median and central interval of the date of change, widened to the views that enclose it.

    Between two views nothing is known of the date, so the interval starts at the last view before it and ends at the
    first view after.
    """
    weight = np.cumsum(found.dates[state])
    low, middle, high = (int(found.taus[np.searchsorted(weight, q)]) for q in ((1 - level) / 2, 0.5, (1 + level) / 2))
    days = np.asarray(usable)
    earlier, later = days[days < low], days[days >= high]
    earliest = int(earlier[-1]) if earlier.size else low
    latest = int(later[0]) if later.size else high
    return min(max(middle, earliest), latest), earliest, latest


def smallest_detectable(activity: Evidence | None, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Smallest fall of activity (fraction 0-1) seen with this power at this one-sided level, from the site's own noise.

    The median over the dates tried; None when activity was not measured.
    """
    if activity is None:
        return None
    _, b = activity.fits["step"]
    size = (norm.isf(alpha) + norm.isf(1 - power)) / np.sqrt(b) * activity.white
    return float(-np.expm1(-np.median(size)))


def site_effect(site_id: str, unit: str, e: Evidence) -> SiteEffect:
    """The best step of one measurement, in its own unit."""
    a, b = e.fits["step"]
    best = int(np.argmax(np.abs(a) / np.sqrt(b)))
    size, error = float(a[best] / b[best]) * e.white, float(1 / np.sqrt(b[best])) * e.white
    return SiteEffect(
        site_id=site_id,
        sensor=e.sensor,
        feature=e.feature,
        unit=unit,
        effect=size,
        std_error=error,
        low=size - 1.96 * error,
        high=size + 1.96 * error,
        day=_date(int(e.taus[best])),
        p_value=e.p_value,
        n_controls=e.n_controls,
        n_before=e.n_before,
        n_after=e.n_after,
        pre_trend_p=e.pre_trend_p,
    )


def site_state(
    site_id: str,
    evidence: Mapping[str, Evidence],
    usable: Sequence[int],
    valid_fraction: float | None,
    n_controls: int,
    sensors: Sequence[Sensor],
    reference_end: int,
    as_of: dt.date,
    settings: ScoreSettings,
) -> SiteState:
    """The answer for one site.

    NOT_OBSERVABLE until there is evidence: when views are too few, when neither a change nor its absence is probable
    enough, and when a fall of activity above ``settings.max_min_detectable`` would have gone unseen. ``q_value`` is
    filled in by ``with_q_values``, which needs all sites.
    """
    n_before = sum(d < reference_end for d in usable)
    n_after = len(usable) - n_before
    found = posterior(evidence) if evidence else None
    detectable = smallest_detectable(evidence.get(ACTIVITY))
    tested = [e.p_value for e in evidence.values() if e.p_value is not None]
    p_value = min(1.0, len(tested) * min(tested)) if tested else None
    views = wording.Views(len(usable), n_before, n_after, n_controls, detectable)
    state, problem = State.NOT_OBSERVABLE, ""
    if found is None or n_before < settings.min_views_before or n_after < settings.min_views_after:
        problem = wording.too_few_views(views, settings.min_views_before, settings.min_views_after)
        found = None
    else:
        unchanged = found.probability[State.UNCHANGED]
        if 1 - unchanged >= settings.probability_called:
            state = max(found.dates, key=lambda s: found.probability[s])
        elif unchanged < settings.probability_called:
            problem = wording.inconclusive(1 - unchanged)
        elif p_value is not None and p_value < UNEXPLAINED:
            problem = wording.unexplained(p_value)
        elif detectable is None or detectable > settings.max_min_detectable:
            problem = wording.too_noisy(views, settings.max_min_detectable)
        else:
            state = State.UNCHANGED
    changed = found is not None and state in found.dates
    dates = tuple(_date(d) for d in date_interval(found, state, usable)) if found and changed else (None, None, None)
    probability = dict(found.probability) if found else {}
    reason = problem or wording.called(state, probability, dates, views, sensors)
    return SiteState(
        site_id=site_id,
        as_of=as_of,
        state=state,
        probability=probability,
        score=100 * (1 - probability[State.UNCHANGED]) if found else None,
        change_date=dates[0],
        change_date_earliest=dates[1],
        change_date_latest=dates[2],
        p_value=p_value if found else None,
        q_value=None,
        n_views=len(usable),
        n_before=n_before,
        n_after=n_after,
        n_controls=n_controls,
        valid_fraction=valid_fraction,
        min_detectable=detectable,
        sensors=tuple(s.name for s in sensors),
        reason=reason,
        change_dates=_date_probabilities(found, state) if found and changed else {},
    )


def _date_probabilities(found: Posterior, state: State) -> dict[dt.date, float]:
    """The posterior of the date of change, without dates of no weight."""
    weights = zip(found.taus, found.dates[state], strict=True)
    return {_date(int(day)): float(weight) for day, weight in weights if weight > 1e-6}


def _date(day: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(days=day)

"""From the evidence of all measurements to the state of a site, with a probability for every state.

A change is a class, a date and a way of changing. For each, every measurement gives a Bayes factor against "nothing
happened": the marginal likelihood of a template whose size has a one-sided normal prior, in closed form once the noise
is whitened. A measurement may be blind to a class at this very site, so its factor is mixed with 1 (spike and slab;
Mitchell and Beauchamp 1988, doi:10.1080/01621459.1988.10478694) and tempered, because the noise model is itself only a
model; no measurement and no sensor may say more than a cap. Under every class one of the measurements it says nothing
of may show an artefact, and the lights may have gone out for a short while. The numbers are those of
``parameters.toml``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import log_ndtr, logsumexp
from scipy.stats import cauchy, norm

from compoundwatch.model import ScoreSettings, Sensor, SiteEffect, SiteState, State
from compoundwatch.score import wording
from compoundwatch.score.effects import SHAPES, Evidence, Float64
from compoundwatch.score.parameters import Class, Expected, Parameters
from compoundwatch.score.series import ACTIVITY

LIGHTS = "lights"
"""Kind of the sensors that see light at night and nothing of the ground."""
ENERGIES = ("_up", "_down")
"""Ends of the names of persistent energies."""
OUTAGE = (-2.0, 2.0)
"""Mean and spread of a short outage of the lights, in white-noise units."""
CHECKED_AT = (0.0, 0.25, 0.5, 0.75)
"""Parts of the tried dates from which on a site must have stayed as it was to be called unchanged."""


@dataclass(frozen=True)
class Posterior:
    """Probability of every state (sum 1); ``ways`` per change that may be called: log weight of way and date, float64
    (ways, m).

    Those weights are tempered by ``date_temper`` when a date is asked for: what a change does to a measurement follows
    none of the ways exactly, and all measurements err together, so that their sum is too sure of the date.
    """

    probability: Mapping[State, float]
    ways: Mapping[State, Float64]
    taus: Float64
    date_temper: float

    @property
    def dark_only(self) -> bool:
        """Whether nothing but lights can speak of a change: whoever left, or what was torn down, cannot be told."""
        return set(self.ways) == {State.LIGHTS_ONLY}

    def dates(self, state: State) -> Float64:
        """Probability of every date tried, given the state: float64 (m,), sum 1."""
        return np.asarray(self.ways_and_dates(state).sum(axis=0))

    def ways_and_dates(self, state: State) -> Float64:
        """Probability of every way and date, given the state: float64 (ways, m), sum 1."""
        weights = self.date_temper * self.ways[state]
        return np.asarray(np.exp(weights - logsumexp(weights)))


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


class Weighing:
    """The evidence of a site, tempered and capped, ready to be asked what it says for a class.

    Where a measurement says more than its cap, the part that says "something happened then" (the likelihood of the best
    size) is scaled down, and the part that says how well that size suits the class is kept. Where the measurements of
    a sensor say more than its cap together, all classes are lowered alike. So nobody decides alone that there was a
    change, and everybody keeps a say on which, and when.
    """

    def __init__(self, evidence: Sequence[Evidence], known: Parameters) -> None:
        self.evidence, self.known = evidence, known
        self._factors: dict[tuple[str, str, float, float], Float64] = {}
        self._temper = {e.key: self._tempered(e) for e in evidence}
        peaks = {e.key: self._peak(e) for e in evidence}
        cap = known.model.measurement_cap
        fits = {e.key: e.fits for e in evidence}
        for asked, factor in self._factors.items():
            a, b = fits[asked[0]][asked[1]]
            excess = 1 - min(1.0, cap / max(peaks[asked[0]], 1e-9))
            best_size = self._temper[asked[0]] * 0.5 * a**2 / b
            self._factors[asked] = np.maximum(factor - excess * best_size, -100.0)
        self.asked = [state for state, kind in known.classes.items() if self._may_be_asked(state, kind)]
        self._sums = {state: self._by_sensor(kind) for state, kind in known.classes.items()}
        self._aside = {e.key: self._artefact(e) for e in evidence}

    def _tempered(self, e: Evidence) -> float:
        """What the log Bayes factors of a measurement are multiplied by."""
        model = self.known.model
        heavy_tailed = model.energy_temper if e.feature.endswith(ENERGIES) else 1.0
        return model.temper * heavy_tailed * e.n_before / (e.n_before + model.few_dates)

    def _may_be_asked(self, state: State, kind: Class) -> bool:
        """Only what has a sign measured on the ground can be called: lights alone say only that the lights changed."""
        signs = [e for e in self.evidence if e.measure in kind.signs]
        return bool(signs) and (state is State.LIGHTS_ONLY or any(e.kind != LIGHTS for e in signs))

    def _peak(self, e: Evidence) -> float:
        """Most that a measurement says for any class, artefact or outage; fills the store of factors."""
        asked = [("step", *self._any_step(e))]
        if e.kind == LIGHTS:
            asked += [(shape, *OUTAGE) for shape in SHAPES["outage"]]
        for kind in self.known.classes.values():
            if expected := kind.signs.get(e.measure):
                asked += [(shape, expected.mean, expected.spread) for shape in SHAPES[kind.shape]]
            if expected := kind.later.get(e.measure):
                asked.append(("regrowth", expected.mean, expected.spread))
        for shape, mean, spread in asked:
            factor = self._temper[e.key] * log_bayes_factor(e.fits[shape], mean, spread)
            self._factors[e.key, shape, mean, spread] = factor
        return max(float(self._factors[e.key, *one].max()) for one in asked)

    @staticmethod
    def _any_step(e: Evidence) -> tuple[float, float]:
        """Mean and spread of an artefact: lights that fall for long are a state of their own, so theirs is a rise."""
        return (2.0, 3.0) if e.kind == LIGHTS else (0.0, 3.0)

    def _artefact(self, e: Evidence) -> tuple[float, float]:
        """Log likelihood ratios of a step of either sign, and of a short outage of the lights, at any date."""
        n = np.log(e.taus.size)
        artefact = float(logsumexp(self._factors[e.key, "step", *self._any_step(e)])) - n
        if e.kind != LIGHTS:
            return artefact, 0.0
        dark = [self._factors[e.key, shape, *OUTAGE] for shape in SHAPES["outage"]]
        outage = float(logsumexp(dark)) - n - np.log(len(dark))
        share = self.known.model.outage_share
        return artefact, float(np.logaddexp(np.log1p(-share), np.log(share) + outage))

    def part(self, e: Evidence, shape: str, expected: Expected) -> Float64:
        """What one measurement says for one way of changing, by date (m,): it shows the change or is blind to it."""
        shows = expected.shows * min(1.0, e.own_share / self.known.model.whole_share)
        blind = np.log1p(-shows) if shows < 1 else -np.inf
        factor = self._factors[e.key, shape, expected.mean, expected.spread]
        return np.asarray(np.logaddexp(blind, np.log(shows) + factor))

    def _by_sensor(self, kind: Class) -> dict[str, Float64]:
        """What the signs of each sensor say together for a class, by way and date: float64 (ways, m)."""
        sums: dict[str, list[Float64]] = {}
        for way in SHAPES[kind.shape]:
            signs = [e for e in self.evidence if e.measure in kind.signs]
            parts = self._accompanied({e.key: self.part(e, way, kind.signs[e.measure]) for e in signs}, kind)
            for sensor in {e.sensor for e in self.evidence if e.key in parts}:
                own = [parts[e.key] for e in self.evidence if e.sensor == sensor and e.key in parts]
                sums.setdefault(sensor, []).append(np.sum(own, axis=0))
        return {sensor: np.asarray(ways) for sensor, ways in sums.items()}

    def _accompanied(self, parts: Mapping[str, Float64], kind: Class) -> dict[str, Float64]:
        """The same with the limit that nobody speaks alone of pixels that moved, or of roofs that came or went.

        Persistent energies speak of few pixels: where the whole site, other images and other sensors saw nothing, it
        may be a field whose crop came late. What the energies of the same images say is no second opinion, nor is what
        their means say of one another; but where one look is all there is, each of its measurements may second another.
        Where nobody sees the ground there is nothing to wait for.
        """
        if not any(e.kind != LIGHTS for e in self.evidence if e.key in parts):
            return dict(parts)
        signs = [e for e in self.evidence if e.key in parts]
        one_eye = len({(e.sensor, e.look) for e in signs if e.kind != LIGHTS}) == 1
        groups = {e.key: (e.sensor, e.look if not one_eye else e.key, e.feature.endswith(ENERGIES)) for e in signs}
        own: dict[tuple[str, str, bool], Float64] = {}
        for key, part in parts.items():
            own[groups[key]] = own.get(groups[key], 0.0) + part
        total, alone = np.sum(list(parts.values()), axis=0), self.known.model.alone
        weight = 2 if kind.structural else 1  # roofs that went say more of what happened than of whether
        return {
            key: np.minimum(part, alone + weight * np.maximum(0, total - own[groups[key]]))
            if kind.structural or groups[key][-1]
            else part
            for key, part in parts.items()
        }

    def likelihood(self, state: State) -> Float64:
        """Log likelihood ratio of one class by way and date, float64 (ways, m).

        All signs change in the same way at the same date. What comes ``later`` (regrowth) follows at any later date: it
        supports what the signs say, within ``support``, and says nothing of the date.
        """
        kind = self.known.classes[state]
        total = np.zeros((len(SHAPES[kind.shape]), self.evidence[0].taus.size))
        for sensor, ways in self._sums[state].items():
            peak = max(float(sums[sensor].max()) for sums in self._sums.values() if sensor in sums)
            total = total + ways - max(0.0, peak - self.known.model.sensor_cap)
        later = np.zeros(self.evidence[0].taus.size)
        for e in self.evidence:
            if e.measure in kind.later:
                later += np.maximum.accumulate(self.part(e, "regrowth", kind.later[e.measure])[::-1])[::-1]
        return np.asarray(total + np.minimum(later, self.known.model.support * np.maximum(total, 0)))

    def untold(self, told: set[str]) -> float:
        """Log likelihood ratio of what a class says nothing of: one artefact or none, and short outages of lights."""
        left = [factors for key, factors in self._aside.items() if key not in told]
        if not left:
            return 0.0
        share = self.known.model.artefact_share
        any_one = float(logsumexp([artefact for artefact, _ in left])) - np.log(len(left))
        return float(np.logaddexp(np.log1p(-share), np.log(share) + any_one)) + sum(outage for _, outage in left)

    def told(self, state: State) -> set[str]:
        """Keys of the measurements that a class says something of."""
        kind = self.known.classes[state]
        return {e.key for e in self.evidence if e.measure in kind.signs or e.measure in kind.later}


def posterior(weighing: Weighing) -> Posterior:
    """Probabilities of the states from the evidence of all measurements of a site."""
    prior = weighing.known.prior
    ways: dict[State, Float64] = {}
    for state in weighing.known.classes:
        likelihood = weighing.likelihood(state)
        ways[state] = (
            np.log(prior[state]) - np.log(likelihood.size) + likelihood + weighing.untold(weighing.told(state))
        )
    logs = {State.UNCHANGED: float(np.log(prior[State.UNCHANGED])) + weighing.untold(set())}
    # A state of which nothing was measured stays as probable as it was before.
    logs |= {state: float(logsumexp(weights)) for state, weights in ways.items()}
    total = float(logsumexp(list(logs.values())))
    probability = {state: float(np.exp(logs[state] - total)) if state in logs else 0.0 for state in State}
    if not any(e.n_controls for e in weighing.evidence):
        # With nothing beside it, what moved a site may as well have moved all around it.
        share = weighing.known.model.unaccompanied
        probability = {state: (1 - share) * p + share * prior.get(state, 0.0) for state, p in probability.items()}
    taus = weighing.evidence[0].taus.astype(np.float64)
    told = {state: ways[state] for state in weighing.asked}
    return Posterior(probability, told, taus, weighing.known.model.date_temper)


def contributions(weighing: Weighing, found: Posterior, state: State) -> dict[str, float]:
    """What each measurement adds to the log odds of ``state`` against no change, at the state's most probable date."""
    kind = weighing.known.classes[state]
    way, at = np.unravel_index(int(np.argmax(found.ways[state])), found.ways[state].shape)
    shape = SHAPES[kind.shape][int(way)]
    told = {}
    for e in weighing.evidence:
        if expected := kind.signs.get(e.measure):
            told[e.key] = float(weighing.part(e, shape, expected)[at])
        elif expected := kind.later.get(e.measure):
            told[e.key] = float(weighing.part(e, "regrowth", expected)[int(at) :].max())
    return told


def date_interval(weights: Float64, days: Float64, usable: Sequence[int], level: float = 0.9) -> tuple[int, int, int]:
    """Median and central interval of a date, widened to the views that enclose it.

    Between two views nothing is known of the date, so the interval starts at the last view before it and ends at the
    first view after.

    Parameters
    ----------
    weights : float64 (m,), probability of each of ``days`` (m,), which are sorted.
    usable : days on which the site was seen, sorted.
    """
    rising = np.cumsum(weights)
    places = [min(int(np.searchsorted(rising, q)), days.size - 1) for q in ((1 - level) / 2, 0.5, (1 + level) / 2)]
    low, middle, high = (int(days[k]) for k in places)
    seen = np.asarray(usable)
    earlier, later = seen[seen < low], seen[seen >= high]
    earliest = int(earlier[-1]) if earlier.size else low
    latest = int(later[0]) if later.size else high
    return min(max(middle, earliest), latest), earliest, latest


def back_again(found: Posterior) -> int:
    """Median day on which a re-occupied site was used again: a departure plus the length of the pause."""
    lengths = np.array([int(way.removeprefix("pulse")) for way in SHAPES["pulse"]])
    days = (found.taus[None, :] + lengths[:, None]).ravel()
    weights = found.ways_and_dates(State.REOCCUPIED).ravel()
    order = np.argsort(days, kind="stable")
    return int(days[order][np.searchsorted(np.cumsum(weights[order]), 0.5)])


def smallest_detectable(e: Evidence, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest fall (fraction 0-1) of a log measurement seen with this power at this one-sided level.

    From the site's own noise; the median over the dates tried.
    """
    _, b = e.fits["step"]
    size = (norm.isf(alpha) + norm.isf(1 - power)) / np.sqrt(b) * e.white
    return float(-np.expm1(-np.median(size)))


def stayed(e: Evidence, limit: float, alpha: float = 0.05) -> bool:
    """Whether a fall of a log measurement by ``limit`` (fraction) or more is excluded at several dates.

    The equivalence test of Schuirmann (1987, doi:10.1007/BF01068419), one-sided, since it is a fall that must not be
    missed; it has to hold from each of CHECKED_AT on, so no multiplicity arises (intersection-union).
    """
    a, b = e.fits["step"]
    at = (np.array(CHECKED_AT) * (e.taus.size - 1)).astype(int)
    lowest = (a[at] / b[at] - norm.isf(alpha) / np.sqrt(b[at])) * e.white
    return bool((lowest > np.log1p(-limit)).all())


def combined_p(tested: Sequence[float]) -> float | None:
    """One p-value from dependent ones: Cauchy combination (Liu and Xie 2020, doi:10.1080/01621459.2018.1554485)."""
    if not tested:
        return None
    clipped = np.clip(tested, 1e-15, 1 - 1e-9)
    return float(cauchy.sf(np.mean(cauchy.isf(clipped))))


def site_effect(site_id: str, unit: str, e: Evidence) -> SiteEffect:
    """The best step of one measurement, in its own unit."""
    a, b = e.fits["step"]
    best = int(np.argmax(np.abs(a) / np.sqrt(b)))
    size, error = float(a[best] / b[best]) * e.white, float(1 / np.sqrt(b[best])) * e.white
    return SiteEffect(
        site_id=site_id,
        sensor=e.sensor,
        feature=e.feature,
        look=e.look,
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


@dataclass(frozen=True)
class Seen:
    """How a site was seen: usable days per sensor, mean valid fraction (0-1 or None), and the sensors."""

    days: Mapping[str, Sequence[int]]
    valid_fraction: float | None
    sensors: tuple[Sensor, ...]

    @property
    def all_days(self) -> list[int]:
        """Days on which any sensor saw the site, sorted."""
        return sorted({day for days in self.days.values() for day in days})

    def of_ground(self) -> list[int]:
        """Days on which a sensor that sees more than lights saw the site, sorted."""
        ground = [s.name for s in self.sensors if s.kind != LIGHTS]
        return sorted({day for name in ground for day in self.days.get(name, ())})


def site_state(
    site_id: str,
    evidence: Sequence[Evidence],
    seen: Seen,
    reference_end: int,
    as_of: dt.date,
    settings: ScoreSettings,
    known: Parameters,
) -> SiteState:
    """The answer for one site.

    NOT_OBSERVABLE until there is evidence: when views are too few, when neither a change nor its absence is probable
    enough, and when a fall of activity above ``settings.max_min_detectable`` cannot be excluded. ``q_value`` is filled
    in by ``score_sites``, which knows all sites.
    """
    weighing = Weighing(evidence, known) if evidence else None
    found = posterior(weighing) if weighing else None
    activity = [e for e in evidence if e.feature == ACTIVITY]
    detectable = min((smallest_detectable(e) for e in activity), default=None)
    p_value = combined_p([e.p_value for e in evidence if e.p_value is not None])
    n_controls = max((e.n_controls for e in evidence), default=0)
    ground = seen.of_ground()
    n_before = sum(d < reference_end for d in ground)
    views = wording.Views(len(ground), n_before, len(ground) - n_before, n_controls, detectable)
    enough = n_before >= settings.min_views_before and views.n_after >= settings.min_views_after
    state, problem = State.NOT_OBSERVABLE, ""
    if found is None or not (enough or _dark(found) >= settings.probability_called):
        problem, found = wording.too_few_views(views, settings.min_views_before, settings.min_views_after), None
    else:
        state, problem = _call(found, activity, views, p_value, settings, known)
    used = tuple(s for s in seen.sensors if any(e.sensor == s.name for e in evidence))
    change, reason = _Change(), problem
    if found and state in found.ways:
        change = _change(found, state, seen)
        reason = wording.called(state, found.probability, change.dates, views, used)
    elif found and not problem:
        reason = wording.called(state, found.probability, change.dates, views, used)
    days = seen.all_days
    return SiteState(
        site_id=site_id,
        as_of=as_of,
        state=state,
        probability=dict(found.probability) if found else {},
        score=100 * (1 - found.probability[State.UNCHANGED]) if found else None,
        change_date=change.dates[0],
        change_date_earliest=change.dates[1],
        change_date_latest=change.dates[2],
        p_value=p_value if found else None,
        q_value=None,
        n_views=len(days),
        n_before=sum(d < reference_end for d in days),
        n_after=sum(d >= reference_end for d in days),
        n_controls=n_controls,
        valid_fraction=seen.valid_fraction,
        min_detectable=detectable,
        sensors=tuple(s.name for s in used),
        reason=reason,
        change_dates=change.probabilities,
        back_date=change.back,
        contributions=_contributions(weighing, found, state) if weighing and found else {},
    )


def _dark(found: Posterior) -> float:
    """Probability that the lights fell, as far as that needs no view of the ground."""
    return 1 - found.probability[State.UNCHANGED] if found.dark_only else found.probability[State.LIGHTS_ONLY]


def _contributions(weighing: Weighing, found: Posterior, state: State) -> dict[str, float]:
    """For the state itself, or for the most probable change where none is called."""
    if not found.ways:
        return {}
    likeliest = max(found.ways, key=lambda s: found.probability[s])
    return contributions(weighing, found, state if state in found.ways else likeliest)


def _call(
    found: Posterior,
    activity: Sequence[Evidence],
    views: wording.Views,
    p_value: float | None,
    settings: ScoreSettings,
    known: Parameters,
) -> tuple[State, str]:
    """The state that may be said, or NOT_OBSERVABLE and why."""
    unchanged = found.probability[State.UNCHANGED]
    if 1 - unchanged >= settings.probability_called:
        return _kind(found, settings), ""
    # Where no lights were seen a power cut is not asked for, and stands in the way of no other answer.
    asked = 1.0 if State.LIGHTS_ONLY in found.ways else 1 - found.probability[State.LIGHTS_ONLY]
    if unchanged < known.model.unchanged * asked:
        return State.NOT_OBSERVABLE, wording.inconclusive(1 - unchanged / asked)
    if p_value is not None and p_value < known.model.unexplained:
        return State.NOT_OBSERVABLE, wording.unexplained(p_value)
    if not any(stayed(e, settings.max_min_detectable) for e in activity):
        return State.NOT_OBSERVABLE, wording.too_noisy(views, settings.max_min_detectable)
    return State.UNCHANGED, ""


def _kind(found: Posterior, settings: ScoreSettings) -> State:
    """Which change: the most probable, but a departure that may be a power cut is said to be lights only."""
    best = max(found.ways, key=lambda s: found.probability[s])
    dark = found.probability[State.LIGHTS_ONLY]
    doubtful = best in (State.EMPTIED, State.REOCCUPIED) and found.probability[best] < settings.probability_called
    cut = State.LIGHTS_ONLY in found.ways and dark > 0.5 * found.probability[best]
    return State.LIGHTS_ONLY if doubtful and cut else best


@dataclass(frozen=True)
class _Change:
    """Date of a change with its interval, its posterior, and the date of return; empty where there is none."""

    dates: tuple[dt.date | None, dt.date | None, dt.date | None] = (None, None, None)
    probabilities: Mapping[dt.date, float] = field(default_factory=dict)
    back: dt.date | None = None


def _change(found: Posterior, state: State, seen: Seen) -> _Change:
    weights = found.dates(state)
    middle, earliest, latest = date_interval(weights, found.taus, seen.all_days)
    kept = {_date(int(day)): float(w) for day, w in zip(found.taus, weights, strict=True) if w > 1e-6}
    back = _date(back_again(found)) if state is State.REOCCUPIED else None
    return _Change((_date(middle), _date(earliest), _date(latest)), kept, back)


def _date(day: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(days=day)

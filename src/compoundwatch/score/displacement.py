"""Displacement: did the sites of an event fall while others rose, soon after, and how far away?

Three questions must all be answered by yes, so the p-value is the largest of three (intersection-union test; Berger
1982, doi:10.1080/00401706.1982.10487790):

1. did the sites of the event fall more than at random dates?
2. did the others rise more than at random dates, within the same time after a fall?
3. is it these sites, rather than any as many, that divide falling from rising?

For the first two, each site's steps are shifted in time, round and round, by a random amount of its own: that keeps how
each wanders, and few years of one date after another, which are alike, become many independent dates. Sites that wander
together, which such shifts would hide, lower the observed sizes by as much as their mean wandered more in the past than
that of independent ones. The third question draws the labels anew. No p-value is ever 0: the true date or labelling
counts among the drawn ones (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from compoundwatch.formulas import MAD_TO_SIGMA
from compoundwatch.model import BoolArray, Displacement, Event, Receiver, Site
from compoundwatch.score.dates import Float64, day_number
from compoundwatch.score.panel import Panel, panel
from compoundwatch.score.series import ACTIVITY
from compoundwatch.score.verdicts import concerns

EARTH_KM = 6371.0088
"""Mean radius of the Earth (IUGG)."""
LIMIT = 0.05
"""P-value up to which the measurements are called consistent with displacement."""
LAG_DRAWS = 500
LAG_LEVEL = 0.9
MOST_RECEIVERS = 10


@dataclass(frozen=True)
class DisplacementSettings:
    """Spans of a displacement test, in days, and the least that is worth testing.

    Activity is averaged over ``bin_days``. A step is the mean over ``window_days`` after a date minus that over as many
    before. The fall is looked for from ``lead_days`` before the first to ``late_days`` after the last day of the event,
    since departures come early; the rise from the fall to ``lag_days`` later. Fewer than ``min_treated`` sites of the
    event, ``min_others`` other sites, ``min_choices`` ways of choosing the sites or ``min_past_days`` of steps before
    are not tested: chance alone could not be ruled out at LIMIT. ``draws`` is the number of random dates and of random
    labels.
    """

    bin_days: int = 10
    window_days: int = 60
    lead_days: int = 30
    late_days: int = 30
    lag_days: int = 60
    min_treated: int = 3
    min_others: int = 3
    min_choices: int = 20
    min_past_days: int = 360
    draws: int = 999


@dataclass(frozen=True)
class _Search:
    """Where fall and rise are looked for, in spans relative to the first span of an event."""

    window: int
    first: int
    last: int
    lag: int

    @property
    def reach(self) -> int:
        """First span after everything that is looked at."""
        return self.last + self.lag + self.window


@dataclass(frozen=True)
class _Found:
    """Size (pooled, standardised, positive = as expected) and span of fall and rise; sizes NaN = not seen."""

    fall: float
    rise: float
    fall_at: int
    rise_at: int


def displacement(
    series: pd.DataFrame,
    sites: Sequence[Site],
    event: Event,
    rng: np.random.Generator,
    settings: DisplacementSettings = DisplacementSettings(),
    feature: str = ACTIVITY,
    sensor: str | None = None,
) -> Displacement:
    """Test whether the sites of an event fell while all other sites rose.

    Parameters
    ----------
    series : columns of ``model.SERIES_COLUMNS``, sites and controls together.
    sites : all sites, those of the event and those that may have received.
    rng : source of the random labels and of the resampled sites.
    sensor : None = the one with the most measurements of the feature.
    """
    whole = panel(series, sites, feature, settings.bin_days, day_number(event.earliest), sensor)
    return of_panel(whole, sites, event, rng, settings, feature)


def of_panel(
    whole: Panel,
    sites: Sequence[Site],
    event: Event,
    rng: np.random.Generator,
    settings: DisplacementSettings = DisplacementSettings(),
    feature: str = ACTIVITY,
) -> Displacement:
    """The test of ``displacement`` on differences to controls, in spans of which one starts with the event."""
    treated = np.array([concerns(event, site_id) for site_id in whole.site_ids], dtype=bool)
    search, zero = _search(event, settings), int(np.searchsorted(whole.starts, day_number(event.earliest)))
    past = max(0, zero + search.first - 2 * search.window + 1)
    names = np.array(whole.site_ids, dtype=object)
    problem = _untestable(treated, past, zero + search.reach <= whole.starts.size, event, settings)
    if problem:
        return _untested(event, whole.sensor, feature, names, treated, problem)
    steps = _standardised(_steps(whole.values, search.window))
    found = _find(steps, treated, zero, search)
    if not np.isfinite(found.fall + found.rise):
        problem = f"Not testable: too few sites were seen around {event.event_id}."
        return _untested(event, whole.sensor, feature, names, treated, problem)
    excess = [_excess(_pool(steps, group.astype(np.float64)), search.window, past) for group in (treated, ~treated)]
    at_random = _random_dates(steps, treated, zero, search, settings.draws, rng)
    p_fall = _rank(found.fall / excess[0], np.array([r.fall for r in at_random]))
    p_rise = _rank(found.rise / excess[1], np.array([r.rise for r in at_random]))
    p_labels, n_labels = _label_rank(steps, treated, zero, search, found, settings.draws, rng)
    p_value = max(p_fall, p_rise, p_labels)
    lag = (found.rise_at - found.fall_at) * whole.width
    lag_low, lag_high = _lag_interval(steps, treated, zero, search, rng)
    receivers, km = _receivers(whole, sites, treated, steps[:, found.rise_at])
    begin = "Consistent with displacement" if p_value <= LIMIT else "Inconclusive about displacement"
    fall_days = int(whole.starts[found.fall_at]) - day_number(event.earliest)
    return Displacement(
        event_id=event.event_id,
        sensor=whole.sensor,
        feature=feature,
        treated=tuple(names[treated]),
        others=tuple(names[~treated]),
        testable=True,
        p_value=p_value,
        p_fall=p_fall,
        p_rise=p_rise,
        p_labels=p_labels,
        fall=found.fall,
        rise=found.rise,
        fall_days=fall_days,
        lag_days=lag,
        lag_low=lag_low * whole.width,
        lag_high=lag_high * whole.width,
        km=km,
        n_random_dates=settings.draws,
        n_relabellings=n_labels,
        receivers=receivers,
        reason=(
            f"{begin}: p {p_value:.2g} that {int(treated.sum())} sites of {event.event_id} fell ({p_fall:.2g}), "
            f"{int((~treated).sum())} others rose ({p_rise:.2g}) and the event divides them ({p_labels:.2g}); rise "
            f"{lag} days after the fall ({lag_low * whole.width} to {lag_high * whole.width})"
            + ("" if km is None else f", {km:.0f} km away on average")
            + "; who moved, or whether anybody did, is not seen."
        ),
    )


def _search(event: Event, settings: DisplacementSettings) -> _Search:
    width = settings.bin_days
    span = -(-(event.latest - event.earliest).days // width)
    return _Search(
        window=max(1, settings.window_days // width),
        first=-(settings.lead_days // width),
        last=span + settings.late_days // width,
        lag=settings.lag_days // width,
    )


def _untestable(treated: BoolArray, past: int, seen_after: bool, event: Event, settings: DisplacementSettings) -> str:
    """Why a test would say nothing; empty where it may say something. ``past`` counts the steps before the event."""
    n, m = int(treated.sum()), int((~treated).sum())
    if n < settings.min_treated or m < settings.min_others or math.comb(n + m, n) < settings.min_choices:
        return (
            f"Not testable: {n} sites of {event.event_id} and {m} others with controls, where {settings.min_treated} "
            f"and {settings.min_others} are needed."
        )
    if not seen_after:
        return f"Not testable: the series end too soon after {event.event_id}."
    if past * settings.bin_days < settings.min_past_days:
        return (
            f"Not testable: the series begin too late to know how sites wander before {event.event_id}; "
            f"{settings.min_past_days} days of steps are needed."
        )
    return ""


def _steps(values: Float64, window: int) -> Float64:
    """Mean of the ``window`` spans from each on minus that of as many before; NaN where half of either is missing."""
    known = np.isfinite(values)
    total = np.concatenate([np.zeros((len(values), 1)), np.cumsum(np.where(known, values, 0), axis=1)], axis=1)
    count = np.concatenate([np.zeros((len(values), 1)), np.cumsum(known, axis=1)], axis=1)
    steps = np.full(values.shape, np.nan)
    at = np.arange(window, values.shape[1] - window + 1)
    after, before = (count[:, at + window] - count[:, at], count[:, at] - count[:, at - window])
    enough = np.minimum(after, before) * 2 >= window
    sums = (total[:, at + window] - total[:, at], total[:, at] - total[:, at - window])
    steps[:, at] = np.where(enough, sums[0] / np.maximum(after, 1) - sums[1] / np.maximum(before, 1), np.nan)
    return steps


def _standardised(steps: Float64) -> Float64:
    """Steps in units of the site's own usual step (root of the mean square, robustly); NaN where it has none.

    All dates count, those of the event too: a scale from the past alone would be known worse than it looks, and every
    later step would seem large.
    """
    usual = MAD_TO_SIGMA * np.array(
        [np.median(np.abs(row[np.isfinite(row)])) if np.isfinite(row).any() else 0.0 for row in steps]
    )
    return np.where(usual[:, None] > 0, steps / np.where(usual > 0, usual, 1)[:, None], np.nan)


def _pool(steps: Float64, weights: Float64) -> Float64:
    """Sum of steps over the root of their number (Stouffer), with a count per site; NaN with fewer than half of them.

    ``weights`` float64 (..., n_sites): how often each site counts. Gives (..., n_spans).
    """
    known = np.isfinite(steps)
    count = weights @ known
    enough = count * 2 >= np.maximum(weights.sum(axis=-1, keepdims=True), 2)
    return np.where(enough, weights @ np.where(known, steps, 0) / np.sqrt(np.maximum(count, 1)), np.nan)


def _find(steps: Float64, treated: BoolArray, date: int, search: _Search) -> _Found:
    """The largest fall of the treated around a date, and the largest rise of the others from there on."""
    return _largest(_pool(steps, treated.astype(np.float64)), _pool(steps, (~treated).astype(np.float64)), date, search)


def _largest(falling: Float64, rising: Float64, date: int, search: _Search) -> _Found:
    fall_at, fall = _peak(-falling, date + search.first, date + search.last)
    rise_at, rise = _peak(rising, fall_at, fall_at + search.lag)
    return _Found(fall, rise, fall_at, rise_at)


def _peak(curve: Float64, first: int, last: int) -> tuple[int, float]:
    part = np.where(np.isfinite(curve[first : last + 1]), curve[first : last + 1], -np.inf)
    best = int(np.argmax(part))
    return first + best, float(part[best]) if np.isfinite(part[best]) else np.nan


def _excess(pooled: Float64, first: int, past: int) -> float:
    """How much more the pooled steps of a group wandered before the event than those of independent sites; 1 or more.

    Pooled steps of independent sites have a mean square of 1.
    """
    before = pooled[first : first + past]
    before = before[np.isfinite(before)]
    return max(1.0, float(np.sqrt(np.mean(before**2)))) if before.size else 1.0


def _random_dates(
    steps: Float64, treated: BoolArray, date: int, search: _Search, draws: int, rng: np.random.Generator
) -> list[_Found]:
    """Fall and rise around a date after each site's steps were shifted round by a random amount."""
    columns = np.flatnonzero(np.isfinite(steps).any(axis=0))
    first, n = int(columns[0]), int(columns[-1] - columns[0]) + 1
    weights = np.stack([treated, ~treated]).astype(np.float64)
    rows = np.arange(treated.size)[:, None]
    found, shifted = [], steps.copy()
    for _ in range(draws):
        turned = first + (np.arange(n)[None, :] + rng.integers(0, n, treated.size)[:, None]) % n
        shifted[:, first : first + n] = steps[rows, turned]
        falling, rising = _pool(shifted, weights)
        found.append(_largest(falling, rising, date, search))
    return found


def _rank(observed: float, drawn: Float64) -> float:
    """Share of drawn values as large or larger, the observed one among them."""
    known = drawn[np.isfinite(drawn)]
    return float((1 + (known >= observed - 1e-12).sum()) / (1 + known.size))


def _label_rank(
    steps: Float64, treated: BoolArray, date: int, search: _Search, found: _Found, most: int, rng: np.random.Generator
) -> tuple[float, int]:
    """Rank of fall plus rise among all choices of as many sites, or ``most`` random ones; and their number."""
    n, k = treated.size, int(treated.sum())
    exhaustive = math.comb(n, k) <= most
    if exhaustive:
        labels = np.zeros((math.comb(n, k), n), dtype=bool)
        for row, chosen in enumerate(itertools.combinations(range(n), k)):
            labels[row, list(chosen)] = True
    else:
        labels = rng.permuted(np.tile(treated, (most, 1)), axis=1)
    falling, rising = _pool(steps, labels.astype(np.float64)), _pool(steps, (~labels).astype(np.float64))
    drawn = [_largest(f, r, date, search) for f, r in zip(falling, rising, strict=True)]
    sums = np.array([d.fall + d.rise for d in drawn])
    if exhaustive:  # the true labels are among them
        known = sums[np.isfinite(sums)]
        return float((known >= found.fall + found.rise - 1e-12).mean()), int(known.size)
    return _rank(found.fall + found.rise, sums), int(np.isfinite(sums).sum())


def _lag_interval(
    steps: Float64, treated: BoolArray, date: int, search: _Search, rng: np.random.Generator
) -> tuple[int, int]:
    """Interval of the lag in spans, from sites drawn with replacement (Efron 1979, doi:10.1214/aos/1176344552)."""
    lags = []
    groups = [np.flatnonzero(treated), np.flatnonzero(~treated)]
    for _ in range(LAG_DRAWS):
        weights = np.zeros((2, treated.size))
        for row, group in zip(weights, groups, strict=True):
            np.add.at(row, rng.choice(group, group.size), 1)
        falling, rising = _pool(steps, weights)
        drawn = _largest(falling, rising, date, search)
        if np.isfinite(drawn.fall + drawn.rise):
            lags.append(drawn.rise_at - drawn.fall_at)
    low, high = np.quantile(lags, [(1 - LAG_LEVEL) / 2, (1 + LAG_LEVEL) / 2], method="inverted_cdf")
    return int(low), int(high)


def _receivers(
    whole: Panel, sites: Sequence[Site], treated: BoolArray, rises: Float64
) -> tuple[tuple[Receiver, ...], float | None]:
    """The others by the size of their rise with the nearest site of the event; mean distance weighted by the rises."""
    places = {s.site_id: s.geometry.centroid for s in sites}
    sources = [site_id for site_id, is_treated in zip(whole.site_ids, treated, strict=True) if is_treated]
    rows = []
    for site_id, is_treated, rise in zip(whole.site_ids, treated, rises, strict=True):
        if is_treated or not rise > 0:
            continue
        here = places[site_id]
        km, nearest = min((distance_km(here.x, here.y, places[s].x, places[s].y), s) for s in sources)
        rows.append(Receiver(site_id, float(rise), nearest, km))
    rows.sort(key=lambda r: -r.rise)
    total = sum(r.rise for r in rows)
    mean = sum(r.rise * r.km for r in rows) / total if total > 0 else None
    return tuple(rows[:MOST_RECEIVERS]), mean


def distance_km(lon_a: float, lat_a: float, lon_b: float, lat_b: float) -> float:
    """Great-circle distance of two points (degrees) in kilometres, on a sphere (within 0.6 % of the ellipsoid)."""
    a, b = math.radians(lat_a), math.radians(lat_b)
    half = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(math.radians(lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, half)))


def _untested(
    event: Event,
    sensor: str,
    feature: str,
    names: np.ndarray[tuple[int], np.dtype[np.object_]],
    treated: BoolArray,
    reason: str,
) -> Displacement:
    return Displacement(
        event_id=event.event_id,
        sensor=sensor,
        feature=feature,
        treated=tuple(names[treated]),
        others=tuple(names[~treated]),
        testable=False,
        p_value=None,
        p_fall=None,
        p_rise=None,
        p_labels=None,
        fall=None,
        rise=None,
        fall_days=None,
        lag_days=None,
        lag_low=None,
        lag_high=None,
        km=None,
        n_random_dates=0,
        n_relabellings=0,
        receivers=(),
        reason=reason,
    )

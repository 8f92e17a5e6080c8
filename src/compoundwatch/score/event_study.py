"""The sites of one event pooled: how far they moved from their controls, span by span before and after it.

With one event, untouched controls and every site compared with its own past, the estimate is a mean of differences of
differences, the case in which the estimators of Callaway and Sant'Anna (2021, doi:10.1016/j.jeconom.2020.12.001) and
of Borusyak, Jaravel and Spiess (2024, doi:10.1093/restud/rdae007) agree. Each site gives one number, so whatever its
errors share over time is in the spread between sites: standard errors are clustered by site (Liang and Zeger 1986,
doi:10.1093/biomet/73.1.13; Bertrand, Duflo and Mullainathan 2004, doi:10.1162/003355304772839588), with Student's t of
n - 1 degrees of freedom because sites are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from compoundwatch.model import Event, EventStudy, EventStudyBin, Site
from compoundwatch.score.dates import Float64, day_number
from compoundwatch.score.panel import Panel, panel
from compoundwatch.score.series import ACTIVITY
from compoundwatch.score.verdicts import concerns

LEVEL = 0.95
TREND_DAYS = 30.0
"""Pre-trends are slopes over so many days."""
PLACEBO_LIMIT, TREND_LIMIT = 0.1, 0.05
"""An effect counts up to this rank among placebo dates; below this p-value sites and controls were not parallel."""


@dataclass(frozen=True)
class StudySettings:
    """Spans of an event study, all in days.

    ``bin_days`` is the width of a span. Sites are compared with their own mean from ``before_days`` to
    ``anticipation_days`` before the event: the days just before it do not count as "before", since departures came
    first. The effect is the mean over ``after_days`` from the last day of the event on. Fewer than ``min_sites`` sites
    are not pooled.
    """

    bin_days: int = 15
    before_days: int = 360
    anticipation_days: int = 30
    after_days: int = 90
    min_sites: int = 4


@dataclass(frozen=True)
class _Window:
    """Indices of the spans of a panel: reference, just before the event, and after it."""

    reference: npt.NDArray[np.int64]
    ahead: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]

    def fits(self, n: int) -> bool:
        return bool(self.reference[0] >= 0 and self.after[-1] < n)

    def moved(self, spans: int) -> _Window:
        return _Window(self.reference + spans, self.ahead + spans, self.after + spans)


def event_study(
    series: pd.DataFrame,
    sites: Sequence[Site],
    event: Event,
    settings: StudySettings = StudySettings(),
    feature: str = ACTIVITY,
    sensor: str | None = None,
) -> EventStudy:
    """Mean difference of the sites of an event to their controls, by time relative to it.

    Parameters
    ----------
    series : columns of ``model.SERIES_COLUMNS``, sites and controls together.
    sites : all sites; those that the event concerns are pooled.
    sensor : None = the one with the most measurements of the feature.
    """
    ours = [s for s in sites if concerns(event, s.site_id)]
    origin = day_number(event.earliest)
    whole = panel(series, ours, feature, settings.bin_days, origin, sensor)
    window = _window(whole, event, settings)
    if window is not None:
        per_site = _effects(whole.values, window)
        seen = [k for k, value in enumerate(per_site) if np.isfinite(value)]
    if window is None or len(seen) < settings.min_sites:
        n = 0 if window is None else len(seen)
        why = f"Not testable: {n} sites of {event.event_id} were seen often enough before and after it"
        return _untested(event, whole.sensor, feature, f"{why}, where {settings.min_sites} are needed.")
    used = Panel(whole.sensor, tuple(whole.site_ids[k] for k in seen), whole.starts, whole.width, whole.values[seen])
    mean, error, low, high, p = pooled(_effects(used.values, window))
    placebos = _placebos(used, window)
    placebo_p = (1 + sum(abs(e) >= abs(mean) - 1e-12 for e in placebos)) / (1 + len(placebos)) if placebos else None
    pre_trend_p = pooled(_slopes(used, window))[4]
    return EventStudy(
        event_id=event.event_id,
        sensor=used.sensor,
        feature=feature,
        site_ids=used.site_ids,
        testable=True,
        bins=_bins(used, window, origin),
        effect=mean,
        std_error=error,
        low=low,
        high=high,
        p_value=p,
        pre_trend_p=None if np.isnan(pre_trend_p) else pre_trend_p,
        placebo_p=placebo_p,
        placebo_effects=tuple(placebos),
        reason=_reason(event, feature, len(seen), (mean, low, high), pre_trend_p, placebo_p),
    )


def pooled(values: Float64, level: float = LEVEL) -> tuple[float, float, float, float, float]:
    """Mean of ``values`` (sites,), its standard error, interval and two-sided p-value against 0 (Student's t, n - 1).

    NaN values do not count; all NaN but the mean with fewer than two.
    """
    known = values[np.isfinite(values)]
    n = known.size
    mean = float(known.mean()) if n else np.nan
    if n < 2:
        return mean, np.nan, np.nan, np.nan, np.nan
    error = float(known.std(ddof=1) / np.sqrt(n))
    reach = float(stats.t.isf((1 - level) / 2, n - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error > 0 else (1.0 if mean == 0 else 0.0)
    return mean, error, mean - reach, mean + reach, p


def _window(whole: Panel, event: Event, settings: StudySettings) -> _Window | None:
    """The spans around the event; None where they do not fit into the series."""
    width = settings.bin_days
    zero = np.searchsorted(whole.starts, day_number(event.earliest))
    first_after = -(-((event.latest - event.earliest).days) // width)
    lead = -(-settings.anticipation_days // width)
    window = _Window(
        zero + np.arange(-(settings.before_days // width), -lead),
        zero + np.arange(-lead, first_after),
        zero + np.arange(first_after, first_after + max(1, settings.after_days // width)),
    )
    # A short past makes a shorter reference; a third of it must be there.
    kept = window.reference[window.reference >= 0]
    if kept.size < max(2, window.reference.size // 3) or window.after[0] >= whole.starts.size:
        return None
    return _Window(kept, window.ahead, window.after[window.after < whole.starts.size])


def _mean(values: Float64) -> Float64:
    """Mean along the second axis without NaN; NaN with fewer than half of the spans."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    enough = count >= max(1, values.shape[1] // 2)
    total = np.where(known, values, 0).sum(axis=1)
    return np.where(enough, total / np.maximum(count, 1), np.nan)


def _effects(values: Float64, window: _Window) -> Float64:
    """Per site: mean after minus mean of the reference, NaN where either was hardly seen."""
    return _mean(values[:, window.after]) - _mean(values[:, window.reference])


def _slopes(used: Panel, window: _Window) -> Float64:
    """Per site: straight trend of the reference, per TREND_DAYS; NaN with fewer than three spans."""
    slopes = np.full(len(used.site_ids), np.nan)
    for k, row in enumerate(used.values[:, window.reference]):
        known = np.isfinite(row)
        if known.sum() >= 3:
            slopes[k] = np.polyfit(used.starts[window.reference][known] / TREND_DAYS, row[known], 1)[0]
    return slopes


def _placebos(used: Panel, window: _Window) -> list[float]:
    """The pooled effect at every earlier date whose window ends before the days just before the event."""
    effects = []
    last = int(window.ahead[0]) if window.ahead.size else int(window.after[0])
    for back in range(1, used.starts.size):
        placebo = window.moved(-back)
        if placebo.after[-1] >= last:
            continue
        if not placebo.fits(used.starts.size):
            break
        mean = pooled(_effects(used.values, placebo))[0]
        if np.isfinite(mean):
            effects.append(mean)
    return effects


def _bins(used: Panel, window: _Window, origin: int) -> tuple[EventStudyBin, ...]:
    base = _mean(used.values[:, window.reference])
    bins = []
    for k in (*window.reference, *window.ahead, *window.after):
        values = used.values[:, k] - base
        mean, error, low, high, _ = pooled(values)
        start = int(used.starts[k]) - origin
        known = np.isfinite(error)
        bins.append(
            EventStudyBin(
                day_from=start,
                day_to=start + used.width,
                effect=mean if known else None,
                std_error=error if known else None,
                low=low if known else None,
                high=high if known else None,
                n_sites=int(np.isfinite(values).sum()),
            )
        )
    return tuple(bins)


def _untested(event: Event, sensor: str, feature: str, reason: str) -> EventStudy:
    return EventStudy(
        event.event_id, sensor, feature, (), False, (), None, None, None, None, None, None, None, (), reason
    )


def _reason(
    event: Event,
    feature: str,
    n: int,
    effect: tuple[float, float, float],
    pre_trend_p: float,
    placebo_p: float | None,
) -> str:
    mean, low, high = effect
    clear = (low > 0 or high < 0) and placebo_p is not None and placebo_p <= PLACEBO_LIMIT
    begin = ("Consistent with a fall" if mean < 0 else "Consistent with a rise") if clear else "Inconclusive"
    said = (
        f"{begin}: {feature} of {n} sites moved by {mean:+.2f} ({low:+.2f} to {high:+.2f}) against their controls "
        f"after {event.event_id}; "
    )
    said += "no earlier dates to compare with" if placebo_p is None else f"rank among earlier dates p {placebo_p:.2g}"
    if np.isfinite(pre_trend_p) and pre_trend_p < TREND_LIMIT:
        said += (
            f"; sites and controls did not run parallel before (p {pre_trend_p:.2g}): the effect is not to be trusted"
        )
    return f"{said}."

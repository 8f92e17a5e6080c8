"""Probabilities of days: when a site changed, when an event was, and how far the two lie apart.

A view shows that something changed since the view before it, not when in between. So the probability of a date of
change is spread evenly over each gap between two views before it is compared with anything: no date is ever sharper
than the gap it was seen in.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compoundwatch.model import Event, SiteState

Float64 = npt.NDArray[np.float64]

INTERVAL_LEVEL = 0.9
"""Level of ``SiteState.change_date_earliest`` to ``change_date_latest``."""
_EPSILON = 1e-9
"""Sums of probabilities are compared with this slack."""


@dataclass(frozen=True)
class DayWeights:
    """A probability for each of consecutive days: the first day, and float64 (n,) with sum 1."""

    first: int
    weight: Float64

    @property
    def days(self) -> npt.NDArray[np.int64]:
        """The days, int64 (n,)."""
        return self.first + np.arange(self.weight.size, dtype=np.int64)

    def between(self, low: float, high: float) -> float:
        """Probability of a day from ``low`` to ``high``, both included."""
        days = self.days
        return float(min(1.0, self.weight[(days >= low) & (days <= high)].sum()))

    def interval(self, level: float) -> tuple[int, int]:
        """Shortest span of days outside of which, on either side, lies at most half of 1 - ``level``."""
        tail = (1 - level) / 2 + _EPSILON
        below = np.cumsum(self.weight) - self.weight
        above = np.cumsum(self.weight[::-1])[::-1] - self.weight
        return self.first + int(np.flatnonzero(below <= tail)[-1]), self.first + int(np.flatnonzero(above <= tail)[0])

    @property
    def median(self) -> float:
        """The middle; half a day where two days share it."""
        below = np.cumsum(self.weight) - self.weight
        above = np.cumsum(self.weight[::-1])[::-1] - self.weight
        low = np.flatnonzero(above <= 0.5 + _EPSILON)[0]
        high = np.flatnonzero(below <= 0.5 + _EPSILON)[-1]
        return self.first + float(low + high) / 2

    @property
    def deviation(self) -> float:
        """Standard deviation in days."""
        mean = float(self.weight @ self.days)
        return float(np.sqrt(self.weight @ (self.days - mean) ** 2))

    def mirrored(self) -> DayWeights:
        """The same with time running backwards."""
        return DayWeights(-(self.first + self.weight.size - 1), self.weight[::-1])


def day_number(day: dt.date) -> int:
    """Days since 1970-01-01."""
    return (day - dt.date(1970, 1, 1)).days


def date(day: float) -> dt.date:
    """The calendar day of a number of days since 1970-01-01."""
    return dt.date(1970, 1, 1) + dt.timedelta(days=int(np.floor(day + 0.5)))


def event_days(event: Event) -> DayWeights:
    """Every day on which an event may have been, equally probable."""
    n = (event.latest - event.earliest).days + 1
    return DayWeights(day_number(event.earliest), np.full(n, 1 / n))


def later_by(change: DayWeights, event: DayWeights) -> DayWeights:
    """Distribution of change minus event in days, the two being independent."""
    mirrored = event.mirrored()
    return DayWeights(change.first + mirrored.first, np.convolve(change.weight, mirrored.weight))


def change_days(state: SiteState, views: Sequence[int] = ()) -> DayWeights | None:
    """When a site changed, given that its state is right; None where no change is called.

    All probability between two views is spread evenly over the time between them; both views' own days get half a day's
    share, because the change came after the one and before the other. Where views lie closer than the dates tried, each
    date first stands for the days nearer to it than to the next.

    Parameters
    ----------
    views : days (since 1970-01-01) on which the site was seen well enough. Without them the reported interval is taken
        for one single gap, the widest that it can be. A state without ``change_dates`` has its interval only: then 5 %
        are spread on either side of it, over as many days as it is long.
    """
    if state.change_date is None or state.change_date_earliest is None or state.change_date_latest is None:
        return None
    gap = (day_number(state.change_date_earliest), day_number(state.change_date_latest))
    if not state.change_dates:
        return _from_interval(*gap)
    edges = sorted({int(v) for v in views}) or list(gap)
    return _over_gaps(_cells(state.change_dates, edges), edges)


def _cells(dates: Mapping[dt.date, float], edges: Sequence[int]) -> DayWeights:
    """Spread dates on a grid over the days nearest to each, but for those in a gap as long as the grid is wide."""
    days = np.array(sorted(day_number(d) for d in dates), dtype=np.int64)
    weights = np.array([dates[d] for d in sorted(dates)], dtype=np.float64)
    step = int(np.diff(days).min()) if days.size > 1 else 1
    half = step // 2
    cell = np.full(2 * half + 1, 1 / step)
    if step % 2 == 0:
        cell[[0, -1]] /= 2
    ends = np.searchsorted(edges, days)
    inside = (ends > 0) & (ends < len(edges))
    long = inside & (np.diff(edges, prepend=edges[0], append=edges[-1])[ends] >= step)
    line = np.zeros((2, int(days[-1] - days[0]) + 1 + 2 * half))
    line[long.astype(int), days - days[0] + half] = weights / weights.sum()
    return DayWeights(int(days[0]) - half, np.convolve(line[0], cell, mode="same") + line[1])


def _over_gaps(weights: DayWeights, edges: Sequence[int]) -> DayWeights:
    """Spread all probability of the days after one edge, up to the next, evenly over the time between the two."""
    first = min(weights.first, edges[0])
    last = max(int(weights.days[-1]), edges[-1])
    dense = np.zeros(last - first + 1)
    dense[weights.first - first : weights.first - first + weights.weight.size] = weights.weight
    out = dense.copy()
    for a, b in itertools.pairwise(edges):
        out[a - first + 1 : b - first + 1] = 0
    for a, b in itertools.pairwise(edges):
        out[a - first : b - first + 1] += dense[a - first + 1 : b - first + 1].sum() * _gap(a, b)
    kept = np.flatnonzero(out > 0)
    return DayWeights(first + int(kept[0]), out[kept[0] : kept[-1] + 1] / out.sum())


def _gap(a: int, b: int) -> Float64:
    """A moment anywhere between two views, by day: half a share for the views' own days."""
    if a == b:
        return np.ones(1)
    weight = np.full(b - a + 1, 1 / (b - a))
    weight[[0, -1]] /= 2
    return weight


def _from_interval(earliest: int, latest: int) -> DayWeights:
    tail = max(1, latest - earliest)
    weight = np.zeros(latest - earliest + 2 * tail + 1)
    rest = (1 - INTERVAL_LEVEL) / 2
    weight[: tail + 1] += rest * _gap(0, tail)
    weight[tail : tail + latest - earliest + 1] += INTERVAL_LEVEL * _gap(earliest, latest)
    weight[-tail - 1 :] += rest * _gap(0, tail)
    return DayWeights(earliest - tail, weight)

"""Small drawings beside the words: how probable each day of change is against the events, and when a site was seen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compoundwatch.model import Event, SiteState
from compoundwatch.outputs.manifest import utc

if TYPE_CHECKING:
    import pandas as pd

WIDTH, EDGE = 480, 12
"""Units of a drawing and of the room on both sides of it."""
REACH_DAYS = 120
"""Events farther than this from the change are not drawn beside it."""
TICKS = 6


class _Axis:
    """Days on a line of WIDTH units."""

    def __init__(self, first: dt.date, last: dt.date) -> None:
        self.first, self.days = first, max(1, (last - first).days)

    def x(self, day: dt.date) -> float:
        return round(EDGE + (WIDTH - 2 * EDGE) * (day - self.first).days / self.days, 1)

    def ticks(self) -> list[tuple[float, str]]:
        """First days of months, at most TICKS of them, each with its text."""
        last = self.first + dt.timedelta(days=self.days)
        months = [
            dt.date(year, month, 1)
            for year in range(self.first.year, last.year + 1)
            for month in range(1, 13)
            if self.first <= dt.date(year, month, 1) <= last
        ]
        step = -(-len(months) // TICKS) or 1
        return [(self.x(day), f"{day:%Y-%m}") for day in months[::step]]


def change_dates(state: SiteState, events: Sequence[Event]) -> dict[str, Any] | None:
    """How probable each day of change is, as bars, with the interval and the events near it; None = not dated."""
    first, last = state.change_date_earliest, state.change_date_latest
    if not state.change_dates or first is None or last is None:
        return None
    reach = dt.timedelta(days=REACH_DAYS)
    near = [
        (k, e)
        for k, e in enumerate(events, start=1)
        if e.earliest <= last + reach and e.latest >= first - reach and (e.latest - e.earliest) <= 2 * reach
    ]
    likely = [day for day, p in state.change_dates.items() if p >= 0.002]
    days = [first, last, *likely, *(d for _, e in near for d in (e.earliest, e.latest))]
    room = dt.timedelta(days=max(4, (max(days) - min(days)).days // 20))
    axis = _Axis(min(days) - room, max(days) + room)
    highest = max(state.change_dates.values())
    bars = "".join(
        f"M{axis.x(day)} 60v{-46 * p / highest:.1f}" for day, p in sorted(state.change_dates.items()) if day in likely
    )
    return {
        "bars": bars,
        "from": axis.x(first),
        "to": axis.x(last),
        "events": [{"number": k, "from": axis.x(e.earliest), "to": axis.x(e.latest)} for k, e in near],
        "ticks": axis.ticks(),
    }


def views(own: pd.DataFrame) -> dict[str, Any] | None:
    """The days on which a site was looked at: usable ones and others; None = it never was."""
    if own.empty:
        return None
    usable: dict[dt.date, bool] = {}
    for moment, measured in zip(own["acquired"], own["value"].notna(), strict=True):
        day = utc(moment).date()
        usable[day] = usable.get(day, False) or bool(measured)
    axis = _Axis(min(usable), max(usable))
    return {
        "usable": "".join(f"M{axis.x(day)} 4v22" for day, good in sorted(usable.items()) if good),
        "other": "".join(f"M{axis.x(day)} 16v10" for day, good in sorted(usable.items()) if not good),
        "n_usable": sum(usable.values()),
        "n_other": len(usable) - sum(usable.values()),
        "ticks": axis.ticks(),
    }

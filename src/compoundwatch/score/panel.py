"""Many sites at once: the difference of each to its controls, in equal spans of days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from compoundwatch.model import Site, check_series
from compoundwatch.score.dates import Float64
from compoundwatch.score.series import day_numbers

MIN_CONTROLS = 2
"""Controls that must be seen in a span for the site to count there: the median of one is that one."""


@dataclass(frozen=True)
class Panel:
    """Site minus the median of its controls.

    ``values`` float64 (n_sites, n_spans) in the unit of the feature, NaN = site or controls not seen; ``starts`` int64
    (n_spans,), first day of each span (since 1970-01-01), ``width`` days apart without a gap.
    """

    sensor: str
    site_ids: tuple[str, ...]
    starts: npt.NDArray[np.int64]
    width: int
    values: Float64

    def of(self, site_ids: Sequence[str]) -> Float64:
        """The rows of some sites; those that the panel does not have are left out."""
        return self.values[[k for k, site_id in enumerate(self.site_ids) if site_id in site_ids]]


def panel(
    series: pd.DataFrame, sites: Sequence[Site], feature: str, width: int, origin: int, sensor: str | None = None
) -> Panel:
    """Mean of each site per span of days minus the median of the means of its controls.

    Where there are several looks, each look of a place counts from its own median over all dates, since two looks may
    differ in level.

    Parameters
    ----------
    series : columns of ``model.SERIES_COLUMNS``, sites and controls together.
    sites : whose differences are wanted; one without measurements or with fewer than MIN_CONTROLS controls is left out.
    feature : which measurement.
    width : length of a span in days.
    origin : a day (since 1970-01-01) on which a span starts.
    sensor : None = the one with the most measurements of the feature.

    Raises
    ------
    ContractError : ``series`` has not the columns of site series.
    """
    check_series(series)
    rows = series[(series["feature"] == feature) & series["value"].notna()]
    if sensor is None:
        counts = rows["sensor"].value_counts()
        sensor = "" if counts.empty else str(counts.index[0])
    rows = rows[rows["sensor"] == sensor]
    if rows.empty:
        return Panel(sensor, (), np.zeros(0, dtype=np.int64), width, np.zeros((0, 0)))
    value = rows["value"]
    if rows["look"].nunique() > 1:
        value = value - value.groupby([rows["site_id"], rows["look"]]).transform("median")
    span = (day_numbers(rows["acquired"]) - origin) // width
    table = value.groupby([rows["site_id"], span]).mean().unstack()
    spans = np.arange(int(span.min()), int(span.max()) + 1, dtype=np.int64)
    table = table.reindex(columns=spans)
    ids, values = [], []
    for site in sites:
        controls = [c for c in site.controls if c in table.index]
        if site.site_id not in table.index or len(controls) < MIN_CONTROLS:
            continue
        of_controls = table.loc[controls].to_numpy(dtype=np.float64)
        known = np.isfinite(of_controls).sum(axis=0) >= MIN_CONTROLS
        centre = np.full(spans.size, np.nan)
        centre[known] = np.nanmedian(of_controls[:, known], axis=0)
        ids.append(site.site_id)
        values.append(table.loc[site.site_id].to_numpy(dtype=np.float64) - centre)
    return Panel(sensor, tuple(ids), origin + spans * width, width, np.array(values).reshape(len(ids), spans.size))

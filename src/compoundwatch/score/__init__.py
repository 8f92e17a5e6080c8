"""From pixels to the state of a site: series, effects against controls, states."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from compoundwatch.formulas import false_discovery
from compoundwatch.model import AreaOfInterest, ScoreSettings, Sensor, SiteEffect, SiteState
from compoundwatch.score.effects import Evidence, dates_to_try, evidence
from compoundwatch.score.series import ACTIVITY, TileSeries, day_numbers, site_series, tile_series, usable_days
from compoundwatch.score.states import site_effect, site_state

__all__ = ["TileSeries", "score_sites", "site_series", "tile_series"]


def score_sites(
    area: AreaOfInterest,
    series: pd.DataFrame,
    sensors: Sequence[Sensor],
    reference_end: Mapping[str, int],
    as_of: dt.date,
    settings: ScoreSettings,
    min_valid_fraction: float,
    rng: np.random.Generator,
) -> tuple[tuple[SiteEffect, ...], tuple[SiteState, ...]]:
    """Effects and states of all sites of an area, from the series of its sites and controls.

    Parameters
    ----------
    series : columns of ``model.SERIES_COLUMNS``, sites and controls together.
    reference_end : per site, the first day (since 1970-01-01) that may hold a change.
    as_of : the day on which this is said.
    rng : source of the simulated series behind the p-values.
    """
    effects: list[SiteEffect] = []
    states: list[SiteState] = []
    table = _wide(series)
    units = {f.name: f.unit for s in sensors for f in s.features}
    for site in area.targets:
        own = series[series["site_id"] == site.site_id]
        usable = usable_days(own, min_valid_fraction)
        end = reference_end[site.site_id]
        found: dict[str, Evidence] = {}
        taus = dates_to_try(usable, end, settings.min_views_after)
        for sensor, feature in _measured(own) if taus.size else []:
            key = (sensor, feature)
            controls = [table[c][key] for c in site.controls if key in table.get(c, {})]
            if e := evidence(sensor, feature, table[site.site_id][key], controls, end, taus, rng):
                found[feature] = e
                effects.append(site_effect(site.site_id, _unit(feature, units), e))
        seen = own.drop_duplicates("acquired")["valid_fraction"]
        states.append(
            site_state(
                site.site_id,
                found,
                usable,
                float(seen.mean()) if len(seen) else None,
                max((e.n_controls for e in found.values()), default=0),
                sensors,
                end,
                as_of,
                settings,
            )
        )
    q = false_discovery([np.nan if s.p_value is None else s.p_value for s in states])
    with_q = tuple(replace(s, q_value=None if np.isnan(v) else float(v)) for s, v in zip(states, q, strict=True))
    return tuple(effects), with_q


def _wide(series: pd.DataFrame) -> dict[str, dict[tuple[str, str], pd.Series]]:
    """site id -> (sensor, feature) -> values indexed by day since 1970-01-01."""
    days = day_numbers(series["acquired"])
    table: dict[str, dict[tuple[str, str], pd.Series]] = {}
    for (site_id, sensor, feature), rows in series.assign(day=days).groupby(["site_id", "sensor", "feature"]):
        table.setdefault(str(site_id), {})[(str(sensor), str(feature))] = rows.set_index("day")["value"].sort_index()
    return table


def _measured(own: pd.DataFrame) -> list[tuple[str, str]]:
    """The (sensor, feature) pairs that speak about change: all but the plain means, which are for charts."""
    pairs = own[["sensor", "feature"]].drop_duplicates().itertuples(index=False, name=None)
    return [(s, f) for s, f in pairs if f == ACTIVITY or f.endswith(("_anomaly", "_up", "_down"))]


def _unit(feature: str, units: Mapping[str, str]) -> str:
    if feature == ACTIVITY:
        return "ln(variance ratio)"
    base, _, kind = feature.rpartition("_")
    return units.get(base, "1") if kind == "anomaly" else "1"

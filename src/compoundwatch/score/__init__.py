"""From pixels to the state of a site: series, effects against controls, states."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from compoundwatch.formulas import false_discovery, remove_cycle
from compoundwatch.model import AreaOfInterest, ScoreSettings, Sensor, SiteEffect, SiteState
from compoundwatch.score.effects import Evidence, dates_to_try, evidence
from compoundwatch.score.parameters import parameters
from compoundwatch.score.placebo import placebo_p, placebo_sites
from compoundwatch.score.series import ACTIVITY, TileSeries, day_numbers, site_series, tile_series, usable_days
from compoundwatch.score.states import LIGHTS, Seen, site_effect, site_state
from compoundwatch.score.summary import summarise
from compoundwatch.score.versions import without_moved

__all__ = [
    "TileSeries",
    "placebo_p",
    "placebo_sites",
    "score_sites",
    "site_series",
    "summarise",
    "tile_series",
    "usable_days",
    "weigh_sites",
    "without_moved",
]

Measurement = tuple[str, str, str]
"""Sensor, look, feature."""


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
    units = {(s.name, f.name): f.unit for s in sensors for f in s.features}
    weighed = weigh_sites(area, series, sensors, reference_end, settings, min_valid_fraction, rng)
    for site_id, (found, seen) in weighed.items():
        effects += [site_effect(site_id, _unit(e.sensor, e.feature, units), e) for e in found]
        states.append(site_state(site_id, found, seen, reference_end[site_id], as_of, settings, parameters()))
    q = false_discovery([np.nan if s.p_value is None else s.p_value for s in states])
    with_q = tuple(replace(s, q_value=None if np.isnan(v) else float(v)) for s, v in zip(states, q, strict=True))
    return tuple(effects), with_q


def weigh_sites(
    area: AreaOfInterest,
    series: pd.DataFrame,
    sensors: Sequence[Sensor],
    reference_end: Mapping[str, int],
    settings: ScoreSettings,
    min_valid_fraction: float,
    rng: np.random.Generator,
) -> dict[str, tuple[list[Evidence], Seen]]:
    """The evidence of every measurement of every site, and how the site was seen; parameters as ``score_sites``."""
    kinds = {s.name: s.kind for s in sensors}
    table = _wide(series, kinds, min(reference_end.values(), default=0))
    weighed: dict[str, tuple[list[Evidence], Seen]] = {}
    for site in area.targets:
        own = series[series["site_id"] == site.site_id]
        end = reference_end[site.site_id]
        seen = _seen(own, sensors, min_valid_fraction)
        taus = dates_to_try(seen.all_days, end, settings.min_views_after)
        own_share = {s.name: s.own_share(site.geometry) if s.own_share else 1.0 for s in sensors}
        found: list[Evidence] = []
        for key in _measured(own) if taus.size else []:
            sensor, look, feature = key
            controls = [table[c][key] for c in site.controls if key in table.get(c, {})]
            values = table[site.site_id][key]
            share, weighted = own_share[sensor], settings.centre == "weighted"
            if e := evidence(sensor, kinds[sensor], look, feature, values, controls, end, taus, rng, share, weighted):
                found.append(e)
        weighed[site.site_id] = (found, seen)
    return weighed


def _seen(own: pd.DataFrame, sensors: Sequence[Sensor], min_valid_fraction: float) -> Seen:
    """How a site was seen by each sensor."""
    by_sensor = {str(name): rows for name, rows in own.groupby("sensor")}
    days = {name: usable_days(rows, min_valid_fraction) for name, rows in by_sensor.items()}
    fraction = own.drop_duplicates(["sensor", "look", "acquired"])["valid_fraction"]
    return Seen(days, float(fraction.mean()) if len(fraction) else None, tuple(sensors))


def _wide(
    series: pd.DataFrame, kinds: Mapping[str, str], reference_end: int
) -> dict[str, dict[Measurement, pd.Series]]:
    """site id -> (sensor, look, feature) -> values indexed by day since 1970-01-01, lights without their view cycle."""
    days = day_numbers(series["acquired"])
    table: dict[str, dict[Measurement, pd.Series]] = {}
    keys = ["site_id", "sensor", "look", "feature"]
    for (site_id, sensor, look, feature), rows in series.assign(day=days).groupby(keys, sort=True):
        values = rows.set_index("day")["value"].sort_index()
        if kinds.get(str(sensor)) == LIGHTS:
            values[:] = remove_cycle(values.index.to_numpy(), values.to_numpy(), reference_end)
        table.setdefault(str(site_id), {})[(str(sensor), str(look), str(feature))] = values
    return table


def _measured(own: pd.DataFrame) -> list[Measurement]:
    """The measurements that speak about change: all but the plain means, which are for charts."""
    known = own[["sensor", "look", "feature"]].drop_duplicates().sort_values(["sensor", "look", "feature"])
    rows = known.itertuples(index=False, name=None)
    return [(s, k, f) for s, k, f in rows if f == ACTIVITY or f.endswith(("_anomaly", "_up", "_down"))]


def _unit(sensor: str, feature: str, units: Mapping[tuple[str, str], str]) -> str:
    if feature == ACTIVITY:
        return "ln(variance ratio)"
    base, _, kind = feature.rpartition("_")
    return units.get((sensor, base), "1") if kind == "anomaly" else "1"

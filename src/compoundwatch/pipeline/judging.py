"""From series to states, site by site: a site whose evidence is what it was before is not judged again."""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from compoundwatch import score, sensors
from compoundwatch.formulas import false_discovery
from compoundwatch.model import AreaOfInterest, Role, ScoreSettings, Sensor, Site, SiteEffect, SiteState
from compoundwatch.outputs.reading import StoredWatch
from compoundwatch.pipeline.inputs import day_number
from compoundwatch.pipeline.measuring import digest_of
from compoundwatch.pipeline.planning import Plan
from compoundwatch.store import Ledger, Said

Tables = Mapping[str, Sequence[pd.DataFrame]]
"""The series of every place, one table per sensor, by its id."""


@dataclass(frozen=True)
class Judgement:
    """What is said of one site: state and effects, and the hash of the evidence; ``new`` = not said before."""

    state: SiteState
    effects: tuple[SiteEffect, ...]
    evidence: str
    new: bool


def judge(
    area: AreaOfInterest,
    digests: Mapping[str, Sequence[str]],
    tables: Tables,
    plan: Plan,
    as_of: dt.date,
    ledger: Ledger | None,
) -> tuple[Judgement, ...]:
    """Judge every site, from its own series and those of its controls.

    Parameters
    ----------
    digests : hashes of the series of every place, in the order of the sensors.
    as_of : the day on which this is said.
    ledger : what was said before; None = nothing.
    """
    found = []
    for k, site in enumerate(area.targets):
        plan.progress(f"judging {site.name}", k, len(area.targets))
        places = (site.site_id, *site.controls)
        # The basis holds the version of the software, so equal hashes mean equal answers.
        evidence = digest_of([(place, digests[place]) for place in places], plan.basis)
        said = _last(ledger, site)
        if ledger and said and said.evidence == evidence:
            found.append(Judgement(replace(said.state, as_of=as_of), ledger.effects(said), evidence, False))
            continue
        effects, state = _judged(area, site, [t for place in places for t in tables[place]], plan, as_of)
        found.append(Judgement(state, effects, evidence, True))
    q = false_discovery([np.nan if j.state.p_value is None else j.state.p_value for j in found])
    return tuple(
        replace(j, state=replace(j.state, q_value=None if np.isnan(v) else float(v)))
        for j, v in zip(found, q, strict=True)
    )


def _last(ledger: Ledger | None, site: Site) -> Said | None:
    said = ledger.said(site.site_id) if ledger else ()
    return said[-1] if said else None


def _judged(
    area: AreaOfInterest, site: Site, tables: Sequence[pd.DataFrame], plan: Plan, as_of: dt.date
) -> tuple[tuple[SiteEffect, ...], SiteState]:
    return alone(
        area,
        site,
        pd.concat(tables, ignore_index=True),
        plan.sensors,
        plan.reference_day,
        as_of,
        plan.settings.score,
        plan.settings.load.min_valid_fraction,
        np.random.default_rng([plan.seed, zlib.crc32(site.site_id.encode())]),
    )


def judged_again(
    stored: StoredWatch, site: Site, sensor_names: Sequence[str], settings: ScoreSettings, seed: int
) -> SiteState:
    """The state of a place of a result as if it were a site, from some of what was measured, or under other settings.

    Parameters
    ----------
    site : a place of the result; its ``controls`` are those that it is compared with.
    sensor_names : sensors whose measurements count.
    """
    _, state = alone(
        stored.area,
        site,
        stored.series[stored.series["sensor"].isin(list(sensor_names))],
        [sensors.sensor(name) for name in sensor_names],
        day_number(stored.reference_end),
        max(s.as_of for s in stored.states),
        settings,
        stored.min_valid_fraction,
        np.random.default_rng(seed),
    )
    return state


def alone(
    area: AreaOfInterest,
    site: Site,
    series: pd.DataFrame,
    used: Sequence[Sensor],
    reference_day: int,
    as_of: dt.date,
    settings: ScoreSettings,
    min_valid_fraction: float,
    rng: np.random.Generator,
) -> tuple[tuple[SiteEffect, ...], SiteState]:
    """One site as if it were the only one: what is drawn at random for it does not depend on the others.

    Parameters are those of ``score.score_sites``; ``series`` may hold other places, too.
    """
    controls = tuple(replace(area.by_id[c], role=Role.CONTROL) for c in site.controls)
    effects, states = score.score_sites(
        replace(area, sites=(site, *controls)),
        series[series["site_id"].isin([site.site_id, *site.controls])],
        used,
        {site.site_id: reference_day},
        as_of,
        settings,
        min_valid_fraction,
        rng,
    )
    return effects, states[0]


def record(ledger: Ledger, run: int, area: AreaOfInterest, judged: Sequence[Judgement]) -> None:
    """Add what is new of what is said to the store."""
    statements = []
    for j in judged:
        if j.new:
            site = area.by_id[j.state.site_id]
            said = _last(ledger, site)
            reopened = ledger.reopened_from((site.site_id, *site.controls), said.run) if said else None
            statements.append((j.state, j.effects, j.evidence, reopened))
    ledger.record_states(run, statements)

"""The view over all sites: reads the folders of earlier runs and says what holds for how many, and how surely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from compoundwatch import events as event_files
from compoundwatch import score
from compoundwatch.errors import SettingsError
from compoundwatch.model import AreaOfInterest, Event, Role, Site, Summary, VerdictSettings, nearest
from compoundwatch.outputs.manifest import plain
from compoundwatch.outputs.reading import StoredWatch, read_watch
from compoundwatch.outputs.report import Told
from compoundwatch.pipeline.judging import judged_again
from compoundwatch.score.holding import revival_text
from compoundwatch.score.summary import holding_text
from compoundwatch.score.verdicts import verdicts


def summarise(
    folders: Sequence[Path | str],
    *,
    event_ids: Sequence[str] | None = None,
    events: Path | str | None = None,
    settings: VerdictSettings | None = None,
    placebos: int = 0,
    seed: int = 0,
) -> Summary:
    """What holds for how many of the sites that were watched, with its uncertainty.

    Parameters
    ----------
    folders : results of ``watch``, of different areas or of the same on different days; of a site that is in several,
        the latest counts, and how long it has been still is followed through all of them.
    event_ids : events to hold the sites against; None = the raids that fall into the time watched.
    events : path of a CSV file of events that takes the place of those in the folders.
    settings : how sites are held against events; None = the defaults.
    placebos : so many controls of each folder are judged as if they were sites, to rank the sites' scores among theirs.
    seed : seed of the random dates, labels and durations.

    Raises
    ------
    SettingsError : a folder holds no result, an id names two places, or there is no such event.
    AreaError : the file of events is wrong.
    """
    if not folders:
        raise SettingsError("name at least one folder with a result of 'compoundwatch watch'")
    runs = [read_watch(Path(folder)) for folder in folders]
    found = summarise_runs(runs, event_ids=event_ids, events=events, settings=settings, seed=seed)
    return _among_placebos(found, runs, placebos, seed) if placebos else found


def _among_placebos(found: Summary, runs: Sequence[StoredWatch], limit: int, seed: int) -> Summary:
    """The same with the rank of every site among controls that are judged as if they were sites."""
    stored = _in_order(runs)
    latest = _latest(stored)
    scores = [one for run in stored if run in latest.values() for one in _placebo_scores(run, limit, seed)]
    ours = {s.site_id: s.score for run in stored for s in run.states if latest[s.site_id] is run}
    ranks = {k: score.placebo_p(own, scores) for k, own in ours.items() if own is not None}
    known = {k: p for k, p in ranks.items() if p is not None}
    return replace(found, n_placebos=len(scores), placebo_p=known)


def _placebo_scores(run: StoredWatch, limit: int, seed: int) -> list[float]:
    """Scores (0-100) of controls of a run, each judged as a site against the others of its set."""
    places = score.placebo_sites(run.area, limit)
    states = [judged_again(run, place, run.sensors, run.settings.score, seed) for place in places]
    return [s.score for s in states if s.score is not None]


def summarise_runs(
    runs: Sequence[StoredWatch],
    *,
    event_ids: Sequence[str] | None = None,
    events: Path | str | None = None,
    settings: VerdictSettings | None = None,
    seed: int = 0,
) -> Summary:
    """The same of results that were read already."""
    stored = _in_order(runs)
    latest = _latest(stored)
    sites = [site for run in stored for site in run.area.targets if latest.get(site.site_id) is run]
    known = _events(stored, sites, Path(events) if events else None)
    _check_events(event_ids, known)
    history = [state for run in stored for state in run.states]
    states = [state for run in stored for state in run.states if latest[state.site_id] is run]
    renamed, series = _places_and_series(stored, latest)
    views = {site.site_id: _views(latest[site.site_id], site.site_id) for site in sites}
    rng = np.random.default_rng(seed)
    return score.summarise(
        states, history, renamed, known, event_ids, series, views, rng, settings or VerdictSettings()
    )


def _views(run: StoredWatch, site_id: str) -> Sequence[int]:
    """The days (since 1970-01-01) on which a run saw a site well enough."""
    return score.usable_days(run.series[run.series["site_id"] == site_id], run.min_valid_fraction)


def told(run: StoredWatch) -> Told:
    """What the report of one run says beyond single sites: of all of them, and of each against every event."""
    if not run.states:
        return Told()
    summary = summarise_runs([run])
    views = {site.site_id: _views(run, site.site_id) for site in run.area.targets}
    return Told(
        summary,
        holding_text(summary.holding) if summary.holding else "",
        verdicts(run.states, run.area.events, VerdictSettings(), views),
    )


def _in_order(given: Sequence[StoredWatch]) -> list[StoredWatch]:
    """The runs by the day on which they judged, the same run once."""
    runs: dict[str, StoredWatch] = {}
    for run in given:
        if not run.states:
            raise SettingsError(f"the result {run.run_id} of {run.area.area_id} holds no site; watch at least one")
        runs.setdefault(run.run_id, run)
    ordered = sorted(runs.values(), key=lambda run: (max(s.as_of for s in run.states), run.run_id))
    outlines: dict[str, Site] = {}
    for run in ordered:
        for site in run.area.targets:
            other = outlines.setdefault(site.site_id, site)
            if not other.geometry.intersects(site.geometry):
                raise SettingsError(
                    f"site '{site.site_id}' is '{other.name}' in one folder and '{site.name}' elsewhere in another; "
                    "give each place an id of its own"
                )
    return ordered


def _latest(ordered: Sequence[StoredWatch]) -> dict[str, StoredWatch]:
    """The latest run of each site, by its id."""
    return {state.site_id: run for run in ordered for state in run.states}


def _places_and_series(
    stored: Sequence[StoredWatch], latest: Mapping[str, StoredWatch]
) -> tuple[list[Site], pd.DataFrame]:
    """The sites and the series of their latest runs; controls get names of their own per run, for ids may repeat."""
    sites, tables = [], []
    for run in stored:
        mine = [s for s in run.area.targets if latest.get(s.site_id) is run]
        names = {s.site_id: f"{s.site_id}@{run.run_id}" for s in run.area.sites if s.role is Role.CONTROL}
        sites += [replace(s, controls=tuple(names[c] for c in s.controls)) for s in mine]
        kept = run.series[run.series["site_id"].isin([*names, *(s.site_id for s in mine)])]
        tables.append(kept.assign(site_id=kept["site_id"].map(lambda k, names=names: names.get(k, k))))
    return sites, pd.concat(tables, ignore_index=True)


def _events(stored: Sequence[StoredWatch], sites: Sequence[Site], path: Path | None) -> tuple[Event, ...]:
    """Events of a file, or those of all runs: the latest telling of each, with the sites of all of them."""
    if path is not None:
        return event_files.read_events(path, AreaOfInterest("summary", tuple(sites)))
    found: dict[str, Event] = {}
    for run in stored:
        for event in run.area.events:
            before = found.get(event.event_id)
            scope = dict.fromkeys((*(before.scope if before else ()), *event.scope))
            found[event.event_id] = replace(event, scope=tuple(scope))
    return tuple(found.values())


def _check_events(wanted: Sequence[str] | None, known: Sequence[Event]) -> None:
    ids = [e.event_id for e in known]
    for name in wanted or ():
        if name not in ids:
            close = nearest(name, ids)
            hint = f"did you mean '{close}'?" if close else f"there are {', '.join(ids) or 'none'}"
            raise SettingsError(f"there is no event '{name}'; {hint}")


def describe_summary(summary: Summary) -> dict[str, Any]:
    """A summary as plain values: dates as ISO text, missing as None."""
    described: dict[str, Any] = plain(summary)
    return described


def summary_text(summary: Summary) -> list[tuple[str, list[str]]]:
    """A summary in words: headings, each with its paragraphs."""
    parts = [("All sites", [summary.sentence, f"Caveat: {summary.caveat}"])]
    if summary.holding is not None:
        told = [f"{spell.site_id}: {revival_text(spell)}" for spell in summary.spells]
        withdrawn = [f"{site_id}: was called emptied once, and is not any more." for site_id in summary.withdrawn]
        parts.append(("Does it hold", [holding_text(summary.holding), *told, *withdrawn]))
    for about in summary.events:
        lines = [about.sentence, f"Caveat: {about.caveat}"]
        lines += [f"{v.site_id}: {v.reason}" for v in about.verdicts]
        if len(about.verdicts) > 1:
            lines += [f"Pooled. {about.study.reason}", f"Displacement. {about.displacement.reason}"]
        parts.append((f"{about.event.kind} {about.event.event_id}", lines))
    if summary.n_placebos:
        begin = f"{summary.n_placebos} controls were judged as if they were sites. Chance that one scores as high as"
        parts.append(("Among controls", [f"{begin} {k}: {p:.2g}" for k, p in summary.placebo_p.items()]))
    if not summary.events:
        parts.append(("Events", ["No raid falls into the time watched; name an event with --event."]))
    return parts

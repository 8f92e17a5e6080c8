"""The main job: from areas and a catalogue to the state of every site, in a workspace that is gone on with."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from compoundwatch import outputs, score, stack, store
from compoundwatch.errors import NoScene
from compoundwatch.model import AreaOfInterest, InputFile, Provenance, Settings, Site, Skipped, WatchResult
from compoundwatch.outputs.reading import as_stored
from compoundwatch.pipeline.continuing import check_clock, check_places, continued, proposed_before
from compoundwatch.pipeline.controls import with_controls
from compoundwatch.pipeline.inputs import input_files, named, provenance, read_area, read_settings
from compoundwatch.pipeline.judging import Judgement, Tables, judge, record
from compoundwatch.pipeline.measuring import Part, digest_of
from compoundwatch.pipeline.planning import Plan, only, plan
from compoundwatch.pipeline.progress import Progress, silent
from compoundwatch.pipeline.spreading import Looks, Question, crew
from compoundwatch.pipeline.summarising import told
from compoundwatch.store import FINISHED, NOTHING_NEW, Kept, Workspace

DEFAULT_SENSORS = ("sentinel2",)
KIND = "pixels"
"""Name of what a workspace keeps of the pixels of a place."""
CHIPS = "chips"
"""Name of what it keeps of the files of imagery."""

Parts = Mapping[str, Sequence[Part]]
"""What is known of every place, one part per sensor, by its id."""


@dataclass(frozen=True)
class _Open:
    """The workspace of a run and the number of the run in it."""

    workspace: Workspace
    run: int


def watch(
    area: AreaOfInterest | Path | str,
    *,
    out: Path | str | None = None,
    catalog: str | Path | Sequence[str | Path] = (),
    sensor_names: Sequence[str] = DEFAULT_SENSORS,
    sites: Sequence[str] = (),
    start: dt.date | None = None,
    end: dt.date | None = None,
    events: Path | str | None = None,
    settings: Settings | Path | str | None = None,
    now: dt.datetime | None = None,
    seed: int = 0,
    wait_s: float = 0.0,
    renew: bool = False,
    workers: int = 0,
    dask: str | None = None,
    progress: Progress = silent,
) -> WatchResult:
    """Find what changed at the sites of an area, when, which way, and how surely.

    With ``out``, the folder is a workspace (docs/workspace.md): a later run into it asks for what is new, reads that
    alone, and adds to what was said.

    Parameters
    ----------
    area : areas, or the path of their GeoJSON file.
    out : workspace, which also gets the result files; None = write nothing.
    catalog : where imagery is found: addresses of STAC APIs, short names of ``catalogs.KNOWN``, folders with a
        ``catalog.json`` or with granules. The first that has a sensor is asked for it, the next one where that fails
        or has gaps; none named = all of KNOWN.
    sensor_names : which sensors to use.
    sites : ids of the sites to watch; empty = all.
    start, end : first and last day of imagery; default: those of the workspace up to ``now``, in a new one the last
        three years.
    events : path of a CSV file of dated events, read along with the file of areas.
    settings : settings, or the path of their TOML file.
    now : the time of the run (UTC); default: the clock.
    seed : seed of the simulated series behind the p-values.
    wait_s : seconds to wait for another run to leave the workspace.
    renew : go on in a workspace that rests on other settings or outlines, and do anew what depends on them.
    workers : processes of this machine that look at places side by side (docs/scale.md); 0 = this one alone.
    dask : address of a Dask scheduler whose workers do so instead.
    progress : told what is being done.

    Raises
    ------
    AreaError, SettingsError : an input is wrong, or is another than before in this workspace.
    NoScene : the catalogue holds no scene of any of the places.
    CatalogError : the catalogue does not answer.
    ClusterError : workers are lost again and again.
    StoreError : the workspace is in use, cannot be written, or is damaged.
    OutputError : the results cannot be written.
    """
    now = now or dt.datetime.now(dt.UTC)
    chosen = settings if isinstance(settings, Settings) else read_settings(Path(settings) if settings else None)
    inputs = input_files(area=area, events=events, settings=settings)
    region = area if isinstance(area, AreaOfInterest) else read_area(Path(area), Path(events) if events else None)
    region = only(region, sites)
    if out is not None:
        outputs.check_folder(Path(out))
    opened: AbstractContextManager[Workspace | None] = (
        store.opened(Path(out), now, wait_s) if out is not None else nullcontext()
    )
    named_catalogs = tuple(map(str, [catalog] if isinstance(catalog, str | Path) else catalog))
    with opened as workspace, crew(named_catalogs, workers, dask) as looks:
        runs = workspace.ledger.runs() if workspace else ()
        check_clock(runs, now)
        first, reference_end = (runs[-1].first_day, runs[-1].reference_end) if runs else (None, None)
        job = plan(catalog, sensor_names, start or first, end, reference_end, chosen, now, seed, progress)
        job = replace(continued(job, runs, now, renew), chips=_chips(workspace, chosen))
        return _watched(region, job, workspace, now, inputs, looks)


def _watched(
    area: AreaOfInterest,
    job: Plan,
    workspace: Workspace | None,
    now: dt.datetime,
    inputs: Sequence[InputFile],
    looks: Looks,
) -> WatchResult:
    known = workspace.ledger.places() if workspace else {}
    check_places(area, known, job.renew)
    without = [s.site_id for s in area.targets if not s.controls]
    area = with_controls(area, job, proposed_before(area, known))
    origin = _provenance(job, now, inputs)
    going = None
    if workspace:
        outputs.sweep(workspace.folder)
        going = _Open(workspace, _begin(workspace, area, job, origin))
        workspace.ledger.record_places(going.run, area.sites, without)
    parts = _measure_all(area, job, going, looks)
    if not any(part.scenes for found in parts.values() for part in found):
        raise NoScene(
            f"catalogue {job.names} holds no usable scene of {', '.join(s.name for s in job.sensors)} over "
            f"any site between {job.start} and {job.end}; check the dates and the place, or name another catalogue"
        )
    tables = _tables(area, job, parts, workspace)
    digests = {place: [part.digest for part in found] for place, found in parts.items()}
    judged = judge(area, digests, tables, job, now.date(), workspace.ledger if workspace else None)
    # Which catalogues were asked is known only now; the name of the run was given when it began.
    origin = replace(origin, inputs={**origin.inputs, "catalog": job.names})
    result = assembled(area, job, parts, tables, judged, origin)
    return _kept(result, judged, parts, job, going, now) if going else result


def _chips(workspace: Workspace | None, settings: Settings) -> stack.Chips | None:
    """Where the pixels of a workspace are kept."""
    if workspace is None or not settings.load.cache_mb:
        return None
    return stack.Chips(workspace.folder / store.CACHE / CHIPS, settings.load.cache_mb)


def _begin(workspace: Workspace, area: AreaOfInterest, job: Plan, origin: Provenance) -> int:
    return workspace.ledger.begin(
        origin.run_id,
        origin.created,
        area_id=area.area_id,
        first_day=job.start,
        last_day=job.end,
        reference_end=job.reference_end,
        catalog=job.names,
        whole=job.whole,
        basis=job.basis,
        settings=origin.settings,
        software=origin.software,
    )


def _measure_all(area: AreaOfInterest, job: Plan, going: _Open | None, looks: Looks) -> dict[str, list[Part]]:
    """Look at every place once, whatever number of sites it is a control of; what is found is stored at once."""
    parts: dict[str, list[Part]] = {site.site_id: [] for site in area.sites}
    known = {site.site_id: site for site in area.sites}
    total = len(area.sites) * len(job.sensors)
    job.progress("reading", 0, total)
    waiting: dict[tuple[str, str], Kept] = {}

    def questions() -> Iterator[Question]:
        for site in area.sites:
            for sensor in job.sensors:
                question = _question(site, sensor.name, going)
                waiting[site.site_id, sensor.name] = question.kept
                yield question

    for k, part in enumerate(looks(questions(), job)):
        parts[part.site_id].append(_stored(part, waiting.pop((part.site_id, part.sensor)), going))
        job.progress(f"read {known[part.site_id].role} {known[part.site_id].name}", k + 1, total)
    return parts


def _question(site: Site, sensor: str, going: _Open | None) -> Question:
    if going is None:
        return Question(site, sensor)
    workspace, place = going.workspace, (site.site_id, sensor)
    return Question(site, sensor, workspace.ledger.kept(*place), partial(workspace.arrays, KIND, *place))


def _stored(part: Part, kept: Kept, going: _Open | None) -> Part:
    if going is None:
        return part
    workspace, ledger, place = going.workspace, going.workspace.ledger, (part.site_id, part.sensor)
    if part.arrays is not None:
        workspace.keep(KIND, *place, part.arrays)
    known = kept.inputs, kept.series, frozenset(kept.skipped)
    if part.series is not None and known != (part.inputs, part.digest, frozenset(part.skipped)):
        ledger.record(
            going.run,
            *place,
            scenes=part.scenes,
            skipped=part.skipped,
            searched=part.searched,
            inputs=part.inputs,
            series=part.series,
            digest=part.digest,
            reopened_from=part.reopened_from,
        )
    return replace(part, arrays=None)


def _tables(
    area: AreaOfInterest, job: Plan, parts: Parts, workspace: Workspace | None
) -> dict[str, list[pd.DataFrame]]:
    """The series of every place, measured now or before."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for site in area.sites:
        for part in parts[site.site_id]:
            table = part.series
            if table is None:
                assert workspace is not None
                table = workspace.ledger.series([part.site_id], [part.sensor])
            tables.setdefault(site.site_id, []).append(table)
    return tables


def _provenance(job: Plan, now: dt.datetime, inputs: Sequence[InputFile]) -> Provenance:
    return provenance(
        job.settings,
        now,
        {
            **named(inputs),
            "catalog": job.names,
            "sensors": ", ".join(s.name for s in job.sensors),
            "first_day": job.start.isoformat(),
            "last_day": job.end.isoformat(),
            "seed": str(job.seed),
        },
        inputs,
    )


def assembled(
    area: AreaOfInterest, job: Plan, parts: Parts, tables: Tables, judged: Sequence[Judgement], origin: Provenance
) -> WatchResult:
    """What a run has to say, from what was measured and judged; the same for a run and for making a result anew."""
    every = [part for site in area.sites for part in parts[site.site_id]]
    scenes = {s.scene_id: s for part in every for s in part.scenes}
    whole = [t for site in area.sites for t in tables[site.site_id] if len(t)]
    by_site = {s.site_id: parts[s.site_id] for s in area.targets}
    return WatchResult(
        area=area,
        sensors=job.sensors,
        reference_end=job.reference_end,
        as_of=origin.created.date(),
        scenes=tuple(sorted(scenes.values(), key=lambda s: (s.acquired, s.scene_id))),
        series=pd.concat(whole, ignore_index=True) if whole else score.site_series("", "", []),
        effects=tuple(effect for j in judged for effect in j.effects),
        states=tuple(j.state for j in judged),
        changes=tuple(change for part in every for change in part.changes),
        pictures={place: _first_pictures(found) for place, found in by_site.items()},
        frames={place: next((p.frames for p in found if p.frames), ()) for place, found in by_site.items()},
        skipped=tuple(_of_place(s, part) for part in every for s in (*part.told, *part.skipped)),
        provenance=origin,
    )


def _first_pictures(found: Sequence[Part]) -> Any:
    """The last clear picture before and after, each from the first sensor that has one."""
    return tuple(next((p.pictures[k] for p in found if p.pictures[k]), None) for k in (0, 1))


def _of_place(skipped: Skipped, part: Part) -> Skipped:
    return replace(skipped, item_id=f"{part.site_id}: {skipped.item_id}")


def _kept(
    result: WatchResult, judged: Sequence[Judgement], parts: Parts, job: Plan, going: _Open, now: dt.datetime
) -> WatchResult:
    """Say what is new, and write the files anew unless they show all of this already."""
    workspace, ledger = going.workspace, going.workspace.ledger
    record(ledger, going.run, result.area, judged)
    shown = _shown(result, parts)
    ended = [r for r in ledger.runs() if r.outcome == FINISHED]
    stands = bool(ended) and ended[-1].shown == shown and outputs.stands(workspace.folder, ended[-1].run_id)
    if stands:
        ledger.end(going.run, NOTHING_NEW, shown, now)
        return replace(result, fresh=False)
    job.progress("writing results", 0, 1)
    export = job.settings.export
    outputs.write_watch(
        result,
        workspace.folder,
        rasters=export.rasters,
        report=export.report,
        hash_imagery=export.hash_imagery,
        min_patch_m2=job.settings.detect.min_patch_m2,
        told=told(as_stored(result)) if export.report else None,
        store={"run": going.run, "sha256": ledger.seal(going.run)},
    )
    ledger.end(going.run, FINISHED, shown, now)
    job.progress("writing results", 1, 1)
    return result


def _shown(result: WatchResult, parts: Parts) -> str:
    """A hash of all that the files show besides when they were made."""
    area, settings = result.area, result.provenance.settings
    return digest_of(
        [[repr(replace(s, geometry=None)), s.geometry.wkb_hex] for s in area.sites],
        [repr(event) for event in area.events],
        [settings["export"], settings["detect"]["min_patch_m2"], result.provenance.software],
        [[part.inputs, part.digest, repr(part.skipped)] for found in parts.values() for part in found],
        [repr(replace(state, as_of=result.as_of.min)) for state in result.states],
    )

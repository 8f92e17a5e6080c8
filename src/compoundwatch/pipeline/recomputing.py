"""A result made anew from what its workspace keeps: the scenes and outlines of its store, the pixels of its cache.

No catalogue is asked and nothing is fetched; what is not kept is named. Events are shown as the result has them.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compoundwatch import detectors, outputs, sensors, stack
from compoundwatch.errors import CompoundWatchError
from compoundwatch.model import AreaOfInterest, Site, Skipped, WatchResult
from compoundwatch.outputs.evidence import Difference, Fault, Recomputation, plain_text, read_manifest
from compoundwatch.outputs.manifest import local_path
from compoundwatch.outputs.reading import as_stored, read_watch
from compoundwatch.outputs.recomputed import byte_differences, differences, site_differences
from compoundwatch.pipeline.inputs import provenance
from compoundwatch.pipeline.judging import judge
from compoundwatch.pipeline.measuring import Part, look
from compoundwatch.pipeline.planning import Plan
from compoundwatch.pipeline.progress import Progress
from compoundwatch.pipeline.summarising import told
from compoundwatch.pipeline.watching import CHIPS, assembled
from compoundwatch.store import CACHE, STORE, UNFINISHED, Kept, Ledger, Run, reading

VERSION = "the version of compoundwatch"
"""How the basis of a run calls it."""


class _NotRecordedError(Exception):
    """What a result rests on is not known; the message says what, in a sentence."""


class _NoCatalogue:
    """Stands in for the catalogues: all that they said is in the store."""

    name = "none"

    def search(self, *asked: Any) -> tuple[list[Any], list[Skipped]]:
        return [], []


def recompute(folder: Path, progress: Progress) -> Recomputation:
    """Make a result anew and compare; the folder is only read."""
    manifest = read_manifest(folder)
    try:
        if manifest["kind"] != "watch":
            raise _NotRecordedError("it is the comparison of two images, which it does not hold; compare them again")
        if not (folder / STORE).is_file():
            raise _NotRecordedError(
                f"there is no {STORE} in {folder}, which says what it was made from; do this in the workspace in "
                "which it was made, not in a copy of the result alone"
            )
        with reading(folder) as ledger:
            return _Again(folder, manifest, ledger, progress).made()
    except (_NotRecordedError, CompoundWatchError) as why:
        return Recomputation(obstacles=(str(why),))


class _Again:
    """One recomputation: what was recorded, and what is found by it."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], ledger: Ledger, progress: Progress) -> None:
        self.folder, self.manifest, self.ledger, self.progress = folder, manifest, ledger, progress
        self.found: list[Difference] = []
        self.obstacles: list[str] = []
        self.stored = read_watch(folder)
        self.run = self._run()
        self.chips = stack.Chips(folder / CACHE / CHIPS, self.stored.settings.load.cache_mb, fetch=False)
        self.job = self._job()
        self.area = self._area()

    def made(self) -> Recomputation:
        """The comparison of what lies in the folder with what is made anew."""
        self._check_cache()
        software = self._other_software()
        self._compare_basis()
        parts = self._parts()
        self._check_kept(parts)
        result = self._result(parts)
        lost = {place for place, (_, whole) in parts.items() if not whole}
        sites = [s.site_id for s in self.area.targets if lost.isdisjoint((s.site_id, *s.controls))]
        uncompared: list[str] = []
        with tempfile.TemporaryDirectory(prefix="compoundwatch-") as home:
            anew = Path(home) / "result"
            self._write(result, anew)
            if lost:
                self.found += site_differences(self.folder, anew, sites)
            else:
                unlike, other = differences(self.folder, anew)
                self.found += unlike
                if software:
                    uncompared = other
                else:
                    self.found += byte_differences(other)
        self._compare_statements(result, sites)
        return Recomputation(
            differences=tuple(self.found),
            obstacles=tuple(self.obstacles),
            uncompared=tuple(uncompared),
            software=software,
            n_sites=len(sites),
            of_sites=len(self.area.targets),
        )

    # ------------------------------------------------------------------------------------------- what was recorded

    def _run(self) -> Run:
        """The run that wrote the result."""
        about = self.manifest.get("store")
        number = about.get("run") if isinstance(about, dict) else None
        runs = self.ledger.runs()
        run = next((r for r in runs if r.number == number), None)
        if run is None:
            raise _NotRecordedError(
                f"{STORE} does not hold the run that wrote this result; is it that of another workspace?"
            )
        if any(r.number > run.number and r.outcome == UNFINISHED for r in runs):
            raise _NotRecordedError(
                "a later run began and did not end, so what this one knew is no longer told apart; run watch again "
                "until it ends, then verify"
            )
        return run

    def _job(self) -> Plan:
        """What was asked for, with nobody to ask."""
        inputs, settings = self.stored.provenance.inputs, self.stored.settings
        try:
            first, last = (dt.date.fromisoformat(inputs[name]) for name in ("first_day", "last_day"))
            seed = int(inputs["seed"])
        except (KeyError, ValueError, TypeError):
            raise _NotRecordedError(
                "manifest.json does not say which days were asked for, or with which seed"
            ) from None
        chosen = tuple(sensors.sensor(name) for name in self.stored.sensors)
        catalogues: Any = dict.fromkeys(self.stored.sensors, _NoCatalogue())
        detector = detectors.series_detector(settings.detect.detector)
        reference_end = self.stored.reference_end
        job = Plan(catalogues, chosen, detector, first, last, reference_end, settings, seed, self.progress)
        return replace(job, chips=self.chips)

    def _area(self) -> AreaOfInterest:
        """Sites and controls as the store outlines them, in the order of the manifest."""
        places = self.ledger.places()
        try:
            ids = [str(i) for i in (*self.manifest["area"]["sites"], *self.manifest["area"]["controls"])]
        except (KeyError, TypeError):
            raise _NotRecordedError("manifest.json does not say which sites were watched") from None
        if missing := [i for i in ids if i not in places]:
            raise _NotRecordedError(f"{STORE} does not know the place {plain_text(missing[0])} of manifest.json")
        return replace(self.stored.area, sites=tuple(places[i][0] for i in ids))

    def _check_cache(self) -> None:
        """Is anything kept at all of imagery that lies elsewhere?"""
        if any(self.chips.folder.glob("*/*.tif")):
            return
        for site in self.area.sites:
            for name in self.stored.sensors:
                scenes = self.ledger.kept(site.site_id, name).scenes
                if any(stack.is_remote(a.href) for s in scenes for a in s.assets.values()):
                    raise _NotRecordedError(
                        f"no pixels are kept in {self.chips.folder}: they were deleted, or the settings had "
                        "load.cache_mb = 0; results of later runs that keep them can be recomputed"
                    )

    def _other_software(self) -> tuple[str, ...]:
        then = self.stored.provenance.software
        now = provenance(self.stored.settings, self.stored.provenance.created, {}).software
        return tuple(
            f"{name} {plain_text(then.get(name, 'not stated'))} then, {now.get(name, 'none')} now"
            for name in dict.fromkeys((*then, *now))
            if then.get(name) != now.get(name)
        )

    # ------------------------------------------------------------------------------------------------- made anew

    def _parts(self) -> dict[str, tuple[list[Part], bool]]:
        """What is found at every place, one part per sensor, and whether all was there that it takes."""
        parts: dict[str, tuple[list[Part], bool]] = {}
        total = len(self.area.sites)
        for k, site in enumerate(self.area.sites):
            self.progress(f"recomputing {site.role} {plain_text(site.name)}", k, total)
            before = len(self.obstacles)
            found = [self._part(site, name) for name in self.stored.sensors]
            parts[site.site_id] = found, len(self.obstacles) == before
        return parts

    def _part(self, site: Site, name: str) -> Part:
        sensor = sensors.sensor(name)
        kept = self.ledger.kept(site.site_id, name)
        if odd := [a.href for s in kept.scenes for a in s.assets.values() if not _may_be_read(a.href)]:
            raise _NotRecordedError(f"{STORE} names {plain_text(odd[0])}, which is no file and no address of one")
        self.chips.lacking.clear()
        # As if nothing of it had been measured yet, and all scenes were known.
        part = look(site, sensor, self.job, replace(kept, inputs="", series=""), lambda prefixes: {})
        expected = {s.item_id for s in kept.skipped if s.stage == "load"}
        lacking = {(c.scene_id, c.band): c for c in self.chips.lacking if c.scene_id not in expected}
        for (scene_id, band), chip in sorted(lacking.items()):
            what = f"{plain_text(site.site_id)}: scene {plain_text(scene_id)}, band {band}"
            if chip.damaged:
                where = f"{CACHE}/{CHIPS}/{chip.path}"
                text = f"{where} is not as it was written; it holds {what}"
                self.found.append(Difference(Fault.CHANGED, where, text))
            self.obstacles.append(f"{what}: {'it is damaged' if chip.damaged else 'its pixels are no longer kept'}")
        told_of = expected | {scene_id for scene_id, _ in lacking} | ({name} if lacking else set())
        self.obstacles += [
            f"{plain_text(site.site_id)}: {plain_text(s.item_id)}: {s.reason}"
            for s in part.skipped
            if s.stage == "load" and s.item_id not in told_of
        ]
        return part

    def _result(self, parts: Mapping[str, tuple[Sequence[Part], bool]]) -> WatchResult:
        found = {place: list(some) for place, (some, _) in parts.items()}
        tables = {place: [part.series for part in some if part.series is not None] for place, some in found.items()}
        digests = {place: [part.digest for part in some] for place, some in found.items()}
        origin = self.stored.provenance
        judged = judge(self.area, digests, tables, self.job, origin.created.date(), None)
        result = assembled(self.area, self.job, found, tables, judged, origin)
        # What catalogues and servers said on that day cannot be asked again.
        return replace(result, skipped=self.stored.skipped)

    def _write(self, result: WatchResult, anew: Path) -> None:
        export = self.job.settings.export
        outputs.write_watch(
            result,
            anew,
            rasters=export.rasters,
            report=export.report,
            hash_imagery=export.hash_imagery,
            min_patch_m2=self.job.settings.detect.min_patch_m2,
            told=told(as_stored(result)) if export.report else None,
        )

    # -------------------------------------------------------------------------------------------------- the store

    def _compare_basis(self) -> None:
        """Does the store say of what the run rested on what the manifest says?"""
        for name, value in self.job.basis.items():
            if name != VERSION and self.run.basis.get(name) != value:
                text = f"manifest.json says {name} = {value}, the run in {STORE} had {self.run.basis.get(name)}"
                self.found.append(Difference(Fault.DISAGREES, "manifest.json", plain_text(text)))

    def _check_kept(self, parts: Mapping[str, tuple[Sequence[Part], bool]]) -> None:
        """Does the store hold the series that is measured anew?"""
        if self.run.basis.get(VERSION) != self.job.basis[VERSION]:
            return
        for place, (found, whole) in parts.items():
            for part in found if whole else ():
                self._check_part(place, part, self.ledger.kept(place, part.sensor))

    def _check_part(self, place: str, part: Part, kept: Kept) -> None:
        what = f"{STORE}: {plain_text(place)}, {part.sensor}"
        if kept.inputs != part.inputs:
            text = f"{what}: the scenes, outline or settings that it names are not those that were measured"
            self.found.append(Difference(Fault.RECOMPUTED, STORE, text))

    def _compare_statements(self, result: WatchResult, sites: Sequence[str]) -> None:
        """Does the store hold the statements that are made anew?"""
        for state in result.states:
            said = [s for s in self.ledger.said(state.site_id) if s.run <= self.run.number]
            if not said or state.site_id not in sites:
                continue
            for name, old, new in _unlike_fields(said[-1].state, state):
                text = f"{STORE}: site {plain_text(state.site_id)}: {name} is {plain_text(old)}, recomputed {new}"
                self.found.append(Difference(Fault.RECOMPUTED, STORE, text))


def _may_be_read(href: str) -> bool:
    """Whether an address of anybody's store leads to a chip, or to a file of this machine and nowhere else."""
    return stack.is_remote(href) or local_path(href) is not None


def _unlike_fields(old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    for name in ("state", "score", "change_date", "change_date_earliest", "change_date_latest"):
        if getattr(old, name) != getattr(new, name):
            yield name, getattr(old, name), getattr(new, name)

"""What may be said in public of a result: states that are old enough, places coarsened, nothing that is restricted.

The result itself is read and never changed.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compoundwatch import __version__, aoi, sensors
from compoundwatch.errors import SettingsError
from compoundwatch.ladder import INCONCLUSIVE, NOT_NO_CHANGE, words
from compoundwatch.model import Settings, Site, SiteState, State
from compoundwatch.outputs.public import COARSEST_M, FINEST_M, PublicSite, public_cell, write_public
from compoundwatch.outputs.reading import read_watch
from compoundwatch.store import STORE, Ledger, Said, reading

PRECISION_M, DELAY_DAYS = 10_000.0, 14
CAVEATS = (
    "States are what satellite measurements are consistent with; they are no proof of what happened, nor of why.",
    "Inconclusive and not observable are answers of their own and do not mean that nothing changed.",
    "A fall of activity does not say who left, where anybody went, or that a place is out of use.",
    "Satellites see roofs, ground and light, never people, and nothing under cloud or inside buildings.",
    "Everybody who lives or works near a named place can be harmed by it: do not use this to target, raid or search.",
)
RESTRICTED, NO_SOURCE, PRECISE_TEXT, UNLISTED = (
    "restricted in the file of areas",
    "no public source stated",
    "its name or source holds what looks like coordinates",
    "not in the file of areas",
)
"""Why a site is left out."""
_COORDINATES = re.compile(r"\d{1,3}[.,]\d{3,}|\d{1,3}\s*°")
SHORTEST_TEXT = 4
"""Restricted texts of fewer letters are not searched for in other texts: they would be found by chance."""


@dataclass(frozen=True)
class Statement:
    """What was said of a site, and the day up to which imagery and clock let it know."""

    state: SiteState
    known_until: dt.date


@dataclass(frozen=True)
class Published:
    """What a publication holds: its sites, how many have a later state that is held back, and why others are left out.

    ``left_out`` counts sites by reason; ``unseen`` of them that have no state old enough are not in ``sites`` either.
    """

    sites: tuple[PublicSite, ...]
    n_sites: int
    held_back: int
    unseen: int
    left_out: Mapping[str, int]
    files: tuple[Path, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every site is told of with its latest state."""
        return len(self.sites) == self.n_sites and not self.held_back


def publish(
    folder: Path | str,
    out: Path | str,
    *,
    areas: Path | str | None = None,
    precision_m: float = PRECISION_M,
    delay_days: int = DELAY_DAYS,
    now: dt.datetime | None = None,
) -> Published:
    """Write a folder that may be shown to anybody from a result, which stays as it is.

    A site is told of by the cell of a fixed grid it lies in, in the words of the ladder, and with what was known
    ``delay_days`` ago. Fields that the file of areas marks as restricted, pixels, patches, series, controls, events and
    the ids of scenes are not in it.

    Parameters
    ----------
    folder : result of ``watch``.
    out : new or empty folder outside of it.
    areas : file of areas with the marks; None = as the workspace remembers them.
    precision_m : smallest size of a cell (metres, 500 to 1,000,000); a site whose own ``precision_m`` or
        ``public_precision_m`` is coarser gets the cell of that.
    delay_days : age of a state from which on it is told (days, 0 or more).
    now : the time of publishing (UTC); default: the clock.

    Raises
    ------
    SettingsError : there is no such result, ``out`` will not do, a number is out of range, or the marks are not known.
    AreaError : the file of areas is wrong.
    OutputError : the folder cannot be written.
    """
    folder, out = Path(folder), Path(out)
    now = now or dt.datetime.now(dt.UTC)
    _check_numbers(precision_m, delay_days)
    _check_target(folder, out)
    stored = read_watch(folder)
    marked = _marks(folder, Path(areas) if areas else None)
    told = _statements(folder) or {
        s.site_id: [Statement(s, min(s.as_of, _day(stored.provenance.inputs.get("last_day"), s.as_of)))]
        for s in stored.states
    }
    found = publishable(stored.area.targets, marked, told, stored.settings, precision_m, delay_days, now)
    named = sorted({name for site in found.sites for name in site.state.sensors})
    years = sorted({t.year for times in stored.acquired.values() for t in times})
    about = {
        "published": now.date(),
        "software": f"compoundwatch {__version__}",
        "precision_m": precision_m,
        "delay_days": delay_days,
        "n_sites": found.n_sites,
        "n_published": len(found.sites),
        "n_held_back": found.held_back,
        "n_without_older_state": found.unseen,
        "left_out": dict(found.left_out),
    }
    files = write_public(out, found.sites, about, CAVEATS, _attributions(named, years))
    return replace(found, files=tuple(files))


def publishable(
    sites: Iterable[Site],
    marked: Mapping[str, Site],
    told: Mapping[str, Sequence[Statement]],
    settings: Settings,
    precision_m: float,
    delay_days: int,
    now: dt.datetime,
) -> Published:
    """What may be said of sites in public.

    Parameters
    ----------
    sites : as the result has them.
    marked : the same with the marks of the file of areas, by id.
    told : what was said of each site, oldest first, by id.
    """
    limit = now.date() - dt.timedelta(days=delay_days)
    kept: list[PublicSite] = []
    left: Counter[str] = Counter()
    secret: list[str] = []
    held = unseen = n_sites = 0
    for number, site in enumerate(sites, 1):
        n_sites += 1
        marks = marked.get(site.site_id)
        secret += _secrets(marks or site)
        if why := _barred(marks):
            left[why] += 1
            continue
        assert marks is not None
        old = [s for s in told.get(site.site_id, ()) if s.known_until <= limit]
        held += len(old) < len(told.get(site.site_id, ()))
        if not old:
            unseen += 1
            continue
        kept.append(_public(number, marks, old[-1], settings.score.probability_called, precision_m))
    found = []
    for one in kept:
        open_texts = (one.site_id, one.name, one.source or "")
        if any(text.casefold() in shown.casefold() for text in secret for shown in open_texts):
            left[RESTRICTED] += 1
        elif any(_COORDINATES.search(shown) for shown in open_texts):
            left[PRECISE_TEXT] += 1
        else:
            found.append(one)
    return Published(tuple(found), n_sites, held, unseen, dict(sorted(left.items())))


def statements(ledger: Ledger, site_id: str) -> list[Statement]:
    """What a workspace said of a site, oldest first."""
    last_days = {run.number: run.last_day for run in ledger.runs()}
    return [known(said, last_days) for said in ledger.said(site_id)]


def known(said: Said, last_days: Mapping[int, dt.date]) -> Statement:
    """A statement with the day up to which its run could know anything."""
    return Statement(said.state, min(said.state.as_of, last_days[said.run]))


def sentence(statement: Statement, called: float) -> str:
    """A state in the words of the ladder, with dates and probability; ``called`` as in ``ladder.words``."""
    state, until = statement.state, statement.known_until
    said = words(state, called)
    if state.state is State.NOT_OBSERVABLE:
        return f"{said.capitalize()} up to {until}; {NOT_NO_CHANGE}."
    p = state.probability.get(state.state)
    sure = "" if p is None else f" (probability {'over 99%' if p > 0.99 else f'{p:.0%}'})"
    if state.change_date_earliest is None:
        return f"{said.capitalize()} up to {until}{sure}."
    when = f"between {state.change_date_earliest} and {state.change_date_latest}"
    return f"{said.capitalize()} {when}{sure}; known up to {until}."


def _public(number: int, site: Site, statement: Statement, called: float, precision_m: float) -> PublicSite:
    hidden = restricted(site)
    cell_m = max(precision_m, site.precision_m or 0, float(site.properties.get("public_precision_m") or 0))
    masked = bool(hidden & {"site_id", "name"})
    public_name = str(site.properties.get("public_name") or "").strip()
    name = public_name or (f"Site {number}" if masked else site.name)
    # A name is often made of the id, and an id of the name: where one is restricted, neither is told as it is.
    identity = f"public-{number}" if masked or public_name else site.site_id
    said = words(statement.state, called)
    state = statement.state
    if said == INCONCLUSIVE or state.state is State.NOT_OBSERVABLE:
        state = replace(state, change_date=None, change_date_earliest=None, change_date_latest=None)
    return PublicSite(
        place_id=site.site_id,
        site_id=identity,
        name=name,
        state=state,
        words=said,
        reason=sentence(statement, called),
        known_until=statement.known_until,
        cell=public_cell(site.geometry, cell_m),
        cell_m=cell_m,
        source=None if "source" in hidden else site.source,
        source_date=None if "source" in hidden else site.source_date,
    )


def restricted(site: Site) -> frozenset[str]:
    """The fields of a site that its file marks as restricted."""
    return frozenset(t.strip() for t in str(site.properties.get("restricted") or "").split(",") if t.strip())


def _barred(site: Site | None) -> str:
    """Why a site may not be told of at all, empty if it may."""
    if site is None:
        return UNLISTED
    if "all" in restricted(site):
        return RESTRICTED
    return "" if site.source else NO_SOURCE


def _secrets(site: Site) -> list[str]:
    """Texts of a site that must be in no text of another either."""
    hidden = restricted(site)
    if "all" in hidden:
        hidden = frozenset({"site_id", "name"})
    texts = {"site_id": site.site_id, "name": site.name, "source": site.source or ""}
    return [texts[name] for name in sorted(hidden & texts.keys()) if len(texts[name]) >= SHORTEST_TEXT]


def _marks(folder: Path, areas: Path | None) -> dict[str, Site]:
    if areas is not None:
        return aoi.read_areas(areas).by_id
    if not (folder / STORE).is_file():
        raise SettingsError(
            f"{folder} does not remember what may be published (there is no {STORE} in it); name the file of areas "
            "with --aoi"
        )
    with reading(folder) as ledger:
        return {site_id: site for site_id, (site, _) in ledger.places().items()}


def _statements(folder: Path) -> dict[str, list[Statement]]:
    if not (folder / STORE).is_file():
        return {}
    with reading(folder) as ledger:
        return {site_id: statements(ledger, site_id) for site_id in ledger.judged()}


def _day(text: str | None, default: dt.date) -> dt.date:
    try:
        return dt.date.fromisoformat(text or "")
    except ValueError:
        return default


def _attributions(names: Sequence[str], years: Sequence[int]) -> list[str]:
    span = "" if not years else f" {years[0]}" if years[0] == years[-1] else f" {years[0]}-{years[-1]}"
    said = dict.fromkeys(sensors.sensor(name).attribution for name in names)
    return [f"{text[:1].upper()}{text[1:]}{span}." for text in said]


def _check_numbers(precision_m: float, delay_days: int) -> None:
    if not FINEST_M <= precision_m <= COARSEST_M:
        raise SettingsError(
            f"expected a precision of {FINEST_M:,.0f} to {COARSEST_M:,.0f} metres, found {precision_m:g}; a finer one "
            "would show single places"
        )
    if not 0 <= delay_days <= 3650:
        raise SettingsError(f"expected a delay of 0 to 3650 days, found {delay_days}")


def _check_target(folder: Path, out: Path) -> None:
    home, target = folder.resolve(), out.resolve()
    if target.is_relative_to(home) or home.is_relative_to(target):
        raise SettingsError(f"{out} and the result {folder} lie in one another; name a folder beside it")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise SettingsError(f"{out} is there already and is not replaced; name a new folder")


def published_text(found: Published) -> list[str]:
    """What was published and what was not, in sentences."""
    lines = [f"{len(found.sites)} of {found.n_sites} sites are in it."]
    if found.held_back:
        lines.append(f"Of {found.held_back} the latest state is younger than the delay and is held back.")
    if found.unseen:
        lines.append(f"{found.unseen} have no state that is old enough and are not in it.")
    return lines + [f"{n} left out: {why}." for why, n in found.left_out.items()]


def describe_published(found: Published) -> dict[str, Any]:
    """What was published and what was not, as plain values."""
    return {
        "n_sites": found.n_sites,
        "n_published": len(found.sites),
        "n_held_back": found.held_back,
        "n_without_older_state": found.unseen,
        "left_out": dict(found.left_out),
        "files": [str(path) for path in found.files],
    }

"""May a run go on in a workspace, and from where? Rules that keep unlike answers from being mixed in silence."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace

from compoundwatch.errors import SettingsError
from compoundwatch.model import AreaOfInterest, Site
from compoundwatch.pipeline.planning import Plan
from compoundwatch.store import UNFINISHED, Run

REMEDY = (
    "add --renew to measure and judge anew what depends on it (what was said before stays recorded), or choose another "
    "folder"
)


def check_clock(runs: Sequence[Run], now: dt.datetime) -> None:
    """Refuse a run that is dated before the last one: what was said when would no longer be known.

    Raises
    ------
    SettingsError : it is.
    """
    if runs and now < runs[-1].began:
        raise SettingsError(
            f"the clock says {now:%Y-%m-%d %H:%M:%S} UTC, but the last run of this workspace began at "
            f"{runs[-1].began:%Y-%m-%d %H:%M:%S} UTC; set the clock right, or choose another folder"
        )


def continued(plan: Plan, runs: Sequence[Run], now: dt.datetime, renew: bool) -> Plan:
    """The plan of the next run of a workspace.

    Catalogues are asked for the whole time in the first run that ends, and again ``search.recheck_days`` after it.

    Raises
    ------
    SettingsError : the answers would depend on other settings than before, or imagery would end earlier.
    """
    if not runs:
        return plan
    last = runs[-1]
    if not renew:
        for name, value in plan.basis.items():
            if value != last.basis.get(name):
                raise SettingsError(f"this workspace rests on {name} = {last.basis.get(name)}, found {value}; {REMEDY}")
    if plan.end < last.last_day:
        raise SettingsError(
            f"this workspace holds what was seen up to {last.last_day}, and the last day asked for is {plan.end}; "
            "leave --to out, or choose another folder"
        )
    asked = [r for r in runs if r.whole and r.outcome != UNFINISHED]
    recent = asked and (now.date() - asked[-1].as_of).days < plan.settings.search.recheck_days
    return replace(plan, whole=renew or not recent, renew=renew)


def check_places(area: AreaOfInterest, known: Mapping[str, tuple[Site, bool]], renew: bool) -> None:
    """Refuse places whose outline, or whose controls, are others than before.

    Parameters
    ----------
    known : every place of the workspace, with whether its controls were proposed.

    Raises
    ------
    SettingsError : names the first such place.
    """
    for site in area.sites if not renew else ():
        old, proposed = known.get(site.site_id, (None, False))
        if old is None:
            continue
        if old.geometry.wkb != site.geometry.wkb:
            raise SettingsError(f"site {site.site_id} has another outline than in this workspace; {REMEDY}")
        if old.controls != site.controls and not (proposed and not site.controls):
            raise SettingsError(f"site {site.site_id} has other controls than in this workspace; {REMEDY}")


def proposed_before(area: AreaOfInterest, known: Mapping[str, tuple[Site, bool]]) -> dict[str, tuple[Site, ...]]:
    """Controls that were proposed for sites without any, by site, where the site is still where it was."""
    found = {}
    for site in area.targets:
        old, proposed = known.get(site.site_id, (None, False))
        if old and proposed and not site.controls and old.geometry.wkb == site.geometry.wkb:
            found[site.site_id] = tuple(known[c][0] for c in old.controls)
    return found

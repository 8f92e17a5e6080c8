"""report.html: one file that works without a network, on a phone and on paper."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compoundwatch.model import Event, Picture, ScoreSettings, Site, SiteState, Skipped, State, WatchResult
from compoundwatch.outputs import figures, legend
from compoundwatch.outputs.manifest import plain, stamp, utc, without_secrets
from compoundwatch.outputs.rows import answers_by_site, concerns
from compoundwatch.outputs.vector import Patch

if TYPE_CHECKING:
    import pandas as pd

TEMPLATES = Path(__file__).parent / "templates"
LISTED = 40
"""At most so many left-out items are listed one by one; the manifest has all."""

View = dict[str, Any]


def write_report(path: Path, result: WatchResult, patches: Sequence[Patch]) -> None:
    """Write the report of one run.

    Parameters
    ----------
    patches : the changed patches of all sites, as in changes.geojson.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, p=p_text, number=number, label=legend.feature_label)
    path.write_text(environment.get_template("report.html.j2").render(view(result, patches)), encoding="utf-8")


def view(result: WatchResult, patches: Sequence[Patch]) -> View:
    """Everything the template shows, in plain values."""
    called = _probability_called(result)
    answers = answers_by_site(result)
    sites = [
        site_view(result, site, answers[site.site_id], called, [p for p in patches if p.site_id == site.site_id], k)
        for k, site in enumerate(result.area.targets, start=1)
    ]
    ids = [site.site_id for site in result.area.targets]
    general = [s for s in result.skipped if not any(concerns(s.item_id, site_id) for site_id in ids)]
    days = sorted(utc(s.acquired).date() for s in result.scenes)
    return {
        "title": f"{len(sites)} site{'' if len(sites) == 1 else 's'} in {result.area.area_id}",
        "summary": summary([s["words"] for s in sites]),
        "as_of": result.as_of.isoformat(),
        "reference_end": result.reference_end.isoformat(),
        "n_scenes": len(days),
        "first_scene": days[0].isoformat() if days else None,
        "last_scene": days[-1].isoformat() if days else None,
        "n_controls": len(result.area.sites) - len(result.area.targets),
        "sites": sites,
        "sensors": result.sensors,
        "left_out": left_out(general),
        "called": called,
        "legend": [{"colour": legend.STATE_COLOURS[s], "code": s.value, "words": legend.STATE_WORDS[s]} for s in State],
        "directions": {str(k): v for k, v in legend.DIRECTION_COLOURS.items()},
        "stamp": stamp(result.provenance),
        "software": sorted(result.provenance.software.items()),
        "inputs": sorted((without_secrets(k), without_secrets(v)) for k, v in result.provenance.inputs.items()),
    }


def _probability_called(result: WatchResult) -> float:
    """The probability above which the run called a state."""
    default = ScoreSettings.model_fields["probability_called"].default
    group = result.provenance.settings.get("score", {})
    return float(group.get("probability_called", default) if isinstance(group, dict) else default)


def summary(words: Sequence[str]) -> str:
    """One sentence that counts the sites by what is said of them."""
    counts = Counter(words).most_common()
    parts = [f"{n} {'is' if n == 1 else 'are'} {text}" for text, n in counts]
    of = f"Of {len(words)} sites, " if len(words) > 1 else "The only site " if words else ""
    if len(words) == 1:
        return f"{of}is {words[0]}."
    return f"{of}{', '.join(parts)}." if words else "There is no site in this area."


def site_view(
    result: WatchResult, site: Site, state: SiteState, called: float, patches: Sequence[Patch], number_: int
) -> View:
    """What the report says of one site."""
    events = sorted((e for e in result.area.events if site.site_id in e.scope), key=lambda e: (e.earliest, e.event_id))
    own = result.series[result.series["site_id"] == site.site_id]
    before, after = result.pictures.get(site.site_id, (None, None))
    pictures = [
        picture_view(p, site, result, when) for p, when in ((before, "before"), (after, "after")) if p is not None
    ]
    if after is not None and patches:
        pictures.append(patches_view(after, site, result, patches))
    weighed = sorted(state.probability.items(), key=lambda item: -item[1])
    return {
        "number": number_,
        "id": site.site_id,
        "name": site.name,
        "code": state.state.value,
        "colour": legend.STATE_COLOURS[state.state],
        "words": legend.words(state, called),
        "state": state,
        "interval": interval(state),
        "probabilities": [
            {"code": s.value, "words": legend.STATE_WORDS[s], "colour": legend.STATE_COLOURS[s], "p": p}
            for s, p in weighed
        ],
        "pictures": pictures,
        "missing_pictures": [w for p, w in ((before, "before"), (after, "after")) if p is None],
        "chart": chart_view(result, site, state, own, events),
        "events": [event_view(e) for e in events],
        "effects": [e for e in result.effects if e.site_id == site.site_id],
        "changed": changed_areas(patches),
        "visible": visible(state, own),
        "left_out": left_out([s for s in result.skipped if concerns(s.item_id, site.site_id)]),
        "precision_m": site.precision_m,
        "source": link(site.source),
        "source_date": plain(site.source_date),
    }


def interval(state: SiteState) -> str | None:
    """When the change happened, in words; None where none is called."""
    if state.change_date_earliest is None or state.change_date_latest is None:
        return state.change_date.isoformat() if state.change_date else None
    if state.change_date_earliest == state.change_date_latest:
        return state.change_date_earliest.isoformat()
    return f"{state.change_date_earliest} to {state.change_date_latest}"


def picture_view(picture: Picture, site: Site, result: WatchResult, when: str) -> View:
    """A picture with what must stand beside it: date, sensor, scale, outline, attribution."""
    sensor = next((s for s in result.sensors if s.name == picture.sensor), None)
    acquired = utc(picture.acquired)
    share, length = figures.scale_bar(picture.grid)
    return {
        "when": when,
        "src": data_uri("image/png", figures.picture_png(picture)),
        "rows": picture.grid.rows,
        "cols": picture.grid.cols,
        "outline": figures.outline_path(site.geometry, picture.grid),
        "patches": [],
        "bar_share": round(share, 2),
        "bar_length": length,
        "day": acquired.date().isoformat(),
        "time": f"{acquired:%H:%M} UTC",
        "scene_id": picture.scene_id,
        "sensor": sensor.title if sensor else picture.sensor,
        "attribution": f"{sensor.attribution} {acquired.year}" if sensor else "",
        "unseen": float(1 - picture.seen.mean()),
    }


def patches_view(picture: Picture, site: Site, result: WatchResult, patches: Sequence[Patch]) -> View:
    """The picture after, with the changed patches of the feature that changed most."""
    area: Counter[tuple[str, str]] = Counter()
    for patch in patches:
        area[patch.sensor, patch.feature] += patch.n_pixels
    sensor, feature = area.most_common(1)[0][0]
    drawn = [p for p in patches if (p.sensor, p.feature) == (sensor, feature)]
    suggests = next((f.increase_suggests for s in result.sensors for f in s.features if f.name == feature), None)
    return {
        **picture_view(picture, site, result, "changed"),
        "feature": legend.feature_label(feature),
        "suggests": suggests,
        "patches": [
            {"path": figures.outline_path(p.geometry, picture.grid), "colour": legend.DIRECTION_COLOURS[p.direction]}
            for p in drawn
        ],
        "drawn": [
            {"colour": legend.DIRECTION_COLOURS[d], "text": next(p.direction_text for p in drawn if p.direction == d)}
            for d in sorted({p.direction for p in drawn}, reverse=True)
        ],
    }


def chart_view(
    result: WatchResult, site: Site, state: SiteState, own: pd.DataFrame, events: Sequence[Event]
) -> View | None:
    """The chart of a site, and what it shows in words; None where nothing was measured."""
    units = {f.name: f.unit for s in result.sensors for f in s.features}
    units |= {e.feature: e.unit for e in result.effects}
    titles = {s.name: s.title for s in result.sensors}
    plain_features = [f.name for s in result.sensors for f in s.features]
    panels = []
    beside = result.series[result.series["site_id"].isin(site.controls)]
    for (sensor, feature), rows in own[own["value"].notna()].groupby(["sensor", "feature"], sort=True):
        # Series made from a feature ("ndvi_up") are evidence for the effects table; a chart of all would hide the rest.
        if any(str(feature).startswith(f"{name}_") for name in plain_features):
            continue
        same = beside[(beside["sensor"] == sensor) & (beside["feature"] == feature)]
        unit = units.get(str(feature), "1")
        text = f"{legend.feature_label(str(feature))}, {titles.get(str(sensor), sensor)}" + (
            f" ({unit})" if unit != "1" else ""
        )
        panels.append(figures.Panel(text, rows, figures.median_of_controls(same)))
    if not panels:
        return None
    change = None
    if state.change_date_earliest is not None and state.change_date_latest is not None:
        change = figures.Span(state.change_date_earliest, state.change_date_latest)
    spans = [figures.Span(e.earliest, e.latest) for e in events]
    svg = figures.chart_svg(panels, figures.Marks(result.reference_end, change, state.change_date, spans))
    when = interval(state)
    return {
        "src": data_uri("image/svg+xml", svg.encode()),
        "alt": f"Chart over time of {', '.join(p.label for p in panels)}: this site against the median of its controls."
        + (f" The change lies in {when}." if when else " No change is called."),
    }


def event_view(event: Event) -> View:
    """One event of a site's list."""
    one_day = event.earliest == event.latest
    return {
        "when": event.earliest.isoformat() if one_day else f"{event.earliest} to {event.latest}",
        "what": event.what,
        "place": event.place,
        "source": link(event.source),
        "trust": event.trust,
    }


def changed_areas(patches: Sequence[Patch]) -> list[View]:
    """Per sensor, feature and direction: how many patches, their area, and the days they span."""
    rows: dict[tuple[str, str, int], list[Patch]] = {}
    for patch in patches:
        rows.setdefault((patch.sensor, patch.feature, patch.direction), []).append(patch)
    return [
        {
            "sensor": sensor,
            "text": group[0].direction_text,
            "colour": legend.DIRECTION_COLOURS[direction],
            "count": len(group),
            "area_m2": sum(p.area_m2 for p in group),
            "first": plain(min((p.date for p in group if p.date), default=None)),
            "last": plain(max((p.date for p in group if p.date), default=None)),
        }
        for (sensor, _, direction), group in sorted(rows.items())
    ]


def visible(state: SiteState, own: pd.DataFrame) -> list[str]:
    """How well a site was seen, in sentences."""
    parts = f"{state.n_before} before and {state.n_after} after the end of the reference period"
    said = [f"{state.n_views} usable views: {parts}."]
    if state.valid_fraction is not None:
        said.append(f"On average {percent(state.valid_fraction)} of the site was clear.")
    days = sorted({utc(t).date() for t in own.loc[own["value"].notna(), "acquired"]})
    if len(days) > 1:
        gap, start, end = max((b - a, a, b) for a, b in pairwise(days))
        said.append(f"The longest time without a measurement was {gap.days} days, {start} to {end}.")
    if state.min_detectable is not None:
        said.append(f"A fall of activity below {percent(state.min_detectable)} could have gone unseen.")
    if state.n_controls:
        said.append(f"Compared with {state.n_controls} control area{'s' if state.n_controls > 1 else ''}.")
    elif state.n_views:
        said.append("Compared with its own past only.")
    return said


def left_out(skipped: Sequence[Skipped]) -> View:
    """What was left out: how much, and why."""
    items = [
        {"item": without_secrets(s.item_id), "stage": s.stage, "reason": without_secrets(s.reason)}
        for s in sorted(skipped, key=lambda s: s.routine)
    ]
    return {
        "count": len(items),
        "routine": sum(s.routine for s in skipped),
        "listed": items[:LISTED],
        "more": max(0, len(items) - LISTED),
    }


def link(source: str | None) -> View | None:
    """A source, with its address where it is one of the web and nothing else."""
    if not source:
        return None
    return {"text": source, "href": source if re.fullmatch(r"https?://[^\s\"'<>]+", source) else None}


def data_uri(kind: str, content: bytes) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def percent(value: float | None) -> str:
    """A share 0-1 for readers; "-" for missing. Never rounds to certainty."""
    if plain(value) is None:
        return "–"
    assert value is not None
    if 0 < value < 0.01:
        return "< 1 %"
    if 0.99 < value < 1:
        return "> 99 %"
    return f"{100 * value:.0f} %"


def p_text(value: float | None) -> str:
    """A p-value for readers; "-" for not tested."""
    if plain(value) is None:
        return "–"
    assert value is not None
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits; "-" for missing."""
    if plain(value) is None:
        return "–"
    assert value is not None
    return f"{value:,.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"

"""Everything the report shows, in plain values: what to say of each site, and in which words."""

from __future__ import annotations

import base64
import datetime as dt
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from compoundwatch import ladder
from compoundwatch.errors import SettingsError
from compoundwatch.model import (
    Event,
    Picture,
    Sensor,
    Site,
    SiteState,
    Skipped,
    State,
    Timing,
    Verdict,
    nearest,
)
from compoundwatch.outputs import figures, legend
from compoundwatch.outputs.manifest import plain, stamp, utc, without_secrets
from compoundwatch.outputs.report import strips
from compoundwatch.outputs.report.words import ENGLISH, Words
from compoundwatch.outputs.rows import concerns

if TYPE_CHECKING:
    import pandas as pd

    from compoundwatch.outputs.reading import StoredWatch
    from compoundwatch.outputs.report.page import Told
    from compoundwatch.outputs.vector import Patch

LISTED = 40
"""At most so many left-out items are listed one by one; the manifest has all."""
MAX_PANELS = 4
"""Charts of a site; all measurements are in watch.gpkg."""
PAGE_BYTES = 22_000_000
"""What charts and pictures of all sites may take together; pictures are compressed where they would not fit."""
MIN_PICTURE_BYTES = 20_000
RAID = "raid"

View = dict[str, Any]


def view(stored: StoredWatch, sensors: Sequence[Sensor], told: Told, said: Words, site_id: str | None = None) -> View:
    """Everything the template shows.

    Raises
    ------
    SettingsError : there is no site of this id.
    """
    targets = stored.area.targets
    chosen = [s for s in targets if site_id in (None, s.site_id)]
    if not chosen and site_id is not None:
        ids = [s.site_id for s in targets]
        close = nearest(site_id, ids)
        hint = f"did you mean '{close}'?" if close else f"its sites are {', '.join(ids)}"
        raise SettingsError(f"there is no site '{site_id}' in this result; {hint}")
    answers = {state.site_id: state for state in stored.states}
    numbers = {s.site_id: k for k, s in enumerate(targets, start=1)}
    sites = [
        site_view(stored, sensors, site, answers[site.site_id], told.verdicts, said, numbers[site.site_id])
        for site in chosen
    ]
    room = (PAGE_BYTES - sum(len(panel["src"]) for s in sites for panel in s["panels"])) / max(1, len(sites))
    for site, shown in zip(chosen, sites, strict=True):
        shown |= pictures_view(stored, sensors, site, shown["drawn"], max(MIN_PICTURE_BYTES, 0.75 * room))
    general = [s for s in stored.skipped if not any(concerns(s.item_id, k) for k in numbers)]
    days = sorted(utc(t).date() for times in stored.acquired.values() for t in times)
    run = stored.provenance
    return {
        "title": title(stored, chosen, said),
        "only": site_id,
        "n_targets": len(targets),
        "summary": summary([s["words"] for s in sites], said),
        "told": told,
        "as_of": stored.as_of.isoformat(),
        "reference_end": stored.reference_end.isoformat(),
        "n_scenes": len(days),
        "first_scene": days[0].isoformat() if days else None,
        "last_scene": days[-1].isoformat() if days else None,
        "n_controls": len({c for s in chosen for c in s.controls}),
        "sites": sites,
        "raids": any(e.kind == RAID for e in stored.area.events),
        "sensors": sensors,
        "left_out": left_out(general),
        "called": stored.settings.score.probability_called,
        "legend": [{"code": s.value, "words": _in_legend(s, said)} for s in State],
        "stamp": stamp(run),
        "software": sorted(run.software.items()),
        "inputs": sorted((without_secrets(k), without_secrets(v)) for k, v in run.inputs.items()),
    }


def _in_legend(state: State, said: Words) -> str:
    """What a colour stands for: that of NOT_OBSERVABLE also for sites that were seen, but not clearly enough."""
    words = str(said.gettext(ladder.STATE_WORDS[state]))
    return f"{said.gettext(ladder.INCONCLUSIVE)} / {words}" if state is State.NOT_OBSERVABLE else words


def title(stored: StoredWatch, sites: Sequence[Site], said: Words) -> str:
    """The name of a page: that of its only site, or how many sites there are and where."""
    if len(sites) == 1 and len(stored.area.targets) > 1:
        return sites[0].name
    text = said.ngettext("%(n)s site in %(area)s", "%(n)s sites in %(area)s", len(sites))
    return text % {"n": len(sites), "area": stored.area.area_id}


def summary(words: Sequence[str], said: Words) -> str:
    """One sentence that counts the sites by what is said of them."""
    if not words:
        return said.gettext("There is no site in this area.")
    if len(words) == 1:
        return said.fill("This site is %(words)s.", words=words[0])
    parts = [
        said.ngettext("%(n)s is %(words)s", "%(n)s are %(words)s", n) % {"n": n, "words": text}
        for text, n in Counter(words).most_common()
    ]
    return said.fill("Of %(n)s sites, %(parts)s.", n=len(words), parts=", ".join(parts))


def site_view(
    stored: StoredWatch,
    sensors: Sequence[Sensor],
    site: Site,
    state: SiteState,
    verdicts: Sequence[Verdict],
    said: Words,
    number_: int,
) -> View:
    """What the report says of one site, without its pictures."""
    events = sorted((e for e in stored.area.events if site.site_id in e.scope), key=lambda e: (e.earliest, e.event_id))
    held = {v.event_id: v for v in verdicts if v.site_id == site.site_id}
    own = stored.series[stored.series["site_id"] == site.site_id]
    patches = [p for p in stored.patches if p.site_id == site.site_id]
    told = [event_view(e, held.get(e.event_id), said, k) for k, e in enumerate(events, start=1)]
    return {
        "number": number_,
        "id": site.site_id,
        "name": site.name,
        "geometry": site.geometry,
        "controls": site.controls,
        "code": state.state.value,
        "order": list(State).index(state.state),
        "colour": legend.STATE_COLOURS[state.state],
        "words": said.gettext(ladder.words(state, stored.settings.score.probability_called)),
        "probability": state.probability.get(state.state),
        "state": state,
        "sentence": "" if said.language == ENGLISH else sentence(state, stored, said),
        "interval": interval(state, said),
        "between": between(state),
        "probabilities": probabilities(state, said),
        "panels": panels_view(stored, sensors, site, state, own, events, said),
        "marks": marks(state, events),
        "events": told,
        "raids": [e for e in told if e["kind"] == RAID and e["verdict"]],
        "dates": strips.change_dates(state, events),
        "seen": strips.views(own),
        "effects": [e for e in stored.effects if e.site_id == site.site_id],
        "drawn": drawn(patches),
        "changed": changed_areas(patches),
        "visible": visible(state, own, said),
        "left_out": left_out([s for s in stored.skipped if concerns(s.item_id, site.site_id)]),
        "precision_m": site.precision_m,
        "source": link(site.source),
        "source_date": plain(site.source_date),
        "sensors": [s for s in sensors if s.name in state.sensors],
    }


def sentence(state: SiteState, stored: StoredWatch, said: Words) -> str:
    """The answer in a plain sentence, for languages in which the reason is not written."""
    words = ladder.words(state, stored.settings.score.probability_called)
    if words == ladder.INCONCLUSIVE:
        return said.gettext("The measurements fit neither a change nor its absence well enough to say which.")
    if state.state is State.NOT_OBSERVABLE:
        return said.gettext("Too little could be seen or measured here. This is not the same as no change.")
    meaning = said.gettext(ladder.MEANING[state.state])
    text = said.fill("%(meaning)s (probability %(p)s).", meaning=meaning, p=percent(state.probability[state.state]))
    when = interval(state, said)
    return said.fill("%(when)s: %(sentence)s", when=when, sentence=text) if when else text


def interval(state: SiteState, said: Words) -> str | None:
    """When the change happened, in words; None where none is called."""
    first, last = state.change_date_earliest, state.change_date_latest
    if first is None or last is None:
        return state.change_date.isoformat() if state.change_date else None
    return span(first, last, said)


def between(state: SiteState) -> list[str]:
    """First and last day of the change, or its day alone; empty where none is called."""
    ends = (state.change_date_earliest, state.change_date_latest)
    days = ends if all(ends) else (state.change_date,)
    return list(dict.fromkeys(day.isoformat() for day in days if day))


def span(first: dt.date, last: dt.date, said: Words) -> str:
    """One day, or the first and last of several."""
    return first.isoformat() if first == last else said.fill("%(first)s to %(last)s", first=first, last=last)


def probabilities(state: SiteState, said: Words) -> list[View]:
    """Every state that was weighed, the likeliest first, with its place on a bar of 100 units."""
    shown: list[View] = []
    start = 0.0
    for name, p in sorted(state.probability.items(), key=lambda item: -item[1]):
        words = said.gettext(ladder.STATE_WORDS[name])
        shown.append(
            {"code": name.value, "words": words, "colour": legend.STATE_COLOURS[name], "p": p, "from": 100 * start}
        )
        start += p
    return shown


# ------------------------------------------------------------------------------------------------------- pictures


def pictures_view(
    stored: StoredWatch, sensors: Sequence[Sensor], site: Site, patches: Sequence[Patch], room: float
) -> View:
    """The pictures of a site: before and after, what changed, and frames over time, in at most ``room`` bytes or so."""
    before, after = stored.pictures.get(site.site_id, (None, None))
    pair = [p for p in (before, after) if p is not None]
    exact = [figures.picture_webp(p) for p in pair]
    lossless = sum(map(len, exact)) <= 0.6 * room
    coded = exact if lossless else figures.pictures_within(pair, 0.6 * room)
    views = {id(p): picture_view(p, site, sensors, image) for p, image in zip(pair, coded, strict=True)}
    frames = stored.frames.get(site.site_id, ())
    small = figures.pictures_within(frames, 0.4 * room) if len(frames) > 2 else []
    return {
        "before": views.get(id(before)),
        "after": views.get(id(after)),
        "exact": lossless,
        "together": before is not None and after is not None and before.grid == after.grid,
        "patches": patches_view(after or before, patches, sensors) if pair and patches else None,
        "frames": [
            {"src": data_uri("image/webp", image), "day": utc(frame.acquired).date().isoformat()}
            for frame, image in zip(frames, small, strict=False)
        ],
        "frame_size": (frames[0].grid.cols, frames[0].grid.rows) if small else None,
    }


def picture_view(picture: Picture, site: Site, sensors: Sequence[Sensor], image: bytes) -> View:
    """A picture with what must stand beside it: date, sensor, scale, outline, attribution."""
    sensor = next((s for s in sensors if s.name == picture.sensor), None)
    acquired = utc(picture.acquired)
    share, length = figures.scale_bar(picture.grid)
    return {
        "src": data_uri("image/webp", image),
        "rows": picture.grid.rows,
        "cols": picture.grid.cols,
        "outline": figures.outline_path(site.geometry, picture.grid),
        "bar": round(share / 100 * picture.grid.cols, 2),
        "bar_length": length,
        "day": acquired.date().isoformat(),
        "time": f"{acquired:%H:%M} UTC",
        "scene_id": picture.scene_id,
        "sensor": sensor.title if sensor else picture.sensor,
        "attribution": f"{sensor.attribution} {acquired.year}" if sensor else "",
        "unseen": float(1 - picture.seen.mean()),
    }


def drawn(patches: Sequence[Patch]) -> list[Patch]:
    """The patches of the feature that changed most: those of all features would hide one another."""
    area: Counter[tuple[str, str]] = Counter()
    for patch in patches:
        area[patch.sensor, patch.feature] += patch.n_pixels
    most = area.most_common(1)
    return [p for p in patches if (p.sensor, p.feature) == most[0][0]] if most else []


def patches_view(picture: Picture | None, patches: Sequence[Patch], sensors: Sequence[Sensor]) -> View:
    """The changed patches as they are drawn over a picture."""
    assert picture is not None
    feature = patches[0].feature
    suggests = next((f.increase_suggests for s in sensors for f in s.features if f.name == feature), None)
    return {
        "feature": feature,
        "suggests": suggests,
        "paths": [
            {
                "path": figures.outline_path(p.geometry, picture.grid),
                "direction": p.direction,
                "colour": legend.DIRECTION_COLOURS[p.direction],
            }
            for p in patches
        ],
        "directions": sorted({p.direction for p in patches}, reverse=True),
    }


# --------------------------------------------------------------------------------------------------------- charts


def panels_view(
    stored: StoredWatch,
    sensors: Sequence[Sensor],
    site: Site,
    state: SiteState,
    own: pd.DataFrame,
    events: Sequence[Event],
    said: Words,
) -> list[View]:
    """The charts of a site, one per measurement, those that say most about its state first."""
    units = {f.name: f.unit for s in sensors for f in s.features}
    units |= {e.feature: e.unit for e in stored.effects}
    titles = {s.name: s.title for s in sensors}
    plain_features = [f.name for s in sensors for f in s.features]
    beside = stored.series[stored.series["site_id"].isin(site.controls)]
    found: list[tuple[float, figures.Panel]] = []
    for (sensor, name), rows in own[own["value"].notna()].groupby(["sensor", "feature"], sort=True):
        feature = str(name)
        # Series made from a feature ("ndvi_up") are evidence for the effects table; a chart of all would hide the rest.
        if any(feature.startswith(f"{other}_") for other in plain_features):
            continue
        same = beside[(beside["sensor"] == sensor) & (beside["feature"] == feature)]
        unit = units.get(feature, "1")
        label = f"{said.gettext(legend.feature_label(feature))}, {titles.get(str(sensor), sensor)}"
        panel = figures.Panel(label + (f" ({unit})" if unit != "1" else ""), rows, figures.median_of_controls(same))
        found.append((_said_by(state, str(sensor), feature), panel))
    chosen = [panel for _, panel in sorted(found, key=lambda row: -row[0])[:MAX_PANELS]]
    if not chosen:
        return []
    lines = figures.marks(stored.reference_end, state, events)
    dates = figures.shown([panel for _, panel in found], lines)
    return [
        {
            "label": panel.label,
            "src": data_uri("image/svg+xml", figures.chart_svg([panel], lines, dates, worded=False).encode()),
        }
        for panel in chosen
    ]


def _said_by(state: SiteState, sensor: str, feature: str) -> float:
    """How much the measurements of a feature say for the state of a site."""
    said = [
        value
        for (source, *_, name), value in ((key.split(" "), v) for key, v in state.contributions.items())
        if source == sensor and (name == feature or name.startswith(f"{feature}_"))
    ]
    return max(said, default=0.0)


def marks(state: SiteState, events: Sequence[Event]) -> list[str]:
    """Which marks the charts of a site show: "change" and "event"."""
    return [name for name, there in (("change", state.change_date), ("event", events)) if there]


# --------------------------------------------------------------------------------------------------------- events


def event_view(event: Event, verdict: Verdict | None, said: Words, number_: int) -> View:
    """One event of a site's list, with what the change looks like from it."""
    return {
        "number": number_,
        "id": event.event_id,
        "kind": event.kind,
        "when": span(event.earliest, event.latest, said),
        "what": event.what,
        "place": event.place,
        "source": link(event.source),
        "trust": event.trust,
        "verdict": None if verdict is None else verdict_view(verdict, said),
    }


SHARES = {
    Timing.BEFORE: "before it",
    Timing.AT: "within a day of it",
    Timing.AFTER: "after it",
    Timing.UNDATED: "on an unknown day",
    Timing.NONE: "no change",
}


def verdict_view(verdict: Verdict, said: Words) -> View:
    """A site against an event, in words and numbers."""
    days = None
    if verdict.days is not None and verdict.days_low is not None and verdict.days_high is not None:
        days = {"middle": round(verdict.days), "low": verdict.days_low, "high": verdict.days_high}
    return {
        "words": said.gettext(ladder.TIMING_WORDS[verdict.timing]),
        "timing": verdict.timing.value,
        "shares": [
            {"words": said.gettext(words), "p": verdict.probability[timing]}
            for timing, words in SHARES.items()
            if verdict.probability.get(timing)
        ],
        "days": days,
        "confounded_by": verdict.confounded_by,
        "reason": verdict.reason,
    }


# ----------------------------------------------------------------------------------------------- what was (not) seen


def changed_areas(patches: Sequence[Patch]) -> list[View]:
    """Per sensor, feature and direction: how many patches, their area, and the days they span."""
    rows: dict[tuple[str, str, int], list[Patch]] = {}
    for patch in patches:
        rows.setdefault((patch.sensor, patch.feature, patch.direction), []).append(patch)
    return [
        {
            "sensor": sensor,
            "feature": feature,
            "direction": direction,
            "count": len(group),
            "area_m2": sum(p.area_m2 for p in group),
            "first": plain(min((p.date for p in group if p.date), default=None)),
            "last": plain(max((p.date for p in group if p.date), default=None)),
        }
        for (sensor, feature, direction), group in sorted(rows.items())
    ]


def visible(state: SiteState, own: pd.DataFrame, said: Words) -> list[str]:
    """How well a site was seen, in sentences."""
    sentences = [
        said.fill(
            "%(n)s usable views: %(before)s before and %(after)s after the end of the reference period.",
            n=state.n_views,
            before=state.n_before,
            after=state.n_after,
        )
    ]
    if state.valid_fraction is not None:
        share = percent(state.valid_fraction)
        sentences.append(said.fill("On average %(share)s of the site was clear.", share=share))
    days = sorted({utc(t).date() for t in own.loc[own["value"].notna(), "acquired"]})
    if len(days) > 1:
        gap, start, end = max((b - a, a, b) for a, b in pairwise(days))
        text = "The longest time without a measurement was %(n)s days, %(first)s to %(last)s."
        sentences.append(said.fill(text, n=gap.days, first=start, last=end))
    if state.min_detectable is not None:
        share = percent(state.min_detectable)
        sentences.append(said.fill("A fall of activity below %(share)s could have gone unseen.", share=share))
    if state.n_controls:
        text = said.ngettext(
            "Compared with %(n)s control area.", "Compared with %(n)s control areas.", state.n_controls
        )
        sentences.append(text % {"n": state.n_controls})
    elif state.n_views:
        sentences.append(said.gettext("Compared with its own past only."))
    return sentences


def left_out(skipped: Sequence[Skipped]) -> View:
    """What was left out: how much, and why."""
    items = [
        {"item": without_secrets(s.item_id), "stage": s.stage, "reason": without_secrets(s.reason)}
        for s in sorted(skipped, key=lambda s: s.routine)
    ]
    return {
        "count": len(items),
        "routine": sum(s.routine for s in skipped),
        "reasons": reasons(skipped),
        "listed": items[:LISTED],
        "more": max(0, len(items) - LISTED),
    }


def reasons(skipped: Sequence[Skipped]) -> list[tuple[str, int]]:
    """Why things were left out and how many of each, most frequent first.

    Reasons differ by numbers only: "cloud cover 96 %" and "cloud cover 100 %" are one.
    """
    counts = Counter(re.sub(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)", "…", without_secrets(s.reason)) for s in skipped)
    return sorted(counts.items(), key=lambda row: -row[1])


# ---------------------------------------------------------------------------------------------------------- words


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


def signed(value: int) -> str:
    """A whole number with its sign, as readers write it: "+3", "−12", "0"."""
    return f"{value:+d}".replace("-", "−") if value else "0"

"""From results to rows: one plain dictionary per feature of a layer, keyed by the fields of ``fields.LAYERS``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compoundwatch.model import Event, Role, Scene, ScoreSettings, Site, SiteEffect, SiteState, State, WatchResult
from compoundwatch.outputs.fields import GEOMETRIES, LAYERS, TITLES
from compoundwatch.outputs.legend import words
from compoundwatch.outputs.manifest import without_secrets
from compoundwatch.outputs.vector import Layer, Patch

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Row = dict[str, Any]
Placed = tuple["BaseGeometry | None", Row]


def watch_layers(
    result: WatchResult, patches: Sequence[Patch], charts: Mapping[str, str] | None = None
) -> dict[str, Layer]:
    """Every layer and table of ``fields.LAYERS``; the sites and changes are also GeoJSON files.

    ``charts`` holds the path of the chart of each site that has one, by its id.
    """
    answers = answers_by_site(result)
    called = probability_called(result)
    points = {s.site_id: s.geometry.representative_point() for s in result.area.targets}
    users: dict[str, list[str]] = {}
    for site in result.area.targets:
        for control in site.controls:
            users.setdefault(control, []).append(site.site_id)
    rows: dict[str, list[Placed]] = {
        "sites": [
            (
                s.geometry,
                {
                    **place(s),
                    **answer(answers[s.site_id], called),
                    **origin(s),
                    "chart": (charts or {}).get(s.site_id),
                },
            )
            for s in result.area.targets
        ],
        "controls": [
            (c.geometry, {**place(c), "control_of": joined(users.get(c.site_id, ())), **origin(c)})
            for c in result.area.sites
            if c.role is Role.CONTROL
        ],
        "changes": [(p.geometry, patch_row(p)) for p in patches],
        "events": [(None, event_row(e)) for e in result.area.events],
        "event_places": [
            (points[site_id], event_place_row(e, site_id))
            for e in result.area.events
            for site_id in e.scope
            if site_id in points
        ],
        "scenes": [(s.footprint, scene_row(s)) for s in result.scenes],
        "effects": [(None, effect_row(e)) for e in result.effects],
        "states": [
            (None, {"run_id": result.provenance.run_id, "site_id": site_id, **answer(state, called)})
            for site_id, state in answers.items()
        ],
        "change_dates": [
            (None, {"run_id": result.provenance.run_id, "site_id": site_id, "date": day, "probability": probability})
            for site_id, state in answers.items()
            for day, probability in sorted(state.change_dates.items())
        ],
        "contributions": [
            (None, {"run_id": result.provenance.run_id, "site_id": site_id, "measurement": name, "log_odds": value})
            for site_id, state in answers.items()
            for name, value in state.contributions.items()
        ],
    }
    return {
        name: Layer(
            TITLES[name],
            fields,
            rows.get(name, ()),
            frame=result.series if name == "series" else None,
            geometry=GEOMETRIES.get(name),
        )
        for name, fields in LAYERS.items()
    }


def answers_by_site(result: WatchResult) -> dict[str, SiteState]:
    """The state of every site; a site that no state was given for is not observable, as every site is at first."""
    known = {state.site_id: state for state in result.states}
    return {s.site_id: known.get(s.site_id) or _not_examined(s.site_id, result) for s in result.area.targets}


def probability_called(result: WatchResult) -> float:
    """The probability (0-1) above which the run called a state."""
    default = ScoreSettings.model_fields["probability_called"].default
    group = result.provenance.settings.get("score", {})
    return float(group.get("probability_called", default) if isinstance(group, dict) else default)


def _not_examined(site_id: str, result: WatchResult) -> SiteState:
    why = next((without_secrets(k.reason) for k in result.skipped if concerns(k.item_id, site_id)), "")
    return SiteState(
        site_id=site_id,
        as_of=result.as_of,
        state=State.NOT_OBSERVABLE,
        probability={},
        score=None,
        change_date=None,
        change_date_earliest=None,
        change_date_latest=None,
        p_value=None,
        q_value=None,
        n_views=0,
        n_before=0,
        n_after=0,
        n_controls=0,
        valid_fraction=None,
        min_detectable=None,
        sensors=(),
        reason=f"Not observable: {why}" if why else "Not observable: this site was not examined in this run.",
    )


def concerns(item_id: str, site_id: str) -> bool:
    """Whether something that was left out belongs to a site: it is the site, or its id starts with "<site>: "."""
    return item_id == site_id or item_id.startswith(f"{site_id}: ")


def place(site: Site) -> Row:
    """Which place a row speaks of."""
    return {"site_id": site.site_id, "name": site.name, "role": site.role.value}


def origin(site: Site) -> Row:
    """Who named a place, and how exactly."""
    return {"precision_m": site.precision_m, "source": site.source, "source_date": site.source_date}


def answer(state: SiteState, called: float) -> Row:
    """The answer for one site, with the probability of every state; None where a state was not weighed.

    ``called`` is the probability (0-1) above which the run called a state.
    """
    named = {f"p_{s.value.lower()}": state.probability.get(s) for s in State if s is not State.NOT_OBSERVABLE}
    return {
        "state": state.state.value,
        "words": words(state, called),
        "score": state.score,
        "probability": state.probability.get(state.state),
        **named,
        "change_date": state.change_date,
        "change_date_earliest": state.change_date_earliest,
        "change_date_latest": state.change_date_latest,
        "back_date": state.back_date,
        "p_value": state.p_value,
        "q_value": state.q_value,
        "n_views": state.n_views,
        "n_before": state.n_before,
        "n_after": state.n_after,
        "n_controls": state.n_controls,
        "valid_fraction": state.valid_fraction,
        "min_detectable": state.min_detectable,
        "sensors": joined(state.sensors),
        "as_of": state.as_of,
        "reason": state.reason,
    }


def patch_row(patch: Patch) -> Row:
    """One changed patch of a site."""
    return {
        "site_id": patch.site_id,
        "sensor": patch.sensor,
        "feature": patch.feature,
        "unit": patch.unit,
        "direction": patch.direction,
        "direction_text": patch.direction_text,
        "date": patch.date,
        "date_earliest": patch.date_earliest,
        "date_latest": patch.date_latest,
        "area_m2": patch.area_m2,
        "n_pixels": patch.n_pixels,
        "effect": patch.effect,
        "p_value": patch.p_value,
        "detector": patch.detector,
        "alpha": patch.alpha,
    }


def event_row(event: Event) -> Row:
    """One dated fact."""
    return {
        "event_id": event.event_id,
        "earliest": event.earliest,
        "latest": event.latest,
        "place": event.place,
        "scope": joined(event.scope),
        "kind": event.kind,
        "what": event.what,
        "source": event.source,
        "trust": event.trust,
    }


def event_place_row(event: Event, site_id: str) -> Row:
    """One dated fact at one of the sites it concerns."""
    row = event_row(event)
    return {"event_id": row.pop("event_id"), "site_id": site_id, **{k: v for k, v in row.items() if k != "scope"}}


def scene_row(scene: Scene) -> Row:
    """One acquisition that was used."""
    return {
        "scene_id": scene.scene_id,
        "sensor": scene.sensor,
        "collection": scene.collection,
        "catalog": without_secrets(scene.catalog),
        "acquired": scene.acquired,
        "look": scene.look,
        "processing": scene.processing,
        "cloud_percent": scene.cloud_percent,
    }


def effect_row(effect: SiteEffect) -> Row:
    """How one measurement moved at one site."""
    return {
        "site_id": effect.site_id,
        "sensor": effect.sensor,
        "feature": effect.feature,
        "look": effect.look,
        "unit": effect.unit,
        "effect": effect.effect,
        "std_error": effect.std_error,
        "low": effect.low,
        "high": effect.high,
        "day": effect.day,
        "p_value": effect.p_value,
        "n_controls": effect.n_controls,
        "n_before": effect.n_before,
        "n_after": effect.n_after,
        "pre_trend_p": effect.pre_trend_p,
    }


def share_rows(sites: Sequence[tuple[Site, Mapping[str, float | None]]]) -> list[Placed]:
    """Per area, what share of its pixels changed between two images."""
    names = ("changed_share", "increased_share", "decreased_share", "tested_share")
    return [
        (site.geometry, {**place(site), **{name: shares.get(name) for name in names}, **origin(site)})
        for site, shares in sites
    ]


def joined(ids: Sequence[str]) -> str | None:
    """Several ids in one text; None for none."""
    return ", ".join(ids) or None

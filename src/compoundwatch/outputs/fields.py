"""The dictionary of all vector fields: name, title, kind, unit, meaning and missing; docs/fields.md tells the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number", "date", "datetime"]


@dataclass(frozen=True)
class Field:
    """One column: its name, kind, unit ("" = none), meaning for readers, and what a missing value means.

    ``called`` is how QGIS names it where its own name in plain letters will not do.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    missing: str = "never missing"
    called: str = ""

    @property
    def title(self) -> str:
        """Its name for readers, as QGIS shows it."""
        return self.called or self.name.replace("_", " ").capitalize()


NOT_OBSERVABLE = "no answer"
NO_CHANGE = "no change is called"
NOT_TESTED = "not tested"
NOT_STATED = "not stated"
NOT_EXAMINED = "not examined"

SITE_ID = Field("site_id", "text", "", "id of the site, as in the file of areas", called="Site")
SENSOR = Field("sensor", "text", "", "short name of the satellite product")
FEATURE = Field("feature", "text", "", "what was measured")
LOOK = Field("look", "text", "", "viewing geometry; only equal looks are compared")
PLACE = (
    SITE_ID,
    Field("name", "text", "", "name of the place, as in the file of areas"),
    Field("role", "text", "", "site (watched) or control (compared with)"),
)
ORIGIN = (
    Field(
        "precision_m",
        "number",
        "m",
        "how far the true place may lie from the outline",
        NOT_STATED,
        called="Place known to (m)",
    ),
    Field("source", "text", "", "who named the place", NOT_STATED),
    Field("source_date", "date", "", "when the source said so", NOT_STATED),
)
ANSWER = (
    Field(
        "state",
        "text",
        "",
        "UNCHANGED, EMPTIED, BUILDING, DEMOLISHED, REOCCUPIED, LIGHTS_ONLY or NOT_OBSERVABLE (which is not UNCHANGED)",
    ),
    Field(
        "words",
        "text",
        "",
        "the answer in fixed words: consistent with ..., inconclusive, or not observable",
        called="In words",
    ),
    Field("score", "number", "0-100", "100 x (1 - probability of UNCHANGED)", NOT_OBSERVABLE),
    Field("probability", "number", "0-1", "probability of the state", NOT_OBSERVABLE),
    *(
        Field(
            f"p_{name}",
            "number",
            "0-1",
            f"probability of {name.upper()}",
            "no answer, or not weighed",
            called=f"Probability of {name.upper()}",
        )
        for name in ("unchanged", "emptied", "building", "demolished", "reoccupied", "lights_only")
    ),
    Field("change_date", "date", "", "likeliest day of the change", NO_CHANGE, called="Change, likeliest day"),
    Field(
        "change_date_earliest",
        "date",
        "",
        "first day of the 90 % interval of the change",
        NO_CHANGE,
        called="Change, earliest day",
    ),
    Field(
        "change_date_latest",
        "date",
        "",
        "last day of the 90 % interval of the change",
        NO_CHANGE,
        called="Change, latest day",
    ),
    Field(
        "back_date",
        "date",
        "",
        "day on which a REOCCUPIED site was used again",
        "not known, or another state",
        called="Used again on",
    ),
    Field("p_value", "number", "0-1", "chance of evidence this strong where nothing happened", NOT_TESTED),
    Field(
        "q_value", "number", "0-1", "rate of false discoveries over all sites at which this one is called", NOT_TESTED
    ),
    Field("n_views", "integer", "count", "usable dates", NOT_EXAMINED, called="Usable dates"),
    Field(
        "n_before",
        "integer",
        "count",
        "usable dates before the reference period ends",
        NOT_EXAMINED,
        called="Usable dates before",
    ),
    Field("n_after", "integer", "count", "usable dates after it", NOT_EXAMINED, called="Usable dates after"),
    Field(
        "n_controls",
        "integer",
        "count",
        "controls compared with; 0 = compared with its own past alone",
        NOT_EXAMINED,
        called="Controls",
    ),
    Field(
        "valid_fraction",
        "number",
        "0-1",
        "mean share of the site that was clear",
        "never looked at",
        called="Clear share",
    ),
    Field(
        "min_detectable",
        "number",
        "0-1",
        "smallest fall of activity that would have been seen",
        "not measured",
        called="Smallest fall that would be seen",
    ),
    Field("sensors", "text", "", "short names of the satellite products used, with commas", "none"),
    Field("as_of", "date", "", "day on which this was said"),
    Field("reason", "text", "", "the answer in one sentence"),
)
SITES = (
    *PLACE,
    *ANSWER,
    *ORIGIN,
    Field("chart", "text", "", "path of a chart of the site (PNG), beside this file", "nothing was measured"),
)

CHANGES = (
    SITE_ID,
    SENSOR,
    FEATURE,
    Field("unit", "text", "", "unit of effect"),
    Field("direction", "integer", "", "+1 = more of the feature after than before, -1 = less"),
    Field("direction_text", "text", "", "the same in words", called="More or less of what"),
    Field(
        "date",
        "date",
        "",
        "median of the pixels' dates of change (of two middle dates the earlier)",
        "no date",
        called="Change, middle day",
    ),
    Field(
        "date_earliest",
        "date",
        "",
        "earliest last view before the change among the pixels",
        "no date",
        called="Change, earliest day",
    ),
    Field(
        "date_latest",
        "date",
        "",
        "latest first view after the change among the pixels",
        "no date",
        called="Change, latest day",
    ),
    Field(
        "area_m2",
        "number",
        "m²",
        "number of pixels x area of a pixel on its UTM grid (within 0.2 % of the ground)",
        called="Area (m²)",
    ),
    Field("n_pixels", "integer", "count", "pixels of the patch", called="Pixels"),
    Field("effect", "number", "unit", "median of the pixels' change of the feature", "not measured"),
    Field(
        "p_value",
        "number",
        "0-1",
        "the pixels' p-values joined by the rule of Simes (1986); not corrected for having picked changed pixels",
    ),
    Field("detector", "text", "", "name of the test"),
    Field("alpha", "number", "0-1", "false-alarm rate per pixel that the test was set to"),
)

CONTROLS = (*PLACE, Field("control_of", "text", "", "ids of the sites compared with it, with commas", "none"), *ORIGIN)

EVENT_ID = Field("event_id", "text", "", "id of the event, as in the file of events", called="Event")
HAPPENED = (
    Field("earliest", "date", "", "first day on which it may have happened, local calendar"),
    Field("latest", "date", "", "last such day; equal to earliest where the day is known"),
    Field("place", "text", "", "place as the source names it"),
)
TOLD = (
    Field("kind", "text", "", "kind of event"),
    Field("what", "text", "", "what happened, as the source says"),
    Field("source", "text", "", "who said so"),
    Field("trust", "text", "", "grade of the source: S seen, R republished, W weak, D derived, K general knowledge"),
)
EVENTS = (
    EVENT_ID,
    *HAPPENED,
    Field("scope", "text", "", "ids of the sites it concerns, with commas", "none of the sites at hand"),
    *TOLD,
)
EVENT_PLACES = (EVENT_ID, SITE_ID, *HAPPENED, *TOLD)

SCENES = (
    Field("scene_id", "text", "", "id of the scene in its catalogue", called="Scene"),
    SENSOR,
    Field("collection", "text", "", "collection of the catalogue"),
    Field("catalog", "text", "", "catalogue it was found in"),
    Field("acquired", "datetime", "UTC", "when the satellite looked"),
    LOOK,
    Field("processing", "text", "", "processing version"),
    Field("cloud_percent", "number", "0-100", "cloud cover of the whole scene, as the catalogue says", NOT_STATED),
)

SERIES = (
    SITE_ID,
    SENSOR,
    Field("feature", "text", "", "what was measured: mean of a feature, its anomalies, or activity"),
    LOOK,
    Field("scene_id", "text", "", "scene it was measured on", called="Scene"),
    Field("acquired", "datetime", "UTC", "when the satellite looked"),
    Field("value", "number", "unit of the feature", "the measurement", "not usable on that date"),
    Field("spread", "number", "unit of the feature", "spread of the pixels", "not usable on that date"),
    Field("valid_fraction", "number", "0-1", "share of the site that was clear"),
    Field("n_valid", "integer", "count", "clear pixels of the site"),
)

EFFECTS = (
    SITE_ID,
    SENSOR,
    Field("feature", "text", "", "what was measured"),
    LOOK,
    Field("unit", "text", "", "unit of effect, std_error, low and high"),
    Field("effect", "number", "unit", "step against the controls; positive = more after than before", NOT_TESTED),
    Field("std_error", "number", "unit", "its standard error", NOT_TESTED),
    Field("low", "number", "unit", "lower end of its 95 % interval", NOT_TESTED),
    Field("high", "number", "unit", "upper end of its 95 % interval", NOT_TESTED),
    Field("day", "date", "", "best date of the step", NOT_TESTED),
    Field("p_value", "number", "0-1", "chance of a step this large at any date where nothing happened", NOT_TESTED),
    Field("n_controls", "integer", "count", "controls compared with; 0 = its own past alone"),
    Field("n_before", "integer", "count", "dates before the reference period ends"),
    Field("n_after", "integer", "count", "dates after it"),
    Field(
        "pre_trend_p", "number", "0-1", "did site and controls run parallel before? small = they did not", NOT_TESTED
    ),
)

RUN_ID = Field("run_id", "text", "", "the run that said so, as in manifest.json", called="Run")
STATES = (RUN_ID, SITE_ID, *ANSWER)

CHANGE_DATES = (
    RUN_ID,
    SITE_ID,
    Field("date", "date", "", "day tried for the change; it stands for the days nearest to it"),
    Field("probability", "number", "0-1", "probability of this day, given the state; they sum to 1 per site"),
)

CONTRIBUTIONS = (
    RUN_ID,
    SITE_ID,
    Field("measurement", "text", "", "sensor, look and feature"),
    Field(
        "log_odds",
        "number",
        "ln",
        "what it adds to the log odds of the state, or of the likeliest change, against no change",
    ),
)

LAYERS: Mapping[str, tuple[Field, ...]] = {
    "sites": SITES,
    "controls": CONTROLS,
    "changes": CHANGES,
    "events": EVENTS,
    "event_places": EVENT_PLACES,
    "scenes": SCENES,
    "series": SERIES,
    "effects": EFFECTS,
    "states": STATES,
    "change_dates": CHANGE_DATES,
    "contributions": CONTRIBUTIONS,
}
"""Layers and tables of watch.gpkg; "sites" and "changes" are also sites.geojson and changes.geojson."""
GEOMETRIES: Mapping[str, Literal["Point", "MultiPolygon"]] = {
    "sites": "MultiPolygon",
    "controls": "MultiPolygon",
    "changes": "MultiPolygon",
    "event_places": "Point",
    "scenes": "MultiPolygon",
}
"""What the layers draw; the others are tables."""
TITLES: Mapping[str, str] = {
    "sites": "Sites with their state",
    "controls": "Areas that the sites are compared with",
    "changes": "Patches of changed pixels inside the sites",
    "events": "Dated, sourced events",
    "event_places": "Events at the sites that they concern",
    "scenes": "Satellite scenes that were used, with their footprints",
    "series": "One measurement per site or control, feature and date",
    "effects": "How each measurement moved at each site against its controls",
    "states": "What was said of each site, by which run and on which day",
    "change_dates": "How probable each day of change is at the sites where one is called",
    "contributions": "What each measurement says for the state of a site, or for its likeliest change",
}

SHARES = (
    *PLACE,
    Field("changed_share", "number", "0-1", "share of the tested pixels that changed", "no pixel was tested"),
    Field(
        "increased_share",
        "number",
        "0-1",
        "share of the tested pixels with more after than before",
        "no pixel was tested",
    ),
    Field(
        "decreased_share",
        "number",
        "0-1",
        "share of the tested pixels with less after than before",
        "no pixel was tested",
    ),
    Field("tested_share", "number", "0-1", "share of the pixels that could be tested", "the outline holds no pixel"),
    *ORIGIN,
)
PAIR_CHANGES = (
    Field("direction", "integer", "", "+1 = more after than before, -1 = less"),
    Field("direction_text", "text", "", "the same in words"),
    Field("area_m2", "number", "m²", "area on the WGS 84 ellipsoid", "the images have no place on the map"),
    Field("n_pixels", "integer", "count", "pixels of the patch"),
    Field("statistic", "number", "", "median of the pixels' statistic, on the detector's own scale"),
    Field("p_value", "number", "0-1", "the pixels' p-values joined by the rule of Simes (1986), see changes"),
    Field("detector", "text", "", "name of the test"),
    Field("alpha", "number", "0-1", "false-alarm rate per pixel that the test was set to"),
)
COMPARE_FILES: Mapping[str, tuple[Field, ...]] = {"sites": SHARES, "changes": PAIR_CHANGES}
"""Vector files of a comparison of two images."""

"""A folder that may be shown to anybody: cells in place of outlines, fixed words in place of details, nothing else.

The cells are those of one fixed grid for the whole earth, so a place is told by the cell it lies in and by nothing
finer, however often it is published. The grids of all cell sizes nest: a place published with two precisions is known
no better than by the finer one.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely

from compoundwatch.model import SiteState
from compoundwatch.outputs.fields import NO_CHANGE, NOT_OBSERVABLE, NOT_STATED, NOT_TESTED, Field
from compoundwatch.outputs.manifest import dumps, plain
from compoundwatch.outputs.staging import files_in, sha256, staged
from compoundwatch.outputs.vector import write_geojson

SITES, ABOUT, README = "sites.geojson", "about.json", "README.txt"
METRES_PER_DEGREE = 100_000.0
"""Counted for a degree; a degree of latitude is at least 110,574 m (WGS 84), so cells are never smaller than asked."""
EQUATOR_DEGREE_M = 111_319.0
BASE_DEGREES = 0.1
FINEST_M, COARSEST_M = 500.0, 1_000_000.0
DIGITS = 3
"""Decimals of numbers."""
POLE = 89.0
"""Beyond this latitude cells are not told apart by longitude."""

FIELDS = (
    Field("site_id", "text", "", "id of the site in this publication"),
    Field("name", "text", "", "name of the site in this publication"),
    Field("words", "text", "", "the state in fixed words: consistent with ..., inconclusive, or not observable"),
    Field("reason", "text", "", "the same as a sentence, with dates and probability"),
    Field("probability", "number", "0-1", "probability of the state", NOT_OBSERVABLE),
    Field("change_date_earliest", "date", "", "first day of the 90 % interval of the change", NO_CHANGE),
    Field("change_date_latest", "date", "", "last day of the 90 % interval of the change", NO_CHANGE),
    Field("q_value", "number", "0-1", "rate of false discoveries at which the site is called", NOT_TESTED),
    Field("n_views", "integer", "count", "usable dates"),
    Field("n_controls", "integer", "count", "areas it was compared with"),
    Field("valid_fraction", "number", "0-1", "mean share of the site that could be seen", "never seen"),
    Field("min_detectable", "number", "0-1", "smallest fall of activity that would have been noticed", NOT_TESTED),
    Field("sensors", "text", "", "satellite products used, with commas"),
    Field("known_until", "date", "", "day up to which this was known; later knowledge is held back"),
    Field("cell_m", "number", "m", "size that a cell has at least: the place is somewhere in it"),
    Field("source", "text", "", "who named the place in public", NOT_STATED),
    Field("source_date", "date", "", "when the source said so", NOT_STATED),
)
"""The properties of a public site; also what an alert that is marked public may use."""


@dataclass(frozen=True)
class PublicSite:
    """What may be said of one site in public; ``place_id``, its id in the result, is for the caller and never written.

    ``words`` and ``reason`` are in the words of the ladder, ``known_until`` is the day up to which they hold, ``cell``
    (longitude and latitude) holds the site and is at least ``cell_m`` metres high and wide.
    """

    place_id: str
    site_id: str
    name: str
    state: SiteState
    words: str
    reason: str
    known_until: dt.date
    cell: shapely.Polygon
    cell_m: float
    source: str | None
    source_date: dt.date | None


def cell_degrees(precision_m: float) -> float:
    """Height (degrees) of the cells of the finest grid that is no finer than ``precision_m`` (metres)."""
    step = math.ceil(math.log2(precision_m / (BASE_DEGREES * METRES_PER_DEGREE)) - 1e-9)
    return BASE_DEGREES * 2.0**step


def public_cell(place: shapely.Geometry, precision_m: float) -> shapely.Polygon:
    """The cell of the fixed grid in which a place lies, at least ``precision_m`` metres high and wide.

    The cell is that of one point inside of the place, also where the place reaches across a border: two cells would
    tell that it lies at their common border.

    Parameters
    ----------
    place : longitude and latitude (degrees).
    """
    inside = place.representative_point()
    height = cell_degrees(precision_m)
    row = math.floor((inside.y + 90) / height)
    south = row * height - 90
    north = min(south + height, 90.0)
    poleward = min(max(abs(south), abs(north)), 90.0)
    if poleward >= POLE:
        return shapely.box(-180, round(south, 9), 180, round(north, 9))
    doublings = math.log2(METRES_PER_DEGREE / (EQUATOR_DEGREE_M * math.cos(math.radians(poleward))))
    width = height * 2.0 ** max(0, math.ceil(doublings))
    column = math.floor((inside.x + 180) / width)
    west = column * width - 180
    return shapely.box(*(round(v, 9) for v in (west, south, min(west + width, 180.0), north)))


def row(site: PublicSite) -> dict[str, Any]:
    """The values of FIELDS of a site."""
    state = site.state
    own = {
        "site_id": site.site_id,
        "name": site.name,
        "words": site.words,
        "reason": site.reason,
        "probability": state.probability.get(state.state),
        "sensors": ", ".join(state.sensors),
        "known_until": site.known_until,
        "cell_m": site.cell_m,
        "source": site.source,
        "source_date": site.source_date,
    }
    values = {f.name: own[f.name] if f.name in own else getattr(state, f.name) for f in FIELDS}
    # All digits of a number would tell in which result, and so at which place, it was measured.
    return {name: round(v, DIGITS) if isinstance(v, float) else v for name, v in values.items()}


def write_public(
    folder: Path,
    sites: Sequence[PublicSite],
    about: Mapping[str, Any],
    caveats: Sequence[str],
    attributions: Sequence[str],
) -> list[Path]:
    """Write sites.geojson, README.txt and about.json into a folder.

    Parameters
    ----------
    about : further members of about.json: when, with what precision and delay, how many sites were left out and why.
    caveats, attributions : sentences that every file carries.

    Returns
    -------
    the paths written.

    Raises
    ------
    OutputError : the folder cannot be written; nothing in it has changed then.
    """
    said = {"caveats": list(caveats), "attribution": list(attributions)}
    with staged(folder) as aside:
        write_geojson(aside / SITES, FIELDS, [(s.cell, row(s)) for s in sites], said)
        (aside / README).write_text(_readme(about, caveats, attributions), encoding="utf-8")
        files = [
            {"path": p.as_posix(), "bytes": (aside / p).stat().st_size, "sha256": sha256(aside / p)}
            for p in files_in(aside)
        ]
        fields = {f.name: f.meaning + (f" ({f.unit})" if f.unit else "") for f in FIELDS}
        content = {"kind": "public", **about, **said, "fields": fields, "outputs": files}
        (aside / ABOUT).write_text(dumps(plain(content)), encoding="utf-8")
        written = files_in(aside)
    return [folder / path for path in written]


def _readme(about: Mapping[str, Any], caveats: Sequence[str], attributions: Sequence[str]) -> str:
    lines = [
        f"Published {about['published']} with {about['software']}.",
        "",
        f"{SITES}: {about['n_published']} sites. Each is drawn as the cell of a fixed grid in which it lies, at least "
        f"{about['precision_m']:.0f} m high and wide; the place is somewhere in the cell, not in its middle.",
        f"Nothing is told that was known for less than {about['delay_days']} days. Sites whose latest state is held "
        f"back for that: {about['n_held_back']}.",
        "",
        "How to read it",
        *(f"- {text}" for text in caveats),
        "",
        "Sources",
        *(f"- {text}" for text in attributions),
    ]
    return "\n".join(lines) + "\n"

"""Puts the report together: template, style, script and data in one file that may run nothing else and ask nobody."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from compoundwatch.errors import SettingsError
from compoundwatch.ladder import STATE_WORDS
from compoundwatch.model import Sensor, State, Summary, Verdict, shown
from compoundwatch.outputs import legend
from compoundwatch.outputs.report import land, view, words

if TYPE_CHECKING:
    from jinja2 import Environment

    from compoundwatch.outputs.reading import StoredWatch

HERE = files("compoundwatch.outputs.report")
TILES = re.compile(r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?/[A-Za-z0-9_./{}?=&%@~-]*")
PLACES_OF_A_TILE = ("{z}", "{x}", "{y}")


@dataclass(frozen=True)
class Told:
    """What is said beyond the states of single sites.

    ``summary`` speaks of all sites together (None = nothing is said of them), ``holding`` tells in words how long
    stillness lasted (empty = no site fell still), ``verdicts`` holds sites against dated events.
    """

    summary: Summary | None = None
    holding: str = ""
    verdicts: Sequence[Verdict] = ()


def write_report(
    path: Path,
    stored: StoredWatch,
    sensors: Sequence[Sensor],
    told: Told,
    *,
    language: str = words.ENGLISH,
    site_id: str | None = None,
    basemap: str = "",
) -> None:
    """Write the report of one result.

    Parameters
    ----------
    stored : the result, with pictures; of equal results the reports are equal, byte for byte.
    sensors : the sensors that it names.
    told : what is said beyond single sites.
    language : one of ``words.languages()``.
    site_id : tell of this site only.
    basemap : address of map tiles with {z}, {x} and {y} that the page may ask for when its reader says so; empty = the
        page may ask for nothing at all.

    Raises
    ------
    SettingsError : there is no such language or site, or the address is none of tiles.
    """
    path.write_text(page(stored, sensors, told, language, site_id, basemap), encoding="utf-8")


def page(
    stored: StoredWatch, sensors: Sequence[Sensor], told: Told, language: str, site_id: str | None, basemap: str
) -> str:
    """The text of the report."""
    said = words.words(language)
    host = tile_host(basemap) if basemap else ""
    shown_page = view.view(stored, sensors, told, said, site_id)
    style = "\n".join((_asset("assets/leaflet.css"), _asset("templates/report.css"), colours()))
    script = "\n".join((_asset("assets/leaflet.js"), _asset("templates/report.js")))
    return (
        _environment(said)
        .get_template("report.html.j2")
        .render(
            shown_page,
            lang=language,
            style=style,
            script=script,
            policy=policy(style, script, host),
            map=map_data(stored, shown_page, said, basemap),
            basemap_host=host,
            licence=_asset("assets/leaflet.LICENSE"),
            tr=said.gettext,
        )
    )


def tile_host(address: str) -> str:
    """The scheme and host of an address of map tiles.

    Raises
    ------
    SettingsError : it is no such address.
    """
    if not TILES.fullmatch(address) or not all(part in address for part in PLACES_OF_A_TILE):
        raise SettingsError(
            f"expected the address of map tiles, https:// with {{z}}, {{x}} and {{y}}, found {shown(address)}; "
            "leave it out for a map that needs no network"
        )
    return f"https://{urlsplit(address).netloc}"


def policy(style: str, script: str, host: str) -> str:
    """What a browser may do with the page: show what is in it, run its one script, and ask ``host`` for tiles."""
    style_hash, script_hash = (
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in (style, script)
    )
    images = f"data: {host}".strip()
    return (
        f"default-src 'none'; img-src {images}; style-src {style_hash}; script-src {script_hash}; "
        "base-uri 'none'; form-action 'none'"
    )


def colours() -> str:
    """Classes for the colours of states and directions, and of states without an answer."""
    rules = [f".s-{state.value} {{ --state:{colour} }}" for state, colour in legend.STATE_COLOURS.items()]
    rules += [f".d-{direction} {{ --state:{colour} }}" for direction, colour in legend.DIRECTION_COLOURS.items()]
    return "\n".join(rules)


def map_data(stored: StoredWatch, shown_page: view.View, said: words.Words, basemap: str) -> dict[str, Any]:
    """What the map draws; coordinates are latitude and longitude, as Leaflet takes them."""
    sites = [
        {
            "number": site["number"],
            "name": site["name"],
            "words": site["words"],
            "colour": site["colour"],
            "dates": site["interval"],
            "point": land.point(site["geometry"]),
            "rings": land.rings(site["geometry"]),
            "patches": [
                {"rings": land.rings(p.geometry), "colour": legend.DIRECTION_COLOURS[p.direction]}
                for p in site["drawn"]
            ],
        }
        for site in shown_page["sites"]
    ]
    ids = {control for site in shown_page["sites"] for control in site["controls"]}
    controls = [s for s in stored.area.sites if s.site_id in ids]
    texts = {
        name: said.gettext(text)
        for name, text in {
            "control": "Control area",
            "open": "Read more",
            "zoom_in": "Zoom in",
            "zoom_out": "Zoom out",
            "shown": "%(n)s of %(of)s sites shown",
            "play": "Play",
            "pause": "Pause",
            "map": "Map of the sites. Arrow keys move it, plus and minus change its scale, Tab goes from site to site.",
        }.items()
    }
    return {
        "sites": sites,
        "controls": [{"name": c.name, "rings": land.rings(c.geometry)} for c in controls],
        "land": land.borders([site["geometry"] for site in shown_page["sites"]]),
        "basemap": basemap,
        "texts": texts,
    }


def _environment(said: words.Words) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("compoundwatch.outputs.report"),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.install_gettext_callables(said.gettext, said.ngettext, newstyle=True)  # type: ignore[attr-defined]
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "sort_keys": True}
    environment.filters.update(
        percent=view.percent, p=view.p_text, number=view.number, label=legend.feature_label, signed=view.signed
    )
    environment.globals.update(states=[(s.value, STATE_WORDS[s]) for s in State])
    return environment


@cache
def _asset(name: str) -> str:
    """A text of this package as it may stand in a page: no end of its element, no address of a file beside it."""
    text = HERE.joinpath(name).read_text(encoding="utf-8")
    text = re.sub(r"\n?//# sourceMappingURL=\S+", "", text)
    return re.sub(r"url\(images/[^)]*\)", "none", text).strip()

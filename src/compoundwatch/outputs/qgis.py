"""Styles in which QGIS (3.22 and later) shows a result as it is meant.

A style lies beside its file as .qml, or inside a GeoPackage; QGIS loads it with the layer. It is XML, written through
templates, so that QGIS need not be installed. The forms are those that QGIS itself saves.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compoundwatch.model import State
from compoundwatch.outputs import fields, legend
from compoundwatch.outputs.fields import Field
from compoundwatch.outputs.raster import NODATA_DATE, NODATA_DIRECTION

if TYPE_CHECKING:
    from jinja2 import Environment

STYLES = Path(__file__).parent / "styles"
EARLIER = "EARLIER"
"""Class of a site on a day of the Temporal Controller that lies before its change."""
INCONCLUSIVE = "INCONCLUSIVE"
FAR_SCALE = 30_000
"""Beyond 1 : so many a site is too small for an outline, and a marker is drawn."""
EVENT_SCALE = 60_000
"""Beyond 1 : so many events are not drawn: those of a whole country would hide the sites."""
MARKER_SIZES = {"cross_fill": 6.5, "star": 6.0}
"""Millimetres of slender shapes, so that they weigh as much as the others."""
LONG_NAME = 40
"""A label shows so many characters of a name."""
QUARTERS = 12
"""A map of dates with more quarters of a year than this is coloured by years."""

Options = Mapping[str, str | int | float]


# --------------------------------------------------------------------------------------------------------- symbols


@dataclass(frozen=True)
class SymbolLayer:
    """One layer of a symbol: its class in QGIS and its options; ``shown`` is an expression, "" = always."""

    kind: str
    options: Options
    marker: Symbol | None = None
    shown: str = ""


@dataclass(frozen=True)
class Symbol:
    """What one feature is drawn with: layers, the lowest first."""

    type: str
    layers: tuple[SymbolLayer, ...]


@dataclass(frozen=True)
class Class:
    """Features of one value, what they are drawn with, and the words of the legend."""

    value: str | int
    symbol: Symbol
    label: str


@dataclass(frozen=True)
class Time:
    """When a feature is drawn under the Temporal Controller.

    ``mode`` is the number that QGIS gives it: 1 = at ``start``, 2 = from ``start`` to ``end`` (empty = for ever),
    5 = always, but anew for every step.
    """

    mode: int
    start: str
    end: str = ""


@dataclass(frozen=True)
class VectorStyle:
    """How a layer or table looks.

    ``by`` is the expression whose values ``classes`` are; with "" there is one class. ``label``, ``shown_as`` (how a
    feature is named in lists) and ``tip`` (a template of HTML) are in the language of QGIS. ``crowded`` features at one
    point are drawn beside one another. ``max_scale`` 0 = drawn at all scales.
    """

    fields: Sequence[Field]
    classes: Sequence[Class] = ()
    by: str = ""
    label: str = ""
    shown_as: str = ""
    tip: str = ""
    time: Time | None = None
    crowded: bool = False
    min_scale: int = 0
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def _rgba(colour: str, alpha: int = 255) -> str:
    return ",".join(str(int(colour[k : k + 2], 16)) for k in (1, 3, 5)) + f",{alpha}"


def _outline(colour: str, width: float, style: str = "solid") -> SymbolLayer:
    options: Options = {"style": "no", "outline_color": _rgba(colour), "outline_style": style, "outline_width": width}
    return SymbolLayer("SimpleFill", {**options, "joinstyle": "miter"})


def _fill(colour: str, alpha: int, width: float) -> SymbolLayer:
    options: Options = {"color": _rgba(colour, alpha), "outline_color": _rgba(colour), "outline_width": width}
    return SymbolLayer("SimpleFill", {**options, "style": "solid", "outline_style": "solid", "joinstyle": "miter"})


def _marker(shape: str, angle: int, colour: str) -> Symbol:
    options: Options = {
        "name": shape,
        "angle": angle,
        "color": _rgba(colour),
        "outline_color": _rgba(legend.casing(colour)),
        "outline_width": 0.3,
        "size": MARKER_SIZES.get(shape, 4.5),
    }
    return Symbol("marker", (SymbolLayer("SimpleMarker", options),))


def _place(colour: str, shape: tuple[str, int], dashed: bool = False) -> Symbol:
    """An outline that is seen on imagery and on paper, and a marker where the outline would be too small."""
    near = [_outline(legend.casing(colour), 1.5), _fill(colour, 40, 0.8)]
    if dashed:
        near = [_outline(legend.INK, 0.5, "dash")]
    far = SymbolLayer(
        "CentroidFill",
        {"point_on_surface": 1, "point_on_all_parts": 0},
        _marker(*shape, colour),
        f"@map_scale > {FAR_SCALE}",
    )
    return Symbol("fill", (*near, far))


# ---------------------------------------------------------------------------------------------------------- styles

STATE_CLASS = (
    f"CASE WHEN \"change_date_earliest\" > @map_end_time THEN '{EARLIER}' "
    f"WHEN \"words\" = '{legend.INCONCLUSIVE}' THEN '{INCONCLUSIVE}' ELSE \"state\" END"
)
"""The state, but for the days of the Temporal Controller before the change; without that the variable is null."""

VALUES: Mapping[str, Mapping[str, str]] = {
    "state": {s.value: f"{s.value}: {legend.STATE_WORDS[s]}" for s in State},
    "role": {"site": "site (watched)", "control": "control (compared with)"},
    "direction": {str(d): f"{legend.DIRECTION_NAMES[d]} after than before" for d in legend.DIRECTION_COLOURS},
    "trust": {
        "": "not graded",
        "S": "S: seen",
        "R": "R: republished",
        "W": "W: weak",
        "D": "D: derived",
        "K": "K: general knowledge",
    },
}
"""What QGIS shows in place of a code, by field."""


@cache
def vector_styles() -> Mapping[str, VectorStyle]:
    """The style of every layer and table of watch.gpkg, by its name."""
    drawn = {
        "sites": _sites(fields.SITES),
        "controls": _areas(fields.CONTROLS, "Control: "),
        "changes": _changes(fields.CHANGES, "of the feature after than before"),
        "event_places": _events(),
        "scenes": VectorStyle(
            fields.SCENES,
            (Class("", Symbol("fill", (_outline(legend.MUTED, 0.3),)), "footprint of a scene"),),
            shown_as='"scene_id"',
            tip=_tip('"scene_id"', [('"sensor"', ""), (_time('"acquired"'), "")]),
            time=Time(1, "acquired"),
        ),
    }
    tables = {name: VectorStyle(columns) for name, columns in fields.LAYERS.items() if name not in drawn}
    return {name: drawn.get(name) or tables[name] for name in fields.LAYERS}


def share_style() -> VectorStyle:
    """The style of sites.geojson of a comparison: outlines, with the share that changed as label."""
    return _areas(fields.SHARES, "", "\"name\" || coalesce('\\n' || round(100 * \"changed_share\", 1) || ' %', '')")


def pair_style() -> VectorStyle:
    """The style of changes.geojson of a comparison."""
    return _changes(fields.PAIR_CHANGES, "after than before")


def _sites(columns: Sequence[Field]) -> VectorStyle:
    classes = [
        Class(s.value, _place(legend.STATE_COLOURS[s], legend.STATE_SHAPES[s]), legend.STATE_WORDS[s]) for s in State
    ]
    grey = legend.STATE_COLOURS[State.NOT_OBSERVABLE]
    classes.insert(-1, Class(INCONCLUSIVE, _place(grey, legend.INCONCLUSIVE_SHAPE), legend.INCONCLUSIVE))
    classes.append(Class(EARLIER, _place(legend.WHITE, ("circle", 0), dashed=True), "before its change"))
    lines = [
        ('"words"', ""),
        (f"{_day('change_date_earliest')} || ' to ' || {_day('change_date_latest')}", "Changed: "),
        ('"reason"', ""),
        ('"source"', "Named by: "),
    ]
    return VectorStyle(
        columns,
        classes,
        STATE_CLASS,
        label=f'if(length("name") > {LONG_NAME}, left("name", {LONG_NAME - 1}) || \'…\', "name")',
        shown_as='"name"',
        tip=_tip('"name"', lines, picture='"chart"'),
        time=Time(5, "change_date_earliest", "change_date_latest"),
    )


def _areas(columns: Sequence[Field], before: str, label: str = "") -> VectorStyle:
    """Areas without an answer."""
    symbol = Symbol("fill", (_outline(legend.WHITE, 0.9), _outline(legend.MUTED, 0.45, "dash")))
    lines = [(f'"{f.name}"', f"{f.title}: ") for f in columns if f.name in ("control_of", "changed_share")]
    name = f"'{before}' || \"name\""
    return VectorStyle(columns, (Class("", symbol, "area"),), "", label, '"name"', _tip(name, lines))


def _changes(columns: Sequence[Field], words: str) -> VectorStyle:
    """Patches by direction; ``words`` say of what there is more or less."""
    dated = any(f.name == "date" for f in columns)
    lines = [("format_number(\"area_m2\", 0) || ' m²'", "")]
    if dated:
        lines.insert(0, (f"{_day('date_earliest')} || ' to ' || {_day('date_latest')}", ""))
    return VectorStyle(
        columns,
        [
            Class(d, Symbol("fill", (_fill(colour, 100, 0.4),)), f"{legend.DIRECTION_NAMES[d]} {words}")
            for d, colour in legend.DIRECTION_COLOURS.items()
        ],
        '"direction"',
        shown_as='"direction_text"',
        tip=_tip('"direction_text"', lines),
        time=Time(2, "date") if dated else None,
    )


def _events() -> VectorStyle:
    lines = [(f"{_day('earliest')} || {_until('earliest', 'latest')}", ""), ('"what"', ""), ('"source"', "Source: ")]
    return VectorStyle(
        fields.EVENT_PLACES,
        (Class("", _marker("star", 0, legend.INK), "event"),),
        label=f"\"kind\" || ' ' || {_day('earliest')}",
        shown_as='"kind" || \', \' || "what"',
        tip=_tip('"kind"', lines),
        time=Time(2, "earliest", "latest"),
        crowded=True,
        min_scale=EVENT_SCALE,
    )


def _day(name: str) -> str:
    return f"format_date(\"{name}\", 'yyyy-MM-dd')"


def _time(value: str) -> str:
    return f"format_date({value}, 'yyyy-MM-dd hh:mm')"


def _until(first: str, last: str) -> str:
    return f"if(\"{first}\" = \"{last}\", '', ' to ' || {_day(last)})"


def _tip(heading: str, lines: Sequence[tuple[str, str]], picture: str = "") -> str:
    """A map tip: a heading, lines with words before them, a picture by its path beside the file of the layer.

    Texts of users are shown as text: their "&" and "<" are written as HTML wants them.
    """
    parts = [f"<b>[% {_escaped(heading)} %]</b>"]
    parts += [f"[% coalesce('<br>{words}' || {_escaped(value, null=True)}, '') %]" for value, words in lines]
    if picture:
        parts.append(f"[% coalesce('<br><img src=\"' || {_beside(picture)} || '\">', '') %]")
    return f'<div style="width: 500px; font-family: sans-serif">{"".join(parts)}</div>'


def _escaped(value: str, null: bool = False) -> str:
    text = f"to_string({value})" if null else f"coalesce(to_string({value}), '')"
    return f"replace(replace({text}, '&', '&amp;'), '<', '&lt;')"


def _beside(path: str) -> str:
    """The address of a file that lies beside that of the layer."""
    home = r"regexp_replace(layer_property(@layer_id, 'source'), '[^/\\\\]*$', '')"
    for character in "%# ?":
        home = f"replace({home}, '{character}', '%{ord(character):02X}')"
    return f"'file://' || if(left({home}, 1) = '/', '', '/') || {home} || {path}"


# ---------------------------------------------------------------------------------------------------------- rasters


@dataclass(frozen=True)
class Entry:
    """One colour of a raster: up to which value (or at which), and the words of the legend; ``alpha`` 0-255."""

    value: float
    colour: str
    label: str
    alpha: int = 255


@dataclass(frozen=True)
class RasterStyle:
    """How a raster looks: "paletted", "DISCRETE", "INTERPOLATED", or "colours" for a picture with an alpha band.

    ``start`` and ``end`` (ISO 8601) are when a picture is shown under the Temporal Controller.
    """

    kind: str
    entries: Sequence[Entry] = ()
    start: str = ""
    end: str = ""


def direction_style() -> RasterStyle:
    """Style of a direction raster.

    GDAL before 3.7 (as in QGIS 3.22) reads signed bytes as unsigned ones, -1 as 255 and -128 as 128; the style knows
    both.
    """
    entries = []
    for direction, colour in legend.DIRECTION_COLOURS.items():
        label = f"{legend.DIRECTION_NAMES[direction]} after than before"
        entries += [Entry(value, colour, label, 220) for value in dict.fromkeys((direction, direction % 256))]
    hidden = {0: "no change", NODATA_DIRECTION % 256: "not tested"}
    return RasterStyle("paletted", entries + [Entry(v, legend.WHITE, label, 0) for v, label in hidden.items()])


def raster_style(layer: str, values: np.ndarray[Any, np.dtype[Any]]) -> RasterStyle:
    """The style of one layer of a change map, by its name in ``raster.change_rasters`` and its values."""
    if layer == "direction":
        return direction_style()
    if layer == "p_value":
        steps = {0.001: "#00204D", 0.01: "#4F6BB0", 0.05: "#A9BCE0", 1.0: "#F2F2F2"}
        return RasterStyle("DISCRETE", [Entry(v, colour, f"up to {v:g}") for v, colour in steps.items()])
    if layer.startswith("date"):
        return RasterStyle("DISCRETE", list(_date_entries(values[values != NODATA_DATE])))
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    reach = float(f"{np.quantile(sizes, 0.98):.2g}") if sizes.size else 1.0
    colours = {-reach: legend.DIRECTION_COLOURS[-1], 0.0: "#F7F7F7", reach: legend.DIRECTION_COLOURS[1]}
    return RasterStyle("INTERPOLATED", [Entry(v, colour, f"{v:g}") for v, colour in colours.items()])


def _date_entries(days: np.ndarray[Any, np.dtype[Any]]) -> Iterator[Entry]:
    """Quarters of a year, or years, from the first to the last of dates YYYYMMDD, from dark to light."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if not days.size:
        return
    first, last = (int(d) // 10_000 * 4 + (int(d) // 100 % 100 - 1) // 3 for d in (days.min(), days.max()))
    parts = range(first, last + 1)
    if len(parts) > QUARTERS:
        parts = range(first // 4 * 4 + 3, last + 4, 4)
    colours = colormaps["cividis"](np.linspace(0, 1, len(parts)))
    for part, colour in zip(parts, colours, strict=True):
        year, quarter = divmod(part, 4)
        label = f"{year}" if parts.step == 4 else f"{year}, quarter {quarter + 1}"
        yield Entry(year * 10_000 + (quarter * 3 + 3) * 100 + 31, to_hex(colour), label)


# ------------------------------------------------------------------------------------------------------------ files


def qml(style: VectorStyle | RasterStyle) -> str:
    """A style as QGIS reads it from a .qml file or from a GeoPackage."""
    kind = "vector" if isinstance(style, VectorStyle) else "raster"
    return environment().get_template(f"{kind}.qml.j2").render(style=style)


def write_style(path: Path, style: VectorStyle | RasterStyle) -> None:
    """Write a style beside its file: ``path`` ends in .qml and is else that of the file."""
    path.write_text(qml(style), encoding="utf-8")


def package_styles() -> dict[str, str]:
    """The styles inside watch.gpkg, by layer."""
    return {name: qml(style) for name, style in vector_styles().items()}


def write_raster_styles(folder: Path, details: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a style beside every raster of a result; ``details`` holds the "layer" of each by its path."""
    import rasterio

    for path, about in details.items():
        with rasterio.open(folder / path) as file:
            write_style((folder / path).with_suffix(".qml"), raster_style(str(about["layer"]), file.read(1)))


def write_picture_styles(folder: Path, shots: Mapping[str, Mapping[str, Any]], end: dt.date) -> None:
    """Write a style beside every picture; ``shots`` holds its "site_id", "sensor" and "acquired" by its path."""
    for path, style in picture_styles(shots, end).items():
        write_style((folder / path).with_suffix(".qml"), style)


def picture_styles(shots: Mapping[str, Mapping[str, Any]], end: dt.date) -> dict[str, RasterStyle]:
    """Each picture is shown from its day until the next of its site and sensor, the last one until ``end``."""
    series: dict[tuple[Any, Any], list[tuple[str, str]]] = {}
    for path, about in shots.items():
        series.setdefault((about["site_id"], about["sensor"]), []).append((str(about["acquired"])[:10], path))
    styles = {}
    for days in series.values():
        ordered = sorted(days)
        until = [*(day for day, _ in ordered[1:]), max(end.isoformat(), ordered[-1][0])]
        for (day, path), last in zip(ordered, until, strict=True):
            styles[path] = RasterStyle("colours", start=f"{day}T00:00:00Z", end=f"{last}T00:00:00Z")
    return styles


@cache
def environment() -> Environment:
    """The templates of styles and project, each compiled once."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(STYLES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_xml_text,
    )
    environment.globals["VALUES"] = VALUES
    return environment


def _xml_text(value: Any) -> Any:
    """A text without the characters that XML cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", value) if type(value) is str else value

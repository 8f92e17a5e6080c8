"""QGIS styles (.qml) that lie beside a file and are loaded with it, in the colours of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compoundwatch.model import State
from compoundwatch.outputs import legend
from compoundwatch.outputs.raster import NODATA_DIRECTION

STYLES = Path(__file__).parent / "styles"


def write_site_style(path: Path) -> None:
    """Style of sites.geojson: coloured by state, labelled with the name."""
    classes = [_fill(s.value, legend.STATE_COLOURS[s], legend.STATE_WORDS[s]) for s in State]
    _write(path, "polygons.qml.j2", attribute="state", label="name", fill_alpha=70, classes=classes)


def write_change_style(path: Path, words: str) -> None:
    """Style of changes.geojson: coloured by direction; ``words`` say of what there is more or less."""
    classes = [_fill(d, colour, f"{legend.DIRECTION_NAMES[d]} {words}") for d, colour in _directions()]
    _write(path, "polygons.qml.j2", attribute="direction", label=None, fill_alpha=150, classes=classes)


def write_direction_style(path: Path) -> None:
    """Style of a direction raster.

    GDAL before 3.7 (as in QGIS 3.22) reads signed bytes as unsigned ones, -1 as 255 and -128 as 128; the style knows
    both.
    """
    classes: list[dict[str, Any]] = []
    for direction, colour in _directions():
        label = f"{legend.DIRECTION_NAMES[direction]} after than before"
        for value in dict.fromkeys((direction, direction % 256)):
            classes.append({"value": value, "colour": colour, "alpha": 220, "label": label})
    hidden = {0: "no change", NODATA_DIRECTION % 256: "not tested"}
    classes += [{"value": v, "colour": "#ffffff", "alpha": 0, "label": label} for v, label in hidden.items()]
    _write(path, "direction.qml.j2", classes=classes)


def _directions() -> list[tuple[int, str]]:
    return list(legend.DIRECTION_COLOURS.items())


def _fill(value: str | int, colour: str, label: str) -> dict[str, Any]:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return {"value": value, "label": label, "red": red, "green": green, "blue": blue}


def _write(path: Path, template: str, **values: Any) -> None:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(STYLES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    path.write_text(environment.get_template(template).render(values), encoding="utf-8")

"""Styles and project as XML, and everything opened in a real QGIS (skipped where there is none)."""

from __future__ import annotations

import datetime as dt
import sqlite3
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely

from compoundwatch.model import AreaOfInterest, Role, Site, State, WatchResult
from compoundwatch.outputs import qgis, qgis_project, write_watch
from compoundwatch.outputs.fields import GEOMETRIES, LAYERS

from .conftest import HOSTILE, picture, state

COLOURS = {
    State.UNCHANGED: "#009e73",
    State.EMPTIED: "#d55e00",
    State.BUILDING: "#0072b2",
    State.DEMOLISHED: "#000000",
    State.REOCCUPIED: "#e69f00",
    State.LIGHTS_ONLY: "#f0e442",
    State.NOT_OBSERVABLE: "#cccccc",
}
"""Okabe and Ito (2008), and a light grey."""


@pytest.fixture(scope="module")
def folder(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result that was moved after it was written, to a place with an awkward name."""
    home = tmp_path_factory.mktemp("written")
    before, after = result.pictures["kk-1"]
    assert before is not None
    assert after is not None
    frames = {"kk-1": (picture("2022-06-01", 200), before, picture("2024-05-01", 90), after)}
    write_watch(replace(result, frames=frames), home / "here", report=False)
    moved = home / "found 100% #2"
    (home / "here").rename(moved)
    return moved


# ------------------------------------------------------------------------------------------- every file opens, styled


@pytest.fixture(scope="module")
def seen(pyqgis: Callable[..., Any], folder: Path) -> Any:
    script = """
found["layers"] = {name: about(vector(f"watch.gpkg|layername={name}")) for name in sys.argv[2].split(",")}
found["files"] = {name: about(vector(f"{name}.geojson")) for name in ("sites", "changes")}
scenes = vector("watch.gpkg|layername=scenes")
found["acquired"] = [f["acquired"].toString("yyyy-MM-dd hh:mm:ss") for f in scenes.getFeatures()]
sites = vector("watch.gpkg|layername=sites")
state = sites.fields().indexOf("state")
shown = QgsFieldFormatterContext()
found["shown"] = [
    QgsApplication.fieldFormatterRegistry().fieldFormatter("ValueMap").representValue(
        sites, state, sites.editorWidgetSetup(state).config(), None, f["state"])
    for f in sites.getFeatures()
]
found["rasters"] = {}
for path in sorted([*folder.glob("rasters/*.tif"), *folder.glob("pictures/*.tif")]):
    layer = raster(path.relative_to(folder))
    time = layer.temporalProperties()
    span = time.fixedTemporalRange()
    found["rasters"][path.name] = [layer.isValid(), layer.crs().authid(), layer.renderer().type(), time.isActive(),
        span.begin().toString("yyyy-MM-dd"), span.end().toString("yyyy-MM-dd")]

def middles(name, places):
    layer = raster(name)
    image = drawn([layer], layer.extent(), (layer.width() * 10, layer.height() * 10), crs=layer.crs().authid())
    return [image.pixelColor(c * 10 + 5, r * 10 + 5).name() for c, r in places]

found["direction"] = middles("rasters/kk-1_sentinel2_ndvi_direction.tif", ((11, 8), (20, 15), (3, 12), (33, 0)))
found["effect"] = middles("rasters/kk-1_sentinel2_ndvi_effect.tif", ((20, 15), (13, 10), (3, 12)))
found["picture"] = middles("pictures/kk-1_sentinel2_20241220.tif", ((12, 10), (20, 15), (0, 0)))
"""
    return pyqgis(script, str(folder), ",".join(LAYERS))


def test_qgis_opens_every_layer_as_promised(seen: Any) -> None:
    counts = {
        "sites": 3,
        "controls": 3,
        "changes": 1,
        "events": 2,
        "event_places": 3,
        "scenes": 2,
        "series": 2420,
        "effects": 2,
        "states": 3,
        "change_dates": 2,
        "contributions": 2,
    }
    kinds = {"text": "String", "integer": "Integer64", "number": "Real", "date": "Date", "datetime": "DateTime"}
    for name, fields in LAYERS.items():
        layer = seen["layers"][name]
        assert layer["valid"], name
        assert layer["count"] == counts[name], name
        assert layer["fields"] == {"fid": "Integer64"} | {f.name: kinds[f.kind] for f in fields}
        assert layer["crs"] == ("EPSG:4326" if name in GEOMETRIES else "")
    for name in ("sites", "changes"):
        assert seen["files"][name]["valid"]
        assert list(seen["files"][name]["fields"]) == [f.name for f in LAYERS[name]]
    assert seen["files"]["sites"]["fields"]["change_date"] == "Date"
    assert seen["files"]["changes"]["fields"]["date"] == "Date"
    assert seen["acquired"] == ["2022-01-04 03:25:41", "2024-12-20 03:25:41"]
    assert seen["warned"] == []


def test_fields_have_titles_and_codes_have_words(seen: Any) -> None:
    for name, fields in LAYERS.items():
        titles = seen["layers"][name]["titles"]
        for f in fields:
            assert titles[f.name].startswith(f.title), (name, f.name)
    titles = seen["layers"]["sites"]["titles"]
    assert titles["change_date_earliest"] == "Change, earliest day"
    assert titles["valid_fraction"] == "Clear share (0-1)"
    for layers in (seen["layers"], seen["files"]):
        assert layers["sites"]["widgets"]["state"] == "ValueMap"
        assert layers["sites"]["widgets"]["chart"] == "ExternalResource"
        assert layers["changes"]["widgets"]["direction"] == "ValueMap"
    assert seen["shown"] == [
        "EMPTIED: consistent with a fall of activity",
        "UNCHANGED: consistent with no change",
        "NOT_OBSERVABLE: not observable",
    ]


def test_every_layer_on_the_map_is_styled_and_named(seen: Any) -> None:
    renderers = {
        "sites": "categorizedSymbol",
        "controls": "singleSymbol",
        "changes": "categorizedSymbol",
        "event_places": "pointDisplacement",
        "scenes": "singleSymbol",
    }
    for name in GEOMETRIES:
        layer = seen["layers"][name]
        assert layer["renderer"] == renderers[name]
        assert layer["tips"]
        assert layer["shown_as"] != '"fid"'
    for name in ("sites", "changes"):
        assert seen["files"][name]["renderer"] == "categorizedSymbol"
        assert seen["files"][name]["labels"] == seen["layers"][name]["labels"] == (name == "sites")
    assert seen["layers"]["event_places"]["labels"]


def test_the_temporal_controller_is_set_up(seen: Any) -> None:
    # modes of QGIS: 1 = at one field, 2 = from one to another, 5 = always, drawn anew at every step
    times = {
        "sites": [True, 5, "change_date_earliest", "change_date_latest"],
        "changes": [True, 2, "date", ""],
        "event_places": [True, 2, "earliest", "latest"],
        "scenes": [True, 1, "acquired", ""],
        "controls": [False, 0, "", ""],
    }
    for name, wanted in times.items():
        assert seen["layers"][name]["time"] == wanted
        assert all(seen["layers"][name]["fields"][f] in ("Date", "DateTime") for f in wanted[2:] if f)
    for name in ("sites", "changes"):
        assert seen["files"][name]["time"] == times[name]


def test_map_tips_show_the_chart_and_no_markup_of_others(seen: Any, folder: Path) -> None:
    for layers in (seen["layers"], seen["files"]):
        changed, quiet, unseen = layers["sites"]["tips"]
        assert "<script" not in changed
        assert "&lt;script>document.title='owned'&lt;/script>" in changed
        assert "consistent with a fall of activity" in changed
        assert "Changed: 2024-03-01 to 2024-03-28" in changed
        address = changed.split('src="')[1].split('"')[0]
        assert address.startswith("file:///")
        place = address.removeprefix("file://").replace("%20", " ").replace("%23", "#").replace("%25", "%")
        assert Path(place) == folder / "charts" / "kk-1.png"
        assert Path(place).read_bytes().startswith(b"\x89PNG")
        assert "Changed" not in quiet
        assert "<img" not in unseen
    police = seen["layers"]["event_places"]["tips"][0]
    assert "Police announce a raid &lt;i>" in police
    assert "2024-03-05<br>" in police


def test_rasters_are_drawn_as_meant(seen: Any, folder: Path) -> None:
    kinds = {"direction": "paletted", "effect": "singlebandpseudocolor"}
    assert len(seen["rasters"]) == 2 * 7 + 5
    for name, (valid, crs, renderer, *_) in seen["rasters"].items():
        assert valid, name
        assert crs == "EPSG:32648"
        wanted = "multibandcolor" if "_ndvi_" not in name else kinds.get(name[:-4].split("_ndvi_")[1], kinds["effect"])
        assert renderer == wanted, name
    less, more, none, untested = seen["direction"]
    # vermillion and blue of Okabe and Ito at 220 of 255 over white
    for found, colour in ((less, (219, 116, 35)), (more, (35, 133, 189))):
        assert rgb(found) == pytest.approx(colour, abs=2)
    assert none == untested == "#ffffff"
    # the largest rise is blue, the largest fall vermillion, none is nearly white
    assert rgb(seen["effect"][0])[2] > 150 > rgb(seen["effect"][0])[0]
    assert rgb(seen["effect"][1])[0] > 150 > rgb(seen["effect"][1])[2]
    assert min(rgb(seen["effect"][2])) > 240
    with rasterio.open(folder / "pictures" / "kk-1_sentinel2_20241220.tif") as file:
        pixels = file.read()
    assert pixels[3, 0, 0] == 0
    for found, (col, row) in zip(seen["picture"][:2], ((12, 10), (20, 15)), strict=True):
        assert rgb(found) == pixels[:3, row, col].tolist()
    assert seen["picture"][2] == "#ffffff"


def test_pictures_are_shown_until_the_next(seen: Any) -> None:
    spans = {name: rest for name, (_, _, _, *rest) in seen["rasters"].items() if "_ndvi_" not in name}
    assert spans["kk-1_sentinel2_20220601.tif"] == [True, "2022-06-01", "2023-12-28"]
    assert spans["kk-1_sentinel2_20231228.tif"] == [True, "2023-12-28", "2024-05-01"]
    assert spans["kk-1_sentinel2_20241220.tif"] == [True, "2024-12-20", "2025-01-15"]


def rgb(colour: str) -> list[int]:
    return [int(colour[k : k + 2], 16) for k in (1, 3, 5)]


# -------------------------------------------------------------------------------- what is drawn, and on which day


def every_state(result: WatchResult) -> WatchResult:
    """Nine squares of 100 m in a row, 5 km apart: one of each state, one inconclusive, one that changed later."""
    answers = [state(s.value, s) for s in State]
    undecided = {State.UNCHANGED: 0.5, State.EMPTIED: 0.5}
    answers.append(state("UNDECIDED", State.NOT_OBSERVABLE, probability=undecided))
    later = dt.date(2024, 6, 1)
    dates = {"change_date": later, "change_date_earliest": later, "change_date_latest": later}
    answers.append(state("LATER", State.EMPTIED, probability={State.EMPTIED: 0.9}, **dates))
    outline = shapely.box(103.5, 10.6, 103.501, 10.601)
    sites = tuple(
        Site(a.site_id, a.site_id, Role.SITE, shapely.affinity.translate(outline, 0.045 * k))
        for k, a in enumerate(answers)
    )
    area = AreaOfInterest("states", sites, ())
    return replace(result, area=area, states=tuple(answers), changes=(), pictures={}, effects=())


@pytest.fixture(scope="module")
def painted(pyqgis: Callable[..., Any], result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("states") / "result"
    write_watch(every_state(result), out, rasters=False, report=False)
    script = """
for kind, source in (("package", "watch.gpkg|layername=sites"), ("file", "sites.geojson")):
    layer = vector(source)
    layer.setLabelsEnabled(False)
    found[kind] = {}
    for feature in layer.getFeatures():
        near, far = feature.geometry().boundingBox(), feature.geometry().boundingBox()
        near.scale(2)
        far.scale(40)
        found[kind][feature["site_id"]] = {
            "near": colours(drawn([layer], near, (300, 300))),
            "far": colours(drawn([layer], far, (300, 300))),
            "before": colours(drawn([layer], near, (300, 300), ("2024-01-01", "2024-02-01"))),
            "after": colours(drawn([layer], near, (300, 300), ("2024-07-01", "2024-08-01"))),
        }
"""
    return pyqgis(script, str(out))


@pytest.mark.parametrize("kind", ["package", "file"])
def test_each_state_is_drawn_in_its_colour(painted: Any, kind: str) -> None:
    """Near by the outline, from afar the marker; no other state's colour is mixed in."""
    wanted = {s.value: COLOURS[s] for s in State} | {"UNDECIDED": COLOURS[State.NOT_OBSERVABLE]}
    for site_id, colour in wanted.items():
        # an outline of 3 pixels around a square of 150 pixels; a marker some 16 pixels wide
        for view, least in (("near", 1000), ("far", 40)):
            counts = painted[kind][site_id][view]
            assert counts.get(colour, 0) > least, (site_id, view)
            others = {c: n for c, n in counts.items() if c in COLOURS.values() and c != colour}
            assert not others or max(others.values()) < 40, (site_id, view, others)


def test_a_change_is_drawn_from_its_day_on(painted: Any) -> None:
    for kind in ("package", "file"):
        later = painted[kind]["LATER"]
        assert "#d55e00" not in later["before"]
        assert sum(n for colour, n in later["before"].items() if colour != "#ffffff") > 300
        assert later["after"]["#d55e00"] > 1000
        assert painted[kind]["UNCHANGED"]["before"] == painted[kind]["UNCHANGED"]["near"]


def test_shapes_differ_where_colours_do_not(painted: Any) -> None:
    undecided, unseen = (painted["package"][k]["far"]["#cccccc"] for k in ("UNDECIDED", "NOT_OBSERVABLE"))
    assert undecided != unseen


# ------------------------------------------------------------------------------------------------------ the project


@pytest.fixture(scope="module")
def opened(pyqgis: Callable[..., Any], folder: Path) -> Any:
    script = """
found["read"] = project.read(str(folder / "watch.qgz"))

def branch(group):
    return [[c.name(), branch(c)] if isinstance(c, QgsLayerTreeGroup) else c.name() for c in group.children()]

found["tree"] = branch(project.layerTreeRoot())
found["layers"] = {
    k: [layer.isValid(), str(Path(layer.publicSource().split("|")[0]).parent)]
    for k, layer in project.mapLayers().items()
}
found["crs"], found["title"] = project.crs().authid(), project.title()
span = project.timeSettings().temporalRange()
found["time"] = [span.begin().toString("yyyy-MM-dd"), span.end().toString("yyyy-MM-dd")]
found["bookmarks"] = [b.name() for b in project.bookmarkManager().bookmarks()]
found["abstract"] = project.metadata().abstract()
found["label"] = project.readEntry("CopyrightLabel", "/Label")[0]
found["spans"] = []
for day in ("20231228", "20241220", "20220601"):
    layer = next(m for m in project.mapLayers().values() if m.source().endswith(f"kk-1_sentinel2_{day}.tif"))
    span = layer.temporalProperties().fixedTemporalRange()
    found["spans"].append([span.begin().toString("yyyy-MM-dd"), span.end().toString("yyyy-MM-dd")])
extent = project.viewSettings().defaultViewExtent()
visible = [n.layer() for n in project.layerTreeRoot().findLayers() if n.isVisible() and n.layer().isSpatial()]
found["visible"] = [layer.name() for layer in visible]
for key, time in (("now", None), ("early", ("2021-01-01", "2021-02-01")), ("raid", ("2024-03-05", "2024-03-06"))):
    found[key] = colours(drawn(visible, extent, (700, 500), time, found["crs"]))
events, sites = (project.mapLayer(f"compoundwatch_{name}") for name in ("event_places", "sites"))
found["labelled"] = colours(drawn([events, sites], extent, (700, 500), crs=found["crs"]))
events.setLabelsEnabled(False)
found["unlabelled"] = colours(drawn([events, sites], extent, (700, 500), crs=found["crs"]))
for key, time in (("star", ("2024-03-05", "2024-03-06")), ("no_star", ("2024-02-01", "2024-02-02"))):
    found[key] = colours(drawn([events], extent, (700, 500), time, found["crs"]))
"""
    return pyqgis(script, str(folder))


def test_the_project_opens_whole_after_a_move(opened: Any, folder: Path) -> None:
    assert opened["read"]
    assert opened["warned"] == []
    assert len(opened["layers"]) == len(LAYERS) + 5
    for key, (valid, home) in opened["layers"].items():
        assert valid, key
        assert Path(home) in (folder, folder / "pictures")


def test_the_project_is_in_groups(opened: Any) -> None:
    titles = [f"{HOSTILE}, 2024-12-20, Sentinel-2", f"{HOSTILE}, 2023-12-28, Sentinel-2"]
    assert opened["tree"][:7] == [
        "Events",
        "Sites",
        "Changed patches",
        "Control areas",
        [
            "Pictures by date, for the Temporal Controller",
            [f"{HOSTILE}, 2022-06-01, Sentinel-2", f"{HOSTILE}, 2024-05-01, Sentinel-2"],
        ],
        ["Pictures after", titles[:1]],
        ["Pictures before", [titles[1], "Quiet place, 2023-12-28, Sentinel-2"]],
    ]
    assert [name for name, _ in opened["tree"][7:]] == ["Footprints of scenes", "Tables"]
    assert not {"Scenes", f"{HOSTILE}, 2022-06-01, Sentinel-2"} & set(opened["visible"])
    assert opened["crs"] == "EPSG:32648"
    assert opened["title"] == "kampot-test, 2025-01-15"
    assert opened["bookmarks"] == [HOSTILE, "Quiet place", "កន្លែងទី៣"]
    assert opened["time"] == ["2022-01-04", "2025-01-15"]
    credit = "contains modified Copernicus Sentinel data 2022, 2023, 2024"
    assert opened["label"] == credit
    assert credit in opened["abstract"]


def test_the_project_shows_the_sites_over_the_pictures(opened: Any) -> None:
    for colour in ("#009e73", "#cccccc"):
        assert opened["now"][colour] > 300
    assert opened["now"]["#ffffff"] < 700 * 500 * 0.9
    # Until the picture after there is that before; before the first scene there is none, and the outlines stay.
    assert opened["raid"] != opened["now"]
    assert opened["raid"]["#ffffff"] < 700 * 500 * 0.9
    assert opened["early"]["#009e73"] > 300
    assert opened["early"]["#ffffff"] > opened["now"]["#ffffff"]


def test_pictures_take_their_turns(opened: Any) -> None:
    before, after, between = opened["spans"]
    assert before == ["2022-01-04", "2024-12-20"]
    assert after == ["2024-12-20", "2025-01-15"]
    assert between == ["2022-06-01", "2023-12-28"]


def test_events_are_drawn_on_their_days_only(opened: Any) -> None:
    assert opened["star"]["#1b2733"] > 40
    assert set(opened["no_star"]) == {"#ffffff"}


def test_an_event_inside_a_site_has_its_label(opened: Any) -> None:
    dark = {
        key: sum(n for colour, n in opened[key].items() if max(rgb(colour)) < 120) for key in ("labelled", "unlabelled")
    }
    assert dark["labelled"] > dark["unlabelled"] + 100


# -------------------------------------------------------------------------------------------------- without any QGIS


def project_xml(folder: Path) -> ET.Element:
    with zipfile.ZipFile(folder / "watch.qgz") as file:
        assert file.namelist() == ["watch.qgs"]
        return ET.fromstring(file.read("watch.qgs"))


def test_every_path_of_the_project_is_relative_and_there(folder: Path) -> None:
    sources = [str(e.text) for e in project_xml(folder).iter("datasource")]
    assert len(sources) == len(LAYERS) + 5
    for source in sources:
        assert source.startswith("./")
        assert (folder / source.split("|")[0]).is_file()


def test_equal_results_give_equal_projects(result: WatchResult, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_watch(result, tmp_path / name, rasters=False, report=False)
    for name in ("watch.qgz", "sites.qml", "charts/kk-1.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_package_holds_a_style_for_every_layer(folder: Path) -> None:
    with sqlite3.connect(folder / "watch.gpkg") as base:
        rows = base.execute(
            "select f_table_name, f_geometry_column, styleName, styleQML, useAsDefault, update_time from layer_styles"
        ).fetchall()
    assert [r[0] for r in rows] == list(LAYERS)
    for name, column, style, qml, default, updated in rows:
        assert column == ("geom" if name in GEOMETRIES else "")
        assert (style, default) == (name, 1)
        assert updated.startswith("2025-01-15T12:00:00")
        aliases = {a.get("field") for a in ET.fromstring(qml).iter("alias")}
        assert aliases == {f.name for f in LAYERS[name]}


def test_a_style_lies_beside_every_file(folder: Path) -> None:
    files = [*folder.glob("*.geojson"), *folder.rglob("*.tif")]
    assert len(files) == 2 + 2 * 7 + 5
    for path in files:
        assert ET.parse(path.with_suffix(".qml")).getroot().tag == "qgis"


def test_the_styles_know_every_state(folder: Path) -> None:
    root = ET.parse(folder / "sites.qml").getroot()
    values = [c.get("value") for c in root.iter("category")]
    assert set(values) == {s.value for s in State} | {"INCONCLUSIVE", "EARLIER"}
    assert [c.get("label") for c in root.iter("category")][
        values.index("EMPTIED")
    ] == "consistent with a fall of activity"


def test_a_style_escapes_its_words() -> None:
    style = replace(qgis.pair_style(), classes=[replace(qgis.pair_style().classes[0], label='of "<a>" & b\x01')])
    assert [c.get("label") for c in ET.fromstring(qgis.qml(style)).iter("category")] == ['of "<a>" & b']


def test_the_direction_style_knows_signed_and_unsigned_bytes() -> None:
    entries = {e.get("value"): e for e in ET.fromstring(qgis.qml(qgis.direction_style())).iter("paletteEntry")}
    assert set(entries) == {"1", "-1", "255", "0", "128"}
    assert entries["-1"].get("color") == entries["255"].get("color") != entries["1"].get("color")
    assert {entries[v].get("alpha") for v in ("0", "128")} == {"0"}


@pytest.mark.parametrize(
    ("days", "labels", "last"),
    [
        ([20240310, 20240704, 0], ["2024, quarter 1", "2024, quarter 2", "2024, quarter 3"], 20240931),
        ([20231231], ["2023, quarter 4"], 20231231),
        ([20190501, 20240201], ["2019", "2020", "2021", "2022", "2023", "2024"], 20241231),
        ([0, 0], [], None),
    ],
)
def test_dates_are_coloured_by_quarters_or_years(days: list[int], labels: list[str], last: int | None) -> None:
    entries = qgis.raster_style("date", np.array(days, np.int32)).entries
    assert [e.label for e in entries] == labels
    assert not entries or entries[-1].value == last


@pytest.mark.parametrize(("values", "reach"), [([0.5, -0.25, np.nan], 0.5), ([np.nan], 1), ([0.0], 1)])
def test_effects_are_coloured_around_zero(values: list[float], reach: float) -> None:
    low, zero, high = qgis.raster_style("effect", np.array(values, np.float32)).entries
    assert (low.value, zero.value, high.value) == pytest.approx((-reach, 0, reach), rel=0.05)


@pytest.mark.parametrize(("most", "there"), [(2, True), (1, False)])
def test_a_project_of_very_many_pictures_leaves_those_between_out(
    result: WatchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, there: bool
) -> None:
    monkeypatch.setattr(qgis_project, "MOST_PICTURES", most)
    frames = {"kk-1": (picture("2022-06-01", 200), picture("2022-09-01", 90))}
    write_watch(replace(result, frames=frames), tmp_path, rasters=False, report=False)
    names = [group.get("name") for group in project_xml(tmp_path).iter("layer-tree-group")]
    assert ("Pictures by date, for the Temporal Controller" in names) == there
    assert "Pictures before" in names

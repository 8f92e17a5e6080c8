"""The plug-in in a real QGIS, loaded from its ZIP file: what the program says and writes arrives, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest

import pack
from compoundwatch import simulate as simulator
from compoundwatch.cli import main
from compoundwatch.model import State
from tests.outputs.test_qgis import COLOURS
from tests.stack.test_pair import PLACE, save
from tests.support import demolished_place
from tests.workspaces import litter

HOSTILE = "a b; touch pwned 'x' \"y\" $(touch pwned) & %PATH% ភូមិ"
"""Part of the name of every folder here."""
PROGRAM = str(Path(sys.executable).with_name("compoundwatch"))
VERMILLION, BLUE = COLOURS[State.EMPTIED], COLOURS[State.BUILDING]

LOAD = """
import qgis.utils
home, out, asked = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
os.chdir(asked["work"])
sys.path[:0] = [str(home)]
sys.path.append("/usr/share/qgis/python/plugins")
qgis.utils.plugin_paths.insert(0, str(home))
import processing
from processing.core.Processing import Processing
from processing.core.ProcessingConfig import ProcessingConfig
Processing.initialize()
del warned[:]  # what other providers lack
assert qgis.utils.loadPlugin("compoundwatch_qgis") and qgis.utils.startProcessingPlugin("compoundwatch_qgis")
provider = QgsApplication.processingRegistry().providerById("compoundwatch")
ProcessingConfig.setSettingValue("COMPOUNDWATCH_PROGRAM", asked["program"])
for name in ("PYTHONHOME", "PYTHONPATH", "PROJ_DATA", "PROJ_LIB", "GDAL_DATA"):
    os.environ[name] = "/nowhere"  # as some installers of QGIS set them, to what does not fit the program

class Feedback(QgsProcessingFeedback):
    def __init__(self):
        super().__init__(False)
        self.said = {"command": [], "info": [], "warning": [], "progress": []}
    def pushCommandInfo(self, text):
        self.said["command"] = json.loads(text)
    def pushInfo(self, text):
        self.said["info"].append(text)
    def pushWarning(self, text):
        self.said["warning"].append(text)
    def setProgressText(self, text):
        self.said["progress"].append(text)

def run(name, parameters, feedback=None):
    feedback = feedback or Feedback()
    try:
        result = processing.run(f"compoundwatch:{name}", parameters, feedback=feedback)
    except QgsProcessingException as error:
        return {"error": str(error), **feedback.said}
    return {"result": result, **feedback.said}
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin") / HOSTILE
    (folder / "cwd").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def place(work: Path) -> simulator.Simulation:
    return demolished_place(work / "imagery", seed=3, revisit_days=16, controls=2)


@pytest.fixture(scope="module")
def settings(work: Path) -> Path:
    path = work / "settings.toml"
    path.write_text("[score]\nmin_views_before = 4\nmin_views_after = 2\n[export]\nreport = false\nframes = 2\n")
    return path


@pytest.fixture(scope="module")
def plugged(pyqgis: Callable[..., Any], work: Path) -> Callable[..., Any]:
    """Runs a script in a QGIS that has the plug-in, as it is installed from the ZIP file."""
    archive = work / "plugin.zip"
    pack.pack(archive)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(work / "plugins")

    def run(script: str, out: Path, **asked: Any) -> Any:
        asked = {"program": PROGRAM, "work": str(work / "cwd")} | asked
        return pyqgis(LOAD + script, str(work / "plugins"), str(out), json.dumps(asked, default=str))

    return run


def sentence(*arguments: Any) -> str:
    """What the command line says to wrong input."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 2
    return done.stderr.strip().splitlines()[-1].removeprefix("compoundwatch: ").removeprefix("Error: ")


# --------------------------------------------------------------------------------------------------- what is offered


def test_the_provider_offers_the_commands_with_their_parameters(plugged: Callable[..., Any], work: Path) -> None:
    script = """
for algorithm in provider.algorithms():
    found[algorithm.name()] = {
        "title": algorithm.displayName(), "help": algorithm.shortHelpString(), "icon": algorithm.icon().isNull(),
        "parameters": {p.name(): [p.type(), p.defaultValue(), bool(p.flags() & p.FlagOptional), p.help()]
            for p in algorithm.parameterDefinitions()},
    }
found["icons"] = [provider.icon().isNull(), provider.icon().pixmap(32, 32).toImage().pixelColor(12, 16).name()]
qgis.utils.plugins["compoundwatch_qgis"].unload()
found["left"] = QgsApplication.processingRegistry().providerById("compoundwatch") is not None
"""
    found = plugged(script, work)
    assert found.pop("icons") == [False, BLUE]
    assert found.pop("left") is False
    assert found.pop("warned") == []
    assert set(found) >= {"check", "watch", "report", "summary", "explain", "publish", "chips", "demo", "compare"}
    for name, algorithm in found.items():
        assert not algorithm["icon"]
        assert (main.commands[name].help or "").partition("\n")[0][:40] in algorithm["help"]
        options = [p for p in main.commands[name].params if p.name != "as_json"]
        assert len(set(algorithm["parameters"]) - {"LOAD"}) == len(options)
    watch = found["watch"]["parameters"]
    assert watch["AOI"][0] == "vector"
    assert watch["SENSOR"][:3] == ["string", "sentinel2", True]
    assert watch["FROM"][:3] == ["datetime", None, True]
    assert watch["OUT"][0] == "folderDestination"
    assert not watch["OUT"][2]
    assert watch["WORKERS"][:3] == ["number", 0, True]
    assert watch["RENEW"][:2] == ["boolean", False]
    assert "three years before the last" in watch["FROM"][3]
    assert found["publish"]["parameters"]["PRECISION_M"][1] == 10_000
    assert found["compare"]["parameters"]["BEFORE"][0] == "raster"
    assert found["report"]["parameters"]["OUT"][0] == "fileDestination"
    assert found["report"]["parameters"]["OUT"][2]


# ---------------------------------------------------------------------------------------------------- areas and faults


@pytest.fixture(scope="module")
def checked(plugged: Callable[..., Any], place: simulator.Simulation, work: Path) -> Any:
    areas = json.loads(place.areas.read_text())
    for feature in areas["features"]:
        if listed := feature["properties"].get("controls"):
            feature["properties"]["controls"] = ", ".join(listed)  # a GeoPackage has no lists
    (work / "text.geojson").write_text(json.dumps(areas))
    geopandas.read_file(place.areas).assign(rolle="site", controls=None).to_file(work / "slip.gpkg")
    (work / "broken.geojson").write_text("{oops")
    script = """
work = Path(asked["work"]).parent
found["file"] = run("check", {"AOI": asked["areas"]})
opened = QgsVectorLayer(asked["areas"], "opened", "ogr")
utm = {"INPUT": f"{work}/text.geojson", "TARGET_CRS": "EPSG:32648", "OUTPUT": f"{work}/areas.gpkg"}
moved = QgsVectorLayer(processing.run("native:reprojectlayer", utm)["OUTPUT"], "my 'areas'; ភូមិ", "ogr")
subset = QgsVectorLayer(asked["areas"], "subset", "ogr")
assert subset.setSubsetString("site_id = 'compound-1'")
project.addMapLayers([opened, moved, subset])
found["layer of the file"] = run("check", {"AOI": opened.id()})
found["layer"] = run("check", {"AOI": moved})
found["exported"] = Path(found["layer"]["command"][-1]).read_text()
found["subset"] = run("check", {"AOI": subset})
found["broken"] = run("check", {"AOI": f"{work}/broken.geojson"})
found["slip"] = run("check", {"AOI": QgsVectorLayer(f"{work}/slip.gpkg", "slip", "ogr")})
found["slip file"] = found["slip"]["command"][-1]
found["site"] = run("explain", {"DIR": str(work), "SITE": "--help"})
found["none"] = run("check", {})
for program in ("/nowhere/compoundwatch", str(work / "areas.gpkg")):
    ProcessingConfig.setSettingValue("COMPOUNDWATCH_PROGRAM", program) if Path(program).exists() else (
        setattr(ProcessingConfig.settings["COMPOUNDWATCH_PROGRAM"], "value", program))
    found[Path(program).name] = run("check", {"AOI": asked["areas"]})
"""
    return plugged(script, work, areas=place.areas)


def test_areas_are_checked_as_a_file_and_as_a_layer(checked: Any, place: simulator.Simulation) -> None:
    for given in ("file", "layer of the file"):
        assert checked[given]["command"] == [PROGRAM, "--progress=lines", "check", "--", str(place.areas)]
        assert f"{place.areas} is good: 1 sites, 2 controls" in checked[given]["result"]["TEXT"]
        assert checked[given]["info"][0] == checked[given]["result"]["TEXT"]
    assert "is good: 1 sites, 2 controls" in checked["layer"]["result"]["TEXT"]
    assert "is good: 1 sites, 0 controls" not in checked["layer"]["result"]["TEXT"]


def test_a_layer_is_handed_over_in_degrees_with_all_its_fields(checked: Any, place: simulator.Simulation) -> None:
    exported = json.loads(checked["exported"])
    assert exported["name"] == "my 'areas'; ភូមិ"
    truth = json.loads(place.areas.read_text())
    for found, wanted in zip(exported["features"], truth["features"], strict=True):
        properties = {k: v for k, v in found["properties"].items() if k != "fid"}
        listed = wanted["properties"].get("controls")
        assert properties.pop("controls") == (", ".join(listed) if listed else None)
        for name, value in wanted["properties"].items():
            assert name == "controls" or properties[name] == value
        rings = [np.array(f["geometry"]["coordinates"][0]) for f in (found, wanted)]
        assert rings[0].squeeze().shape == rings[1].squeeze().shape
        centres = [ring.squeeze()[:-1].mean(axis=0) for ring in rings]
        assert centres[0] == pytest.approx(centres[1], abs=2e-7)


def test_a_filtered_layer_is_not_replaced_by_its_file(checked: Any, place: simulator.Simulation) -> None:
    """Its controls are filtered away, which the program notices."""
    assert checked["subset"]["command"][-1] != str(place.areas)
    assert "'compound-1'" in checked["subset"]["error"]


def test_wrong_input_gives_the_sentence_of_the_command_line(checked: Any, work: Path) -> None:
    assert checked["broken"]["error"] == sentence("check", work / "broken.geojson")
    said = checked["slip"]["error"]
    assert said.startswith(f"{checked['slip file']}: feature 1 ")
    assert "'rolle'" in said
    assert "'role'" in said
    assert checked["site"]["error"] == sentence("explain", "--", work, "--help")
    assert "AOI" in checked["none"]["error"]


def test_a_program_that_is_not_there_is_said_with_what_to_do(checked: Any) -> None:
    assert "not found at /nowhere/compoundwatch" in checked["compoundwatch"]["error"]
    assert "Settings > Options > Processing" in checked["compoundwatch"]["error"]
    assert "cannot be started" in checked["areas.gpkg"]["error"]


# --------------------------------------------------------------------------------------------------------------- watch


@pytest.fixture(scope="module")
def watched(plugged: Callable[..., Any], place: simulator.Simulation, settings: Path, work: Path) -> Any:
    script = """
def state():
    root = project.layerTreeRoot()
    layers = {l.name(): l for l in project.mapLayers().values()}
    sites, changes = layers["Sites"], layers["Changed patches"]
    for layer in layers.values():
        if hasattr(layer, "setLabelsEnabled"):
            layer.setLabelsEnabled(False)
    near = sites.extent()
    near.scale(1.5)
    visible = [n.layer() for n in root.findLayers() if n.isVisible() and n.layer().isSpatial()]
    return {
        "groups": [g.name() for g in root.children()], "inside": [n.name() for n in root.children()[0].children()],
        "valid": {name: l.isValid() for name, l in layers.items()},
        "sources": [l.publicSource().split("|")[0] for l in layers.values()],
        "renderers": [sites.renderer().type(), changes.renderer().type()],
        "time": sites.temporalProperties().isActive(), "hidden": "Scenes" not in [l.name() for l in visible],
        "states": [f["state"] for f in sites.getFeatures()],
        "written": [f["properties"]["state"] for f in json.loads((out / "sites.geojson").read_text())["features"]],
        "sites": colours(drawn([sites], near, (300, 300))), "changes": colours(drawn([changes], near, (300, 300))),
        "all": colours(drawn(visible, near, (300, 300))),
    }

parameters = {"AOI": asked["areas"], "CATALOG": asked["catalog"], "FROM": "2023-01-02", "TO": QDate(2025, 1, 31),
    "SETTINGS": asked["settings"], "OUT": str(out)}
found["first"] = run("watch", parameters)
found["seen first"] = state()
found["second"] = run("watch", {**parameters, "TO": "2025-03-31"})
found["seen second"] = state()

class Other(QThread):
    def run(self):
        context = QgsProcessingContext()
        context.setProject(project)
        algorithm = QgsApplication.processingRegistry().createAlgorithmById("compoundwatch:watch")
        self.done = algorithm.run({**parameters, "TO": "2025-03-31"}, context, Feedback())[1]

other = Other()
other.start()
other.wait()
found["in another thread"] = [other.done, len(project.mapLayers())]
"""
    script = "from qgis.PyQt.QtCore import QThread\n" + script
    return plugged(script, work / "result 100% #2", areas=place.areas, catalog=place.folder, settings=settings)


def test_a_watch_goes_through_untouched_and_tells_what_it_does(
    watched: Any, place: simulator.Simulation, settings: Path, work: Path
) -> None:
    first, out = watched["first"], str(work / "result 100% #2")
    assert first["command"] == [
        *(PROGRAM, "--progress=lines", "watch", "--json", f"--catalog={place.folder}", "--from=2023-01-02"),
        *("--to=2025-01-31", f"--settings={settings}", f"--out={out}", "--", str(place.areas)),
    ]
    assert first["result"]["OUT"] == out
    assert first["result"]["TEXT"] in first["info"]
    assert "reading" in first["progress"]
    assert "judging Made-up compound 1" in first["progress"]
    assert list((work / "cwd").iterdir()) == []


def test_the_layers_are_added_valid_and_styled(watched: Any, work: Path) -> None:
    seen = watched["seen first"]
    assert len(seen["groups"]) == 1
    assert re.fullmatch(r"A made-up region, \d{4}-\d\d-\d\d", seen["groups"][0])
    assert seen["inside"][:4] == ["Events", "Sites", "Changed patches", "Control areas"]
    assert len(seen["valid"]) >= 14
    assert all(seen["valid"].values()), seen["valid"]
    assert {Path(s).parent for s in seen["sources"]} == {work / "result 100% #2", work / "result 100% #2" / "pictures"}
    assert seen["renderers"] == ["categorizedSymbol", "categorizedSymbol"]
    assert seen["time"]
    assert seen["hidden"]
    assert watched["warned"] == []


def test_the_layers_are_drawn_in_their_colours(watched: Any) -> None:
    """What is drawn is what that run said, also where a second one took the place of the first."""
    for run, seen in (("first", watched["seen first"]), ("second", watched["seen second"])):
        said = re.match(r"compound-1: ([A-Z_]+)\. ", watched[run]["result"]["TEXT"])
        assert said
        assert seen["states"] == seen["written"] == [said[1]]
        colour = COLOURS[State(said[1])]
        assert seen["sites"][colour] > 500
        others = set(COLOURS.values()) - {colour}
        if colour == "#000000":
            # Smoothed edges of black on white are of every grey, that of no answer among them; a fill is far more.
            assert seen["sites"].get(COLOURS[State.NOT_OBSERVABLE], 0) < 25
            others -= {COLOURS[State.NOT_OBSERVABLE]}
        assert not others & set(seen["sites"])
        assert seen["changes"][VERMILLION] > 20
        # Pictures lie below.
        assert seen["all"]["#ffffff"] < 0.5 * seen["sites"]["#ffffff"]
        assert seen["all"][colour] > 500


def test_a_second_run_takes_the_place_of_the_first(watched: Any) -> None:
    """Also while the layers of the first are open."""
    first, second = watched["seen first"], watched["seen second"]
    assert watched["second"]["result"]["OUT"] == watched["first"]["result"]["OUT"]
    assert len(second["groups"]) == 1
    assert len(second["valid"]) == len(first["valid"])
    assert all(second["valid"].values())


def test_nothing_is_added_from_another_thread(watched: Any) -> None:
    assert watched["in another thread"] == [True, len(watched["seen second"]["valid"])]


@pytest.fixture(scope="module")
def told(plugged: Callable[..., Any], watched: Any, work: Path) -> Any:
    script = """
for name in ("summary", "explain", "history"):
    found[name] = run(name, {"DIR": str(out), "SITE": "compound-1"})
beside = out.parent
found["report"] = run("report", {"DIR": str(out), "LANG": "km", "OUT": str(beside / "km.html")})
found["chips"] = run("chips", {"DIR": str(out), "SITE": ["compound-1"], "OUT": str(beside / "chips")})
found["publish"] = run("publish", {"DIR": str(out), "OUT": str(beside / "public"), "DELAY_DAYS": 0})
found["site"] = run("chips", {"DIR": str(out), "SITE": "compound-1\\n zzz; touch pwned \\n", "OUT": str(beside / "no")})
"""
    return plugged(script, work / "result 100% #2")


def test_a_result_is_told_drawn_and_published(told: Any, work: Path) -> None:
    for name in ("summary", "explain", "history"):
        assert told[name]["result"]["TEXT"] == told[name]["info"][0]
        assert "error" not in told[name]
    assert "compound-1" in told["history"]["result"]["TEXT"]
    assert "sentinel2" in told["explain"]["result"]["TEXT"].lower()
    assert told["report"]["result"]["OUT"] == str(work / "km.html")
    assert 'lang="km"' in (work / "km.html").read_text()
    assert list((work / "chips").glob("*.png"))
    assert told["publish"]["result"]["OUT"] == str(work / "public")
    assert list((work / "public").glob("*.geojson"))


def test_several_values_stand_on_lines_of_their_own(told: Any, work: Path) -> None:
    assert [a for a in told["chips"]["command"] if a.startswith("--site")] == ["--site=compound-1"]
    assert [a for a in told["site"]["command"] if a.startswith("--site")] == [
        "--site=compound-1",
        "--site=zzz; touch pwned",
    ]
    assert "zzz; touch pwned" in told["site"]["error"]
    assert not (work / "no").exists()
    assert list((work / "cwd").iterdir()) == []


def test_what_is_missing_is_named(
    plugged: Callable[..., Any], place: simulator.Simulation, settings: Path, work: Path
) -> None:
    """A year without enough views: the program ends with exit code 3."""
    settings = work / "strict.toml"
    settings.write_text("[score]\nmin_views_after = 1000\n[export]\nreport = false\n")
    script = """
found["run"] = run("watch", {"AOI": asked["areas"], "CATALOG": asked["catalog"], "FROM": "2023-01-02",
    "TO": "2025-03-31", "SETTINGS": asked["settings"], "OUT": str(out), "LOAD": False})
found["layers"] = len(project.mapLayers())
"""
    found = plugged(script, work / "unseen", areas=place.areas, catalog=place.folder, settings=settings)
    warning = found["run"]["warning"][-1]
    assert warning.startswith("Finished, but something is missing:")
    assert found["run"]["result"]["TEXT"].startswith("compound-1: NOT_OBSERVABLE. Not observable: ")
    assert "\n  compound-1: Not observable: " in warning
    assert found["layers"] == 0  # as was asked for


def test_cancelling_stops_the_program_and_leaves_nothing_half_written(
    plugged: Callable[..., Any], place: simulator.Simulation, settings: Path, work: Path
) -> None:
    script = """
class Impatient(Feedback):
    def setProgressText(self, text):
        super().setProgressText(text)
        found["while"] = ours()
        self.cancel()

def ours():
    lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.parent.name != str(os.getpid())]
    return sum(f"--out={out}".encode() in line.split(b"\\0") for line in lines)

found["run"] = run("watch", {"AOI": asked["areas"], "CATALOG": asked["catalog"], "FROM": "2023-01-02",
    "TO": "2025-03-31", "SETTINGS": asked["settings"], "OUT": str(out)}, Impatient())
found["after"] = ours()
found["layers"] = len(project.mapLayers())
"""
    out = work / "cancelled"
    found = plugged(script, out, areas=place.areas, catalog=place.folder, settings=settings)
    assert (found["while"], found["after"]) == (1, 0)
    assert "OUT" not in found["run"]["result"]
    assert "Cancelled; compoundwatch was stopped." in found["run"]["info"]
    assert found["layers"] == 0
    assert not (out / "manifest.json").exists()
    assert litter(out) == []


# ------------------------------------------------------------------------------------------------------------- compare


def test_two_images_are_compared_and_what_changed_is_added(plugged: Callable[..., Any], work: Path) -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(100, 3, (1, 60, 60))
    after = before + rng.normal(0, 3, before.shape)
    after[:, 20:40, 20:40] += 80
    for name, values in (("before", before), ("after", after)):
        save(work / f"{name}.tif", np.clip(values, 1, 255).astype("uint8"), **PLACE)
    script = """
before, after = (QgsRasterLayer(f"{out.parent}/{name}.tif", name) for name in ("before", "after"))
found["run"] = run("compare", {"BEFORE": before, "AFTER": f"{out.parent}/after.tif", "OUT": str(out)})
layers = {l.name(): l for l in project.mapLayers().values()}
found["layers"] = {name: [l.isValid(), l.renderer().type()] for name, l in layers.items()}
found["groups"] = [g.name() for g in project.layerTreeRoot().children()]
raster = layers["direction"]
found["colours"] = colours(drawn([raster], raster.extent(), (300, 300), crs=raster.crs().authid()))
"""
    found = plugged(script, work / "compared")
    assert found["run"]["result"]["OUT"] == str(work / "compared")
    assert "Changed: " in found["run"]["result"]["TEXT"]
    assert found["groups"] == ["compared"]
    assert found["layers"] == {"changes": [True, "categorizedSymbol"], "direction": [True, "paletted"]}
    bluish = [n for colour, n in found["colours"].items() if colour != "#ffffff"]
    assert sum(bluish) > 0.05 * 300 * 300

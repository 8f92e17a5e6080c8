"""Styles, and the files in a real QGIS (skipped where there is none)."""

from __future__ import annotations

import json
import os
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from compoundwatch.model import State, WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.fields import LAYERS
from compoundwatch.outputs.legend import STATE_COLOURS
from compoundwatch.outputs.qgis import write_change_style, write_direction_style, write_site_style

SCRIPT = """
import glob, json, sys
from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor
app = QgsApplication([], False)
app.initQgis()
warned = []
app.messageLog().messageReceived.connect(lambda text, tag, level: warned.append(text) if level > 0 else None)
folder, names = sys.argv[1], sys.argv[2].split(",")
found = {"layers": {}}
sources = {n: f"{folder}/watch.gpkg|layername={n}" for n in names}
sources |= {n + ".geojson": f"{folder}/{n}.geojson" for n in ("sites", "changes")}
kept = {}
for name, source in sources.items():
    layer = kept[name] = QgsVectorLayer(source, name, "ogr")
    found["layers"][name] = {
        "valid": layer.isValid(), "count": layer.featureCount(), "crs": layer.crs().authid(),
        "fields": {f.name(): f.typeName() for f in layer.fields()},
        "renderer": layer.renderer() and layer.renderer().type(),
    }
found["names"] = [f["name"] for f in kept["sites"].getFeatures()]
found["acquired"] = [f["acquired"].toString("yyyy-MM-dd hh:mm:ss") for f in kept["scenes"].getFeatures()]
raster = QgsRasterLayer(glob.glob(folder + "/rasters/kk-1_*_direction.tif")[0], "r")
found["raster"] = [raster.isValid(), raster.crs().authid(), raster.renderer().type()]
settings = QgsMapSettings()
settings.setLayers([raster])
settings.setDestinationCrs(raster.crs())
settings.setExtent(raster.extent())
settings.setBackgroundColor(QColor("white"))
settings.setOutputSize(QSize(raster.width() * 10, raster.height() * 10))
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
image = job.renderedImage()
places = ((11, 8), (20, 15), (3, 12), (33, 0))
found["pixels"] = [image.pixelColor(c * 10 + 5, r * 10 + 5).name() for c, r in places]
found["warned"] = warned
print(json.dumps(found))
"""


def pyqgis(script: str, *args: str, home: Path) -> Any:
    python = "/usr/bin/python3"
    env = {k: v for k, v in os.environ.items() if k not in ("PROJ_DATA", "PROJ_LIB", "GDAL_DATA", "PYTHONPATH")}
    env |= {"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(home), "HOME": str(home)}
    home.chmod(0o700)
    if (
        not Path(python).exists()
        or subprocess.run([python, "-c", "import qgis.core"], env=env, capture_output=True).returncode
    ):
        pytest.skip("QGIS is not installed for /usr/bin/python3 (Debian package python3-qgis)")
    done = subprocess.run([python, "-c", script, *args], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def seen(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out, home = tmp_path_factory.mktemp("result"), tmp_path_factory.mktemp("home")
    write_watch(result, out, report=False)
    return pyqgis(SCRIPT, str(out), ",".join(LAYERS), home=home)


def test_qgis_opens_everything_as_promised(seen: Any) -> None:
    counts = {
        "sites": 3,
        "controls": 3,
        "changes": 1,
        "events": 2,
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
        assert layer["crs"] == ("EPSG:4326" if name in ("sites", "controls", "changes", "scenes") else "")
    for name in ("sites.geojson", "changes.geojson"):
        layer = seen["layers"][name]
        assert layer["valid"]
        assert layer["renderer"] == "categorizedSymbol"
    assert seen["layers"]["sites.geojson"]["fields"]["change_date"] == "Date"
    assert seen["layers"]["changes.geojson"]["fields"]["date"] == "Date"
    assert seen["names"][2] == "កន្លែងទី៣"
    assert seen["acquired"] == ["2022-01-04 03:25:41", "2024-12-20 03:25:41"]
    assert seen["warned"] == []


def test_qgis_draws_directions_in_their_colours(seen: Any) -> None:
    assert seen["raster"] == [True, "EPSG:32648", "paletted"]
    less, more, none, untested = seen["pixels"]
    # vermillion and blue of Okabe and Ito at 220 of 255 over white
    for found, wanted in ((less, (219, 116, 35)), (more, (35, 133, 189))):
        assert [int(found[k : k + 2], 16) for k in (1, 3, 5)] == pytest.approx(wanted, abs=2)
    assert none == untested == "#ffffff"


def test_the_styles_are_xml_with_every_state(tmp_path: Path) -> None:
    write_site_style(tmp_path / "sites.qml")
    root = ET.parse(tmp_path / "sites.qml").getroot()
    assert [c.get("value") for c in root.iter("category")] == [s.value for s in State]
    colours = [o.get("value") for o in root.iter("Option") if o.get("name") == "outline_color"]
    wanted = [[int(STATE_COLOURS[s][k : k + 2], 16) for k in (1, 3, 5)] for s in State]
    assert [[int(v) for v in str(c).split(",")[:3]] for c in colours] == wanted


def test_a_style_escapes_its_words(tmp_path: Path) -> None:
    write_change_style(tmp_path / "changes.qml", 'of "<a>" & b')
    root = ET.parse(tmp_path / "changes.qml").getroot()
    assert [c.get("label") for c in root.iter("category")] == ['more of "<a>" & b', 'less of "<a>" & b']


def test_the_direction_style_knows_signed_and_unsigned_bytes(tmp_path: Path) -> None:
    write_direction_style(tmp_path / "d.qml")
    entries = {e.get("value"): e for e in ET.parse(tmp_path / "d.qml").getroot().iter("paletteEntry")}
    assert set(entries) == {"1", "-1", "255", "0", "128"}
    assert entries["-1"].get("color") == entries["255"].get("color") != entries["1"].get("color")
    assert {entries[v].get("alpha") for v in ("0", "128")} == {"0"}

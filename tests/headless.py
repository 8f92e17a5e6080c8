"""A QGIS without a screen: it is built for the Python of the system, so scripts are handed to that."""

from __future__ import annotations

PYTHON = "/usr/bin/python3"
"""The Python of the system, for which QGIS is built."""

SCRIPT = """
import json, os, sys
from collections import Counter
from pathlib import Path
from qgis.core import *
from qgis.PyQt.QtCore import QDate, QDateTime, QSize, Qt, QTime
from qgis.PyQt.QtGui import QColor
app = QgsApplication([], False)
app.initQgis()
warned, found = [], {}
app.messageLog().messageReceived.connect(lambda text, tag, level: warned.append(text) if level > 0 else None)
project = QgsProject.instance()
folder = Path(sys.argv[1])

def added(layer):
    # As the program does with a file that is dragged into it: the style comes after the layer.
    layer.loadDefaultStyle()
    project.addMapLayer(layer, False)
    return layer

def vector(source):
    return added(QgsVectorLayer(str(folder / source), Path(source).stem, "ogr"))

def raster(source):
    return added(QgsRasterLayer(str(folder / source), Path(source).stem))

def days(first, last):
    at = lambda d: QDateTime(QDate.fromString(d, "yyyy-MM-dd"), QTime(0, 0), Qt.UTC)
    return QgsDateTimeRange(at(first), at(last))

def drawn(layers, extent, size=(600, 400), time=None, crs="EPSG:4326"):
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(QgsCoordinateReferenceSystem(crs))
    settings.setExtent(extent)
    settings.setBackgroundColor(QColor("white"))
    settings.setOutputSize(QSize(*size))
    settings.setOutputDpi(96)
    if time:
        settings.setIsTemporal(True)
        settings.setTemporalRange(days(*time))
    context = QgsExpressionContext()
    for scope in (QgsExpressionContextUtils.globalScope(), QgsExpressionContextUtils.mapSettingsScope(settings)):
        context.appendScope(scope)
    settings.setExpressionContext(context)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    assert not job.errors(), [e.message for e in job.errors()]
    return job.renderedImage()

def colours(image):
    pixels = (image.pixelColor(x, y).name() for x in range(image.width()) for y in range(image.height()))
    return dict(Counter(pixels))

def tip(layer, feature):
    context = QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(layer))
    context.setFeature(feature)
    return QgsExpression.replaceExpressionText(layer.mapTipTemplate(), context)

def about(layer):
    fields, time = layer.fields(), layer.temporalProperties()
    return {
        "valid": layer.isValid(), "count": layer.featureCount(), "crs": layer.crs().authid(),
        "fields": {f.name(): f.typeName() for f in fields},
        "titles": {f.name(): layer.attributeAlias(i) for i, f in enumerate(fields)},
        "widgets": {f.name(): layer.editorWidgetSetup(i).type() for i, f in enumerate(fields)},
        "renderer": layer.renderer() and layer.renderer().type(),
        "time": [time.isActive(), time.mode(), time.startField(), time.endField()],
        "labels": layer.labelsEnabled(), "shown_as": layer.displayExpression(),
        "tips": [tip(layer, f) for f in layer.getFeatures()] if layer.mapTipTemplate() else [],
    }
"""

CLOSE = """
found["warned"] = warned
print(json.dumps(found))
sys.stdout.flush()
os._exit(0)
"""

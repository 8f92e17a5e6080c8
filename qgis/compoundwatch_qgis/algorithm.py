"""One command of compoundwatch as an algorithm of Processing, made from the description of its parameters."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputString,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDateTime,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
    QgsProcessingUtils,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QThread
from qgis.PyQt.QtGui import QIcon

from . import child, layers
from .words import ADVANCED, JUDGING, LABELS, LOADED, TITLES

ICON = Path(__file__).with_name("icon.svg")
SETTING = "COMPOUNDWATCH_PROGRAM"
AREAS, IMAGES, RESULT, OUT, LOAD, TEXT = "AOI", ("BEFORE", "AFTER"), "DIR", "OUT", "LOAD", "TEXT"


class CommandAlgorithm(QgsProcessingAlgorithm):
    """Runs one command in a process of its own; ``described`` is its entry in commands.json."""

    def __init__(self, command: str, described: dict[str, Any]) -> None:
        super().__init__()
        self._command = command
        self._described = described
        self._arguments: list[str] = []
        self._results: dict[str, Any] = {}
        self._load = False

    def createInstance(self) -> CommandAlgorithm:
        return CommandAlgorithm(self._command, self._described)

    def name(self) -> str:
        return self._command

    def displayName(self) -> str:
        return TITLES[self._command]

    def icon(self) -> QIcon:
        return QIcon(str(ICON))

    def shortHelpString(self) -> str:
        """The help text of the command line, with that of each parameter."""
        about = "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in self._described["help"])
        for described in self._described["parameters"]:
            label, rest = (html.escape(text) for text in _label(described))
            about += f"<p><b>{label}</b> <code>{described['flag'] or described['name']}</code><br>{rest}</p>"
        return about

    # -------------------------------------------------------------------------------------------------- parameters

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Declare the parameters of the command, and what QGIS adds."""
        for described in self._described["parameters"]:
            parameter = self._parameter(described)
            if described["name"] in ADVANCED:
                parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
            parameter.setHelp(described["help"])
            self.addParameter(parameter)
        if self._command in LOADED:
            self.addParameter(QgsProcessingParameterBoolean(LOAD, "Add the layers to the map", True))
        self.addOutput(QgsProcessingOutputString(TEXT, "What the command said"))

    def _parameter(self, described: dict[str, Any]) -> QgsProcessingParameterDefinition:
        name, kind, default = described["name"], described["kind"], described["default"]
        label, _ = _label(described)
        optional = not described["required"]
        if name == AREAS:
            return QgsProcessingParameterVectorLayer(name, label, optional=optional)
        if name in IMAGES:
            return QgsProcessingParameterRasterLayer(name, label)
        if name == RESULT:
            return QgsProcessingParameterFile(name, label, behavior=QgsProcessingParameterFile.Folder)
        if name == OUT:
            # Where the command line would write into the working folder, QGIS has to be told a folder.
            beside = optional and default is None
            kinds = {"report": (QgsProcessingParameterFileDestination, {"fileFilter": "HTML (*.html);;PDF (*.pdf)"})}
            destination, more = kinds.get(self._command, (QgsProcessingParameterFolderDestination, {}))
            return destination(name, label, optional=beside, createByDefault=not beside, **more)
        if kind == "file":
            return QgsProcessingParameterFile(name, label, optional=optional)
        if kind == "date":
            return QgsProcessingParameterDateTime(name, label, QgsProcessingParameterDateTime.Date, None, optional)
        if kind == "boolean":
            return QgsProcessingParameterBoolean(name, label, bool(default))
        if kind in ("integer", "float"):
            limits = {f"{limit}Value": described[limit] for limit in ("min", "max") if limit in described}
            number = {"integer": QgsProcessingParameterNumber.Integer, "float": QgsProcessingParameterNumber.Double}
            return QgsProcessingParameterNumber(name, label, number[kind], default, optional, **limits)
        several = described["multiple"]
        value = "\n".join(default or ()) if several else default
        return QgsProcessingParameterString(name, label, value, multiLine=several, optional=optional)

    def checkParameterValues(self, parameters: dict[str, Any], context: QgsProcessingContext) -> Any:
        """Leave a file of which QGIS can make no layer to compoundwatch, which says what is wrong with it."""
        stand_in = {AREAS: QgsVectorLayer("Polygon", "areas", "memory")} if _geojson(parameters.get(AREAS)) else {}
        return super().checkParameterValues({**parameters, **stand_in}, context)

    def prepareAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        """Make the arguments; in the thread of the map, whose layers may be read in no other."""
        self._load = self._command in LOADED and self.parameterAsBoolean(parameters, LOAD, context)
        options = ["--json"] if self._command in JUDGING else []
        arguments: list[str] = []
        for described in self._described["parameters"]:
            values = self._values(described, parameters, context)
            if not described["flag"]:
                arguments += values
            elif described["kind"] == "boolean":
                options += [described["flag"]] * bool(values)
            else:
                options += [f"{described['flag']}={value}" for value in values]
        self._arguments = ["--progress=lines", self._command, *options, "--", *arguments]
        return True

    def _values(
        self, described: dict[str, Any], parameters: dict[str, Any], context: QgsProcessingContext
    ) -> list[str]:
        """The values of a parameter as the command line takes them; none where it is left to its default."""
        name, kind = described["name"], described["kind"]
        if parameters.get(name) is None and name != OUT:
            return []
        if name == OUT:
            value = self.parameterAsFileOutput(parameters, name, context)
            self._results[OUT] = value
        elif name == AREAS:
            value = _geojson(parameters[name]) or self._exported(parameters, context)
        elif name in IMAGES:
            value = self.parameterAsRasterLayer(parameters, name, context).source()
        elif kind == "boolean":
            return [name] * self.parameterAsBoolean(parameters, name, context)
        elif kind == "integer":
            value = str(self.parameterAsInt(parameters, name, context))
        elif kind == "float":
            value = repr(self.parameterAsDouble(parameters, name, context))
        elif kind == "date":
            value = self.parameterAsDateTime(parameters, name, context).toString("yyyy-MM-dd")
        else:
            given = parameters[name]
            if described["multiple"] and isinstance(given, (list, tuple)):
                return [str(value) for value in given]
            value = self.parameterAsString(parameters, name, context)
            if described["multiple"]:
                return [line.strip() for line in value.splitlines() if line.strip()]
        return [value] if value else []

    def _exported(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """The layer of areas as GeoJSON, with all its fields, in a temporary folder that QGIS removes when it ends."""
        layer = self.parameterAsVectorLayer(parameters, AREAS, context)
        if _geojson(layer.source()) and not layer.isEditable():
            return str(layer.source())
        target = QgsProcessingUtils.generateTempFilename("areas.geojson")
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName = "GeoJSON"
        options.layerName = layer.name()
        options.layerOptions = ["RFC7946=YES"]
        wgs84 = QgsCoordinateReferenceSystem("EPSG:4326")
        options.ct = QgsCoordinateTransform(layer.crs(), wgs84, context.transformContext())
        error, words, *_ = QgsVectorFileWriter.writeAsVectorFormatV3(layer, target, context.transformContext(), options)
        if error != QgsVectorFileWriter.NoError:
            raise QgsProcessingException(f"The layer {layer.name()} could not be saved as GeoJSON: {words}")
        return str(target)

    # --------------------------------------------------------------------------------------------------------- run

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run the command; what it says goes into the log, and into the result as text."""

        def on_progress(done: int, total: int, task: str) -> None:
            feedback.setProgress(100 * done / max(total, 1))
            feedback.setProgressText(task)

        try:
            command = [child.program(ProcessingConfig.getSetting(SETTING) or ""), *self._arguments]
            feedback.pushCommandInfo(json.dumps(command, ensure_ascii=False))
            ended = child.run(command, on_progress, feedback.isCanceled)
        except child.CannotRun as error:
            raise QgsProcessingException(str(error)) from error
        if ended.code is None:
            feedback.pushInfo("Cancelled; compoundwatch was stopped.")
            return {}
        if ended.code not in (child.DONE, child.INCOMPLETE):
            feedback.pushInfo("\n".join(ended.told[:-1]))
            raise QgsProcessingException(ended.sentence)
        for line in ended.told:
            feedback.pushWarning(line)
        text, missing = _judged(ended.text) if self._command in JUDGING else (ended.text, ["the text above says what"])
        feedback.pushInfo(text)
        if ended.code == child.INCOMPLETE:
            feedback.pushWarning("\n  ".join(["Finished, but something is missing:", *missing]))
        self._results[TEXT] = text
        return self._results

    def postProcessAlgorithm(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> dict[str, Any]:
        """Add the layers to the map; inside a model, which runs in another thread, they are left alone."""
        project = context.project()
        if self._load and TEXT in self._results and project and QThread.currentThread() == project.thread():
            folder = Path(self._results[OUT]) / LOADED[self._command]
            layers.remove(folder, project)
            added = layers.add(folder, project)
            feedback.pushInfo(f"{len(added)} layers were added to the map.")
        return {}


def _label(described: dict[str, Any]) -> tuple[str, str]:
    """The first sentence of a help text, and what follows."""
    words = described["help"] or LABELS[described["name"]]
    first, _, rest = words.partition("; " if described["multiple"] else ". ")
    first = first.rstrip(".") + (" (one on a line)" if described["multiple"] else "")
    return first, re.sub(r"^may (be )?repeat(ed)?\. ?", "", rest)


def _geojson(value: Any) -> str:
    """A value that is the path of a GeoJSON file, which is handed over as it is; "" = it is none."""
    found = isinstance(value, str) and value.lower().endswith((".geojson", ".json")) and Path(value).is_file()
    return value if found else ""


def _judged(answer: str) -> tuple[str, list[str]]:
    """What is said of each site, and by name, with the reason, what has no answer or was left out."""
    found = json.loads(answer)
    states = found["states"]
    text = "\n".join(f"{s['site_id']}: {s['state']}. {s['reason']}" for s in states)
    missing = [f"{s['site_id']}: {s['reason']}" for s in states if s["state"] == "NOT_OBSERVABLE"]
    return text, missing + [f"{k['item_id']} was left out: {k['reason']}" for k in found["skipped"]]

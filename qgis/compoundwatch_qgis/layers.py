"""Adds the layers of a result to a project, with their styles, in a group of their own."""

from __future__ import annotations

from pathlib import Path

from qgis.core import (
    QgsLayerDefinition,
    QgsLayerTreeGroup,
    QgsMapLayer,
    QgsProject,
    QgsRasterLayer,
    QgsReadWriteContext,
    QgsVectorLayer,
)
from qgis.PyQt.QtXml import QDomDocument

MARK = "compoundwatch_result"
"""Property of a group: the folder whose layers it holds."""


def add(folder: Path, project: QgsProject) -> list[QgsMapLayer]:
    """Add what was found in the folder of a result, and give the layers.

    A watch brings a project of its own, whose groups, styles and dates are taken over; a comparison has files.
    """
    group = project.layerTreeRoot().insertGroup(0, folder.name)
    group.setCustomProperty(MARK, str(folder))
    if not _from_project(folder / "watch.qgz", project, group):
        for name in ("sites.geojson", "changes.geojson", "direction.tif"):
            if (folder / name).is_file():
                kind = QgsVectorLayer if name.endswith("json") else QgsRasterLayer
                group.addLayer(project.addMapLayer(kind(str(folder / name), Path(name).stem), False))
    return [node.layer() for node in group.findLayers()]


def remove(folder: Path, project: QgsProject) -> None:
    """Take away what an earlier run added of this folder, so that nothing stands in the project twice."""
    for group in project.layerTreeRoot().findGroups():
        if group.customProperty(MARK) == str(folder):
            project.removeMapLayers([node.layerId() for node in group.findLayers()])
            project.layerTreeRoot().removeChildNode(group)


def _from_project(path: Path, project: QgsProject, group: QgsLayerTreeGroup) -> bool:
    source = QgsProject()
    if not path.is_file() or not source.read(str(path)):
        return False
    group.setName(source.title())
    definition = QDomDocument("qgis-layer-definition")
    context = QgsReadWriteContext()
    QgsLayerDefinition.exportLayerDefinition(definition, source.layerTreeRoot().children(), context)
    QgsLayerDefinition.loadLayerDefinition(definition, project, group, context)
    return True

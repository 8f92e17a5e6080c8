"""Enters the commands into the Processing toolbox, and the path of the program into its settings."""

from __future__ import annotations

import json
from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithm import ICON, SETTING, CommandAlgorithm

DESCRIPTION = Path(__file__).with_name("commands.json")


class Plugin:
    """What QGIS loads and unloads."""

    def __init__(self) -> None:
        self.provider: Provider | None = None

    def initProcessing(self) -> None:
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        self.initProcessing()

    def unload(self) -> None:
        QgsApplication.processingRegistry().removeProvider(self.provider)


class Provider(QgsProcessingProvider):
    """One algorithm per command."""

    def id(self) -> str:
        return "compoundwatch"

    def name(self) -> str:
        return "compoundwatch"

    def icon(self) -> QIcon:
        return QIcon(str(ICON))

    def load(self) -> bool:
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        words = "Program compoundwatch (empty: the one that is found on the PATH)"
        ProcessingConfig.addSetting(Setting(self.name(), SETTING, words, "", valuetype=Setting.FILE))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self) -> None:
        for name, command in json.loads(DESCRIPTION.read_text(encoding="utf-8")).items():
            self.addAlgorithm(CommandAlgorithm(name, command))

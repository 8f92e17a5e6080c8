"""compoundwatch in the Processing toolbox of QGIS: calls the installed program, and adds what it made to the map."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """The plug-in, as QGIS asks for it; ``iface`` is the window of QGIS, None without one."""
    from .plugin import Plugin

    return Plugin()

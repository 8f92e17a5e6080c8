"""Finds plug-ins: modules of one of our folders, and objects that other installed packages offer."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from compoundwatch.errors import SettingsError


def find(package: ModuleType, attribute: str, group: str) -> dict[str, Any]:
    """Collect one object per plug-in, by its ``name``, sorted.

    Parameters
    ----------
    package : the folder that is the register; modules whose name starts with ``_`` are skipped.
    attribute : name of the object that each module ends with.
    group : entry-point group through which other packages offer the same kind of object.

    Raises
    ------
    SettingsError : two plug-ins have the same name.
    """
    found = [
        getattr(importlib.import_module(f"{package.__name__}.{info.name}"), attribute)
        for info in pkgutil.iter_modules(package.__path__)
        if not info.name.startswith("_")
    ]
    found += [entry.load() for entry in entry_points(group=group)]
    named = {item.name: item for item in found}
    if len(named) != len(found):
        names = sorted(item.name for item in found)
        raise SettingsError(f"two plug-ins of group '{group}' have the same name ({', '.join(names)}); rename one")
    return dict(sorted(named.items()))

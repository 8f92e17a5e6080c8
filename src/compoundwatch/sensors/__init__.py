"""Satellite products: this folder is their register, one file each."""

from __future__ import annotations

import sys

from compoundwatch import plugins
from compoundwatch.errors import SettingsError
from compoundwatch.model import Sensor

__all__ = ["available", "sensor"]


def available() -> dict[str, Sensor]:
    """All sensors by name, those of other installed packages included."""
    return plugins.find(sys.modules[__name__], "SENSOR", "compoundwatch.sensors")


def sensor(name: str) -> Sensor:
    """The sensor of this name.

    Raises
    ------
    SettingsError : there is none; the message lists those there are.
    """
    choices = available()
    if name not in choices:
        raise SettingsError(f"there is no sensor '{name}'; choose one of {', '.join(choices)}")
    return choices[name]

"""Monitors known sites with open satellite imagery: what changed, when, which way, and how sure that is.

    import compoundwatch as cw
    result = cw.watch("sites.geojson", out="result")

Importing the package is cheap; what a name needs is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compoundwatch.errors import CompoundWatchError
    from compoundwatch.model import AreaOfInterest, Event, Settings, Site, SiteState, State, Summary, WatchResult
    from compoundwatch.pipeline import CompareResult, compare, demo, read_area, summarise, watch

__version__ = "0.1.0"

__all__ = [
    "AreaOfInterest",
    "CompareResult",
    "CompoundWatchError",
    "Event",
    "Settings",
    "Site",
    "SiteState",
    "State",
    "Summary",
    "WatchResult",
    "compare",
    "demo",
    "read_area",
    "summarise",
    "watch",
]

_HOMES = {
    "errors": ("CompoundWatchError",),
    "model": ("AreaOfInterest", "Event", "Settings", "Site", "SiteState", "State", "Summary", "WatchResult"),
    "pipeline": ("CompareResult", "compare", "demo", "read_area", "summarise", "watch"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"compoundwatch.{home}"), name)
    raise AttributeError(f"module 'compoundwatch' has no attribute '{name}'")

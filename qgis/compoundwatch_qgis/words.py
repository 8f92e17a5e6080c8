"""What QGIS adds to the commands: titles, words for parameters that explain themselves on a command line only."""

from __future__ import annotations

TITLES = {
    "check": "Check areas",
    "watch": "Watch areas",
    "compare": "Compare two images",
    "summary": "Summarise a result",
    "explain": "Explain the answer for a site",
    "history": "Tell the history of a site",
    "report": "Write the report again",
    "chips": "Draw pictures of the sites",
    "publish": "Make a folder for the public",
    "demo": "Try it on a made-up place",
}
"""The commands that are offered, and what they are called in the toolbox."""

LABELS = {
    "AOI": "Areas: polygons of sites and controls",
    "BEFORE": "Image before",
    "AFTER": "Image after",
    "DIR": "Result: the folder that was written by Watch areas",
    "SITE": "Site, by its site_id",
}
"""Parameters that have no help text on the command line."""

ADVANCED = {"SETTINGS", "WAIT", "RENEW", "NOTIFY", "WORKERS", "DASK", "DETECTOR", "ALPHA", "BASEMAP", "PLACEBOS"}
"""Parameters that are folded away at first."""

LOADED = {"watch": "", "compare": "", "demo": "result"}
"""Commands whose layers are added to the map, and where in their folder these lie."""

JUDGING = ("watch", "demo")
"""Commands whose answer is read as JSON: a state for each site, and what was left out."""

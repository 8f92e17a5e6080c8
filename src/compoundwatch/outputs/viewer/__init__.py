"""A result looked at in a browser and in QGIS through a server on this machine: read-only, the result and no more."""

from compoundwatch.outputs.viewer.app import make_app

__all__ = ["make_app"]

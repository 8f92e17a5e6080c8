"""Tests of the QGIS plug-in."""

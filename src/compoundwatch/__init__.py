"""Monitors known sites with open satellite imagery."""

__version__ = "0.1.0"

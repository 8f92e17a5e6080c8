"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real imagery, which is no part of the project; skips where it is absent."""
    folder = Path(os.environ.get("COMPOUNDWATCH_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"real imagery not found in {folder}; set COMPOUNDWATCH_SHARED to the folder that holds data/")
    return folder


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    """Test servers are named by their address, so that no name has to be looked up."""
    return "127.0.0.1", 0

"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.headless import CLOSE, PYTHON, SCRIPT

ROOT = Path(__file__).resolve().parents[1]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Tests in the background of a shell ignore Ctrl-C, and so would all they start; some of them send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def pyqgis(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Runs a script in a QGIS without a screen and gives back what it ``found``."""
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o700)
    env = {k: v for k, v in os.environ.items() if k not in ("PROJ_DATA", "PROJ_LIB", "GDAL_DATA", "PYTHONPATH")}
    env |= {"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(home), "HOME": str(home)}
    if (
        not Path(PYTHON).exists()
        or subprocess.run([PYTHON, "-c", "import qgis.core"], env=env, capture_output=True).returncode
    ):
        pytest.skip("QGIS is not installed for /usr/bin/python3 (Debian package python3-qgis)")

    def run(script: str, *args: str) -> Any:
        command = [PYTHON, "-c", SCRIPT + script + CLOSE, *args]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run

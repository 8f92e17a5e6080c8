"""What the package promises to users of its Python names, and to those who start it often."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import compoundwatch as cw

ROOT = Path(__file__).resolve().parents[1]


def test_every_public_name_is_there_and_explained():
    for name in cw.__all__:
        assert getattr(cw, name).__doc__, name


def test_nothing_else_is_public():
    visible = {n for n in vars(cw) if not n.startswith("_")} - {"TYPE_CHECKING", "Any", "import_module"}
    modules = {p.stem for p in (ROOT / "src" / "compoundwatch").iterdir()}
    assert visible - modules <= set(cw.__all__)


def test_help_loads_no_heavy_library():
    code = (
        "import sys; from compoundwatch.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'scipy', 'pandas', 'xarray', 'rasterio', 'geopandas', 'numba', 'matplotlib', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


def test_every_command_has_help_with_an_example():
    from compoundwatch.cli import main

    for name, command in main.commands.items():
        text = command.help or ""
        assert text, name
        if name not in ("sensors", "detectors"):
            assert "xample" in text, name

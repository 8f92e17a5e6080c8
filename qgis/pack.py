"""Describes the commands of compoundwatch for the QGIS plug-in, and packs the plug-in as a ZIP file.

``python qgis/pack.py`` writes ``compoundwatch_qgis/commands.json`` anew from the command line itself, so that names,
defaults and help texts stand in one place; ``python qgis/pack.py FILE.zip`` packs. Equal sources make equal archives.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import click

from compoundwatch.cli import main
from compoundwatch_qgis.words import TITLES

HERE = Path(__file__).resolve().parent
PLUGIN = HERE / "compoundwatch_qgis"
DESCRIPTION = PLUGIN / "commands.json"
KINDS = {click.Path: "file", click.DateTime: "date"}
"""Kinds of parameters that Click names otherwise; the rest are "text", "integer", "float" and "boolean"."""


def described() -> str:
    """The commands that the plug-in offers, with their parameters, as JSON."""
    commands = {name: _command(main.commands[name]) for name in TITLES}
    return json.dumps(commands, indent=1, ensure_ascii=False) + "\n"


def _command(command: click.Command) -> dict[str, Any]:
    help_text, _, _ = (command.help or "").partition("\b")
    paragraphs = [" ".join(p.split()) for p in help_text.split("\n\n")]
    parameters = [_parameter(p) for p in command.params if p.name != "as_json"]
    return {"help": [p for p in paragraphs if p], "parameters": parameters}


def _parameter(parameter: click.Parameter) -> dict[str, Any]:
    option = parameter if isinstance(parameter, click.Option) else None
    flag = max(option.opts, key=len) if option else ""
    default = parameter.default
    if isinstance(default, Path):
        default = str(default)
    elif not isinstance(default, str | int | float | tuple):  # also where Click says that there is none
        default = None
    kind = KINDS.get(type(parameter.type), parameter.type.name.removesuffix(" range"))
    found = {
        "name": (flag.strip("-") or (parameter.metavar or str(parameter.name)).rstrip(".")).upper().replace("-", "_"),
        "flag": flag,
        "kind": kind,
        "required": parameter.required,
        "multiple": bool(option and option.multiple),
        "default": list(default) if isinstance(default, tuple) else default,
        "help": (option.help or "") if option else "",
        "unit": (parameter.metavar or "") if option else "",
    }
    for limit in ("min", "max"):
        if getattr(parameter.type, limit, None) is not None:
            found[limit] = getattr(parameter.type, limit)
    return found


def pack(archive: Path) -> None:
    """Write the plug-in as a ZIP file that QGIS installs: files in order, without times or rights of this machine."""
    files = {f"{PLUGIN.name}/LICENSE": HERE.parent / "LICENSE"}
    files |= {p.relative_to(HERE).as_posix(): p for p in PLUGIN.iterdir() if p.is_file()}
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as packed:
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


if __name__ == "__main__":
    if sys.argv[1:]:
        pack(Path(sys.argv[1]))
    else:
        DESCRIPTION.write_text(described(), encoding="utf-8")

"""A result packed for others to keep: a BagIt bag (RFC 8493), as a folder or as a ZIP file.

Archives and courts know the form: the files lie in ``data/``, and lists of SHA-256 and SHA-512 beside it, which
``sha256sum -c`` and ``bagit --validate`` read without this package.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compoundwatch.errors import OutputError, SettingsError
from compoundwatch.outputs.evidence import Fault, Verification, plain_text, read_manifest, verify
from compoundwatch.outputs.runlog import LOG
from compoundwatch.outputs.staging import MANIFEST

CHECKSUMS = ("sha256", "sha512")
OWN_LABELS = frozenset({"payload-oxum", "bagging-date", "bag-software-agent", "external-identifier", "manifest-sha256"})
"""Of bag-info.txt, in small letters: what we or the library say ourselves."""


def write_bundle(folder: Path, out: Path, now: dt.datetime, info: Mapping[str, str] | None = None) -> Path:
    """Pack a result that is as it was written; files that it does not list stay behind.

    Parameters
    ----------
    folder : the result; nothing in it is changed.
    out : a ZIP file (ending in .zip) or a folder; it must not be there yet.
    now : the date of packing (UTC).
    info : further lines of bag-info.txt, by their label, such as "Source-Organization".

    Returns
    -------
    ``out``, made absolute.

    Raises
    ------
    SettingsError : the folder cannot be verified, ``out`` is taken or lies in it, a label is wrong, or the library
        bagit is not installed.
    OutputError : the folder is not as it was written, or the bag cannot be written.
    """
    folder, out, more = folder.resolve(), out.resolve(), dict(info or {})
    _check_target(folder, out)
    _check_labels(more)
    _check_library()
    found = verify(folder)
    _refuse(folder, found)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".compoundwatch-bundle-", dir=out.parent) as aside:
            bag = Path(aside) / (out.stem if _is_zip(out) else out.name)
            _copy(folder, bag)
            _make_bag(bag, {**_about(folder, found, now), **more})
            _refuse(folder, verify(bag / "data"))
            if _is_zip(out):
                packed = Path(aside) / "bag.zip"
                _zip(bag, packed, now)
                os.replace(packed, out)
            else:
                if out.exists():
                    out.rmdir()
                os.replace(bag, out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    return out


def _is_zip(out: Path) -> bool:
    return out.suffix.lower() == ".zip"


def _check_target(folder: Path, out: Path) -> None:
    if out.is_relative_to(folder):
        raise SettingsError(f"{out} lies inside the result {folder}, which must stay as it is; name another place")
    if folder.is_relative_to(out):
        raise SettingsError(f"{out} holds the result {folder}; name another place")
    if out.is_dir() and not _is_zip(out) and not any(out.iterdir()):
        return
    if out.exists():
        raise SettingsError(f"{out} is there already and is not replaced; name another place")


def _check_labels(info: Mapping[str, str]) -> None:
    for label, text in info.items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", label) or label.lower() in OWN_LABELS:
            raise SettingsError(
                f"expected a label of bag-info.txt such as Source-Organization or Contact-Name, found {label!r}"
            )
        if not text.isprintable() or not text.strip():
            raise SettingsError(f"the text of {label} must be one line and not empty")


def _check_library() -> None:
    try:
        import bagit  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            "bundles need the library bagit: install it with pip install 'compoundwatch[evidence]'"
        ) from error


def _refuse(folder: Path, found: Verification) -> None:
    """Files of the user beside a result are left out; all else that differs is a reason not to hand it over."""
    if differing := [d for d in found.differences if d.fault is not Fault.EXTRA]:
        raise OutputError(
            f"{folder} is not as it was written and was not packed: {differing[0].text}"
            + (f", and {len(differing) - 1} more; see 'compoundwatch verify'" if len(differing) > 1 else "")
        )


def _copy(folder: Path, bag: Path) -> None:
    for name in [*(entry["path"] for entry in read_manifest(folder)["outputs"]), LOG, MANIFEST]:
        (bag / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, bag / name)


def _about(folder: Path, found: Verification, now: dt.datetime) -> dict[str, str]:
    """What bag-info.txt says of the result, from its manifest."""
    manifest = read_manifest(folder)
    area: Any = manifest.get("area")
    where = f" of {plain_text(area.get('area_id'))}" if isinstance(area, dict) else ""
    states = manifest["counts"].get("states")
    said = ", ".join(f"{plain_text(name)} {plain_text(n)}" for name, n in states.items()) if states else ""
    return {
        "External-Identifier": found.run_id,
        "External-Description": f"Result of compoundwatch {plain_text(manifest['kind'])}{where}, run of "
        f"{found.created}" + (f": {said}" if said else ""),
        "Bagging-Date": f"{now:%Y-%m-%d}",
        "Bag-Software-Agent": found.software,
        "Manifest-SHA256": found.seal,
    }


def _make_bag(bag: Path, info: Mapping[str, str]) -> None:
    import bagit

    try:
        bagit.make_bag(str(bag), bag_info=dict(info), checksums=list(CHECKSUMS))
    except bagit.BagError as error:
        raise OutputError(f"the bag cannot be made: {error}") from error


def _zip(bag: Path, path: Path, now: dt.datetime) -> None:
    """Pack the bag in one order and with one date, so that equal bags make equal files."""
    moment = (max(now.year, 1980), now.month, now.day, now.hour, now.minute, now.second)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(p for p in bag.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo((Path(bag.name) / file.relative_to(bag)).as_posix(), moment)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.file_size = file.stat().st_size
            with file.open("rb") as source, packed.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)

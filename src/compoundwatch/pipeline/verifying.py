"""Is a result as it was written, and how is it handed to others."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from compoundwatch.errors import StoreError
from compoundwatch.model import shown
from compoundwatch.outputs.bundle import write_bundle
from compoundwatch.outputs.evidence import Difference, Fault, Verification, read_manifest
from compoundwatch.outputs.evidence import verify as verify_folder
from compoundwatch.outputs.manifest import plain
from compoundwatch.store import STORE, reading


def verify(folder: Path | str, *, seal: str | None = None) -> Verification:
    """Compare a result with its own manifest and log: every hash, the chain of runs, and what files say twice.

    Parameters
    ----------
    folder : a result of ``watch`` or ``compare``, wherever it lies now.
    seal : the SHA-256 of its manifest.json as it was noted elsewhere; None = not noted.

    Raises
    ------
    SettingsError : the folder cannot be verified: it is no result, or holds what may not be trusted.
    """
    found = verify_folder(Path(folder), seal)
    if not (Path(folder) / STORE).is_file():
        return found
    return replace(found, differences=(*found.differences, *_store_differences(Path(folder))))


def _store_differences(folder: Path) -> list[Difference]:
    """What is no more as it was added to the store, and whether the result is that of a run that it holds."""
    told = read_manifest(folder).get("store")
    try:
        with reading(folder) as ledger:
            texts = ledger.check()
            if isinstance(told, dict) and ledger.hash_of(told.get("run")) != told.get("sha256"):
                texts.append(f"run {shown(told.get('run'))}, which wrote this result, is not in it as it was")
    except StoreError as error:
        texts = [str(error)]
    return [Difference(Fault.CHANGED, STORE, f"{STORE}: {text}") for text in texts]


def describe_verification(found: Verification) -> dict[str, Any]:
    """What verifying found, as plain values."""
    described: dict[str, Any] = {"as_written": found.as_written, **plain(found)}
    return described


def verification_text(found: Verification) -> list[str]:
    """What verifying found, in sentences."""
    runs = "1 run" if found.n_runs == 1 else f"{found.n_runs} runs"
    about = (
        f"Run {found.run_id} of {found.software}, {found.created}: {found.n_files} files, {found.n_bytes} bytes, "
        f"{runs} in the log."
    )
    if found.as_written:
        return [about, "All is as it was written.", f"Seal (SHA-256 of manifest.json): {found.seal}"]
    count = "1 thing differs" if len(found.differences) == 1 else f"{len(found.differences)} things differ"
    return [about, f"{count} from what was written:", *(f"  {d.text}" for d in found.differences)]


def bundle(
    folder: Path | str, out: Path | str, *, info: Mapping[str, str] | None = None, now: dt.datetime | None = None
) -> Path:
    """Pack a result, once verified, as a BagIt bag.

    Parameters
    ----------
    folder : a result of ``watch`` or ``compare``.
    out : a new ZIP file (ending in .zip) or a new folder.
    info : further lines of bag-info.txt by label, such as "Source-Organization".
    now : the date of packing (UTC); default: the clock.

    Raises
    ------
    SettingsError : the folder cannot be verified, ``out`` will not do, or the library bagit is not installed.
    OutputError : the folder is not as it was written, or the bag cannot be written.
    """
    return write_bundle(Path(folder), Path(out), now or dt.datetime.now(dt.UTC), info)

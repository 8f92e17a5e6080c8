"""Is a result as it was written, and how is it handed to others."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compoundwatch.errors import StoreError
from compoundwatch.model import shown
from compoundwatch.outputs.bundle import write_bundle
from compoundwatch.outputs.evidence import Difference, Fault, Recomputation, Verification, read_manifest
from compoundwatch.outputs.evidence import verify as verify_folder
from compoundwatch.outputs.manifest import plain
from compoundwatch.pipeline.progress import Progress, silent
from compoundwatch.store import STORE, reading

LISTED = 10
"""So many of the things that could not be recomputed are printed; ``--json`` tells of all."""


def verify(
    folder: Path | str, *, seal: str | None = None, recompute: bool = False, progress: Progress = silent
) -> Verification:
    """Compare a result with its own manifest and log: every hash, the chain of runs, and what files say twice.

    Parameters
    ----------
    folder : a result of ``watch`` or ``compare``, wherever it lies now.
    seal : the SHA-256 of its manifest.json as it was noted elsewhere; None = not noted.
    recompute : make the result anew from the imagery that its workspace keeps, and compare that, too; nothing is asked
        of any server.
    progress : told what is being done.

    Raises
    ------
    SettingsError : the folder cannot be verified: it is no result, or holds what may not be trusted.
    """
    found = verify_folder(Path(folder), seal)
    if (Path(folder) / STORE).is_file():
        found = replace(found, differences=(*found.differences, *_store_differences(Path(folder))))
    if not recompute:
        return found
    from compoundwatch.pipeline.recomputing import recompute as made_anew

    return replace(found, recomputed=made_anew(Path(folder), progress))


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


def verified(found: Verification) -> tuple[bool, bool]:
    """Whether nothing differs, and whether all that was asked for could be looked at."""
    again = found.recomputed or Recomputation()
    return found.as_written and not again.differences, again.whole


def verification_text(found: Verification) -> list[str]:
    """What verifying found, in sentences."""
    runs = "1 run" if found.n_runs == 1 else f"{found.n_runs} runs"
    about = (
        f"Run {found.run_id} of {found.software}, {found.created}: {found.n_files} files, {found.n_bytes} bytes, "
        f"{runs} in the log."
    )
    lines = [about, *(_counted(found.differences, "from what was written") or ["All is as it was written."])]
    if found.recomputed:
        lines += _recomputed_text(found.recomputed)
    if found.as_written:
        lines.append(f"Seal (SHA-256 of manifest.json): {found.seal}")
    return lines


def _counted(differences: Sequence[Difference], where: str) -> list[str]:
    if not differences:
        return []
    count = "1 thing differs" if len(differences) == 1 else f"{len(differences)} things differ"
    return [f"{count} {where}:", *(f"  {d.text}" for d in differences)]


def _recomputed_text(found: Recomputation) -> list[str]:
    """What came of making a result anew, in sentences."""
    sites = "1 site" if found.of_sites == 1 else f"{found.of_sites} sites"
    lines = _counted(found.differences, "from what the kept imagery gives")
    if found.whole and not lines:
        lines = [f"Recomputed from the kept imagery, it is the same ({sites})."]
    if found.obstacles:
        number = f"; {found.n_sites} of {sites} were" if found.n_sites else ""
        lines += [f"It could not be recomputed{' as a whole' if number else ''}{number}:"]
        lines += [f"  {text}" for text in found.obstacles[:LISTED]]
        if len(found.obstacles) > LISTED:
            lines.append(f"  and {len(found.obstacles) - LISTED} more; --json lists all")
    if found.software:
        lines.append(f"Other software than then, which may explain what differs: {'; '.join(found.software)}.")
    if found.uncompared:
        lines.append(f"Not compared, as other software writes other bytes: {', '.join(found.uncompared)}.")
    return lines


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

"""The report of a result that was written before: the same page again, of one site, in another language, or as PDF."""

from __future__ import annotations

import tempfile
from pathlib import Path

from compoundwatch import sensors
from compoundwatch.errors import OutputError
from compoundwatch.outputs.raster import safe_name
from compoundwatch.outputs.reading import read_watch
from compoundwatch.outputs.report import write_report
from compoundwatch.outputs.report.pdf import find_browser, print_pdf
from compoundwatch.outputs.report.words import ENGLISH, words
from compoundwatch.pipeline.inputs import check_outside
from compoundwatch.pipeline.summarising import told


def report(
    folder: Path | str,
    *,
    out: Path | str | None = None,
    site_id: str | None = None,
    language: str = ENGLISH,
    pdf: bool = False,
    basemap: str = "",
) -> Path:
    """Write the report of a result again, beside its folder: what is inside is sealed by its manifest.

    Parameters
    ----------
    folder : result of ``watch``.
    out : the file to write; None = beside the folder, named after it, the site and the language.
    site_id : tell of this site only.
    language : "en" or another language of ``outputs.report.words``.
    pdf : print it as PDF with a browser of this machine.
    basemap : address of map tiles with {z}, {x} and {y} that the page may ask for when its reader says so.

    Returns
    -------
    the file that was written.

    Raises
    ------
    SettingsError : the folder holds no result, there is no such site, language or browser, or the file would lie inside
        the result.
    OutputError : the file cannot be written.
    """
    folder = Path(folder)
    words(language)
    browser = find_browser() if pdf else ""
    target = Path(out) if out else default_path(folder, site_id, language, ".pdf" if pdf else ".html")
    check_outside(target, folder, "file")
    stored = read_watch(folder, pictures=True)
    chosen = [sensors.sensor(name) for name in stored.sensors]
    try:
        with tempfile.TemporaryDirectory(prefix=".report-", dir=target.resolve().parent) as aside:
            page = Path(aside) / "report.html"
            write_report(page, stored, chosen, told(stored), language=language, site_id=site_id, basemap=basemap)
            if pdf:
                print_pdf(page, Path(aside) / "report.pdf", browser)
            (Path(aside) / ("report.pdf" if pdf else "report.html")).replace(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


def default_path(folder: Path, site_id: str | None, language: str, suffix: str) -> Path:
    """Where a report goes: beside the folder, with the site and the language in its name."""
    home = folder.resolve()
    parts = [
        f"{home.name}-report",
        *([safe_name(site_id)] if site_id else []),
        *([language] if language != ENGLISH else []),
    ]
    return home.parent / f"{'-'.join(parts)}{suffix}"

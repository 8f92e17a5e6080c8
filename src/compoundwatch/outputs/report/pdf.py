"""The report as PDF, printed by a browser that is already on the machine: none is fetched."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from compoundwatch.errors import OutputError, SettingsError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)
OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-pdf-header-footer",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
TIMEOUT_S = 300


def find_browser() -> str:
    """The path of a browser that can print.

    Raises
    ------
    SettingsError : there is none.
    """
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    found = found or next((path for path in PLACES if Path(path).is_file()), None)
    if found is None:
        raise SettingsError(
            "expected Chromium, Chrome or Edge on this machine to print a PDF with, found none; install one, or open "
            "the HTML report in any browser and print it from there"
        )
    return found


def print_pdf(page: Path, pdf: Path, browser: str) -> None:
    """Print a page into a PDF file, without a network.

    Parameters
    ----------
    browser : from ``find_browser``.

    Raises
    ------
    OutputError : the browser fails or takes longer than TIMEOUT_S seconds; no file is left then.
    """
    # A sandbox cannot be set up by root, and in a container there is nobody else.
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="compoundwatch-", ignore_cleanup_errors=True) as profile:
        made = Path(profile) / "report.pdf"
        command = [browser, *OPTIONS, *root, f"--user-data-dir={profile}", f"--print-to-pdf={made}"]
        try:
            done = subprocess.run(  # noqa: S603 - a browser of the system, and a page that was written here
                [*command, page.resolve().as_uri()], capture_output=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OutputError(f"{browser} could not print {page.name}: {type(error).__name__}") from error
        if not made.is_file() or not made.stat().st_size:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise OutputError(f"{browser} could not print {page.name} (code {done.returncode}: {(said or ['-'])[-1]})")
        try:
            shutil.copyfile(made, pdf)
        except OSError as error:
            pdf.unlink(missing_ok=True)
            raise OutputError(f"{pdf} cannot be written: {error.strerror or error}") from error

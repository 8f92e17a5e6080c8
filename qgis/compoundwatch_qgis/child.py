"""Runs compoundwatch in a process of its own; knows nothing of QGIS but that somebody may cancel."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from typing import IO, Callable

PROGRAM = "compoundwatch"
DONE, FAILED, WRONG_USE, INCOMPLETE = 0, 1, 2, 3
"""Exit codes of the program."""
OF_QGIS = ("PYTHONHOME", "PYTHONPATH", "PROJ_DATA", "PROJ_LIB", "GDAL_DATA", "GDAL_DRIVER_PATH")
"""Variables by which QGIS finds its own Python and libraries; the program has others."""
PATIENCE_S = 10.0
"""The program may take so long to tidy up when it is cancelled."""
PROGRESS = re.compile(r"(\d+)/(\d+) (.*)")


class CannotRun(Exception):  # noqa: N818
    """The program is not there or cannot be started; the message says what to do."""


@dataclass
class Ended:
    """How a run ended: exit code (None = cancelled), standard output, and the lines of standard error but progress."""

    code: int | None
    text: str = ""
    told: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """What went wrong, as the program puts it."""
        last = self.told[-1] if self.told else f"compoundwatch ended with exit code {self.code} and said nothing."
        return re.sub(r"^(compoundwatch|Error): ", "", last)


def program(path: str) -> str:
    """The absolute path of the program: ``path``, or what is found on the PATH where that is empty.

    Raises
    ------
    CannotRun : there is no such program, or starting it would need a shell.
    """
    found = path.strip() or shutil.which(PROGRAM) or ""
    # Windows also looks into the working folder, where anybody may have put a file of that name.
    if not os.path.isabs(found) or not os.path.isfile(found):
        place = f"at {path.strip()}" if path.strip() else "on the PATH"
        raise CannotRun(
            f"The program compoundwatch was not found {place}. Install it (pip install compoundwatch), or set its full "
            "path in Settings > Options > Processing > Providers > compoundwatch."
        )
    if found.lower().endswith((".bat", ".cmd")):
        raise CannotRun(f"{found} is a script that Windows runs in a shell; set the path of compoundwatch.exe instead.")
    return found


def environment() -> dict[str, str]:
    """The variables of this process without those of QGIS; the program speaks UTF-8."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_QGIS}
    return {**kept, "PYTHONUTF8": "1"}


def run(command: list[str], on_progress: Callable[[int, int, str], None], cancelled: Callable[[], bool]) -> Ended:
    """Run a program to its end, or stop it with its children when ``cancelled`` says so.

    Parameters
    ----------
    command : the program and its arguments, handed over as they are; there is no shell.
    on_progress : called with how much is done, how much there is, and what is being done.
    cancelled : asked several times a second.

    Raises
    ------
    CannotRun : the program cannot be started.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                env=environment(),
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, ValueError) as error:
            raise CannotRun(f"{command[0]} cannot be started: {error}.") from error
        lines: queue.Queue[tuple[bool, str]] = queue.Queue()
        assert process.stderr is not None
        threading.Thread(target=_read, args=(process.stderr, lines), daemon=True).start()
        told: list[str] = []
        more = True
        while more:
            if cancelled():
                _stop(process)
                return Ended(None)
            try:
                more, line = lines.get(timeout=0.1)
            except queue.Empty:
                continue
            if found := PROGRESS.fullmatch(line):
                on_progress(int(found[1]), int(found[2]), found[3])
            elif line:
                told.append(line)
        code = process.wait()
        output.seek(0)
        return Ended(code, output.read().decode("utf-8", "replace").strip(), told)


def _read(stream: IO[bytes], lines: queue.Queue[tuple[bool, str]]) -> None:
    with stream:
        for line in stream:
            lines.put((True, line.decode("utf-8", "replace").rstrip()))
    lines.put((False, ""))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the program to stop, as Ctrl+C does, and end it with all its children where it does not."""
    if sys.platform == "win32":
        process.kill()
        process.wait()
        return
    os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

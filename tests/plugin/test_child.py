"""The process in which the plug-in runs the program: started without a shell, read to its end, stopped as a whole."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compoundwatch_qgis import child

HOSTILE = "a b; touch pwned 'x' \"y\" $(touch pwned) `touch pwned` %PATH% & | > ភូមិ\n--help"


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def never() -> bool:
    return False


def ignore(done: int, total: int, task: str) -> None:
    pass


def running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def when_told(path: Path) -> Callable[[], bool]:
    """Cancels as soon as a file is there that the child has written."""
    return lambda: path.exists() and path.read_text().endswith("\n")


def test_code_text_and_lines_are_given_and_progress_is_told() -> None:
    code = """
import sys
print("ភូមិ")
print("1/3 read site A 2/2", file=sys.stderr)
print("not 1/3 progress", file=sys.stderr)
print("3/3 judging", file=sys.stderr)
print("compoundwatch: a sentence: with more.", file=sys.stderr)
sys.exit(2)
"""
    steps: list[tuple[int, int, str]] = []
    ended = child.run(python(code), lambda *step: steps.append(step), never)
    assert (ended.code, ended.text) == (child.WRONG_USE, "ភូមិ")
    assert steps == [(1, 3, "read site A 2/2"), (3, 3, "judging")]
    assert ended.told == ["not 1/3 progress", "compoundwatch: a sentence: with more."]
    assert ended.sentence == "a sentence: with more."


def test_arguments_go_through_untouched_and_no_shell_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = child.run(python("import json, sys; print(json.dumps(sys.argv[1:]))", HOSTILE, ""), ignore, never)
    assert json.loads(ended.text) == [HOSTILE, ""]
    assert list(tmp_path.iterdir()) == []


def test_much_text_on_both_streams_does_not_block() -> None:
    code = "import sys\nfor k in range(20_000): print('o' * 50); print('e' * 50, file=sys.stderr)"
    ended = child.run(python(code), ignore, never)
    assert ended.code == child.DONE
    assert len(ended.text.splitlines()) == len(ended.told) == 20_000


def test_one_who_says_nothing_is_reported_with_its_code() -> None:
    assert "exit code -9" in child.run(python("import os; os.kill(os.getpid(), 9)"), ignore, never).sentence


def test_cancelling_lets_the_program_tidy_up(tmp_path: Path) -> None:
    code = """
import sys, time
try:
    with open(sys.argv[1], "w") as file: file.write("begun\\n")
    time.sleep(60)
finally:
    with open(sys.argv[1], "w") as file: file.write("tidied\\n")
"""
    told = tmp_path / "told"
    assert child.run(python(code, str(told)), ignore, when_told(told)).code is None
    assert told.read_text() == "tidied\n"


def test_cancelling_ends_one_who_does_not_listen_and_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open(sys.argv[1], "w") as file: file.write(f"{os.getpid()} {other.pid}\\n")
time.sleep(60)
"""
    monkeypatch.setattr(child, "PATIENCE_S", 0.2)
    told = tmp_path / "told"
    assert child.run(python(code, str(told)), ignore, when_told(told)).code is None
    pids = [int(pid) for pid in told.read_text().split()]
    assert len(pids) == 2
    for _ in range(100):  # a killed process is gone when the system has seen to it
        if not any(running(pid) for pid in pids):
            break
        time.sleep(0.05)
    assert not any(running(pid) for pid in pids)


def test_what_belongs_to_qgis_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONHOME", "PYTHONPATH", "PROJ_DATA", "PROJ_LIB", "GDAL_DATA"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    ended = child.run(python("import json, os; print(json.dumps(dict(os.environ)))"), ignore, never)
    env = json.loads(ended.text)
    assert "/nowhere" not in env.values()
    assert env["HTTPS_PROXY"] == "http://127.0.0.1:1"
    assert env["PYTHONUTF8"] == "1"


def test_the_program_is_found_by_its_path_or_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "a b"
    here.mkdir()
    program = here / "compoundwatch"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(here))
    assert child.program("") == child.program(f" {program} ") == str(program)
    # A file of that name in the working folder is not taken: anybody may have put it there.
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", os.curdir)
    for path in ("", "compoundwatch", str(tmp_path / "absent")):
        with pytest.raises(child.CannotRun, match="was not found"):
            child.program(path)
    script = here / "compoundwatch.BAT"
    script.write_text("")
    with pytest.raises(child.CannotRun, match="in a shell"):
        child.program(str(script))


@pytest.mark.parametrize("command", [["/etc/hostname"], [sys.executable, "a\0b"]])
def test_what_cannot_be_started_is_said(command: list[str]) -> None:
    with pytest.raises(child.CannotRun, match="cannot be started"):
        child.run(command, ignore, never)

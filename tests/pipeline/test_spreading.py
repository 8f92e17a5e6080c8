"""Places on the workers of a real Dask cluster: what one process says, also when workers are killed."""

from __future__ import annotations

import datetime as dt
import os
import signal
import threading
import time
from pathlib import Path

import distributed
import pytest

from compoundwatch.errors import SettingsError
from compoundwatch.model import ExportSettings, Settings
from compoundwatch.pipeline import spreading, watch
from tests.support import demolished_place, free_port

pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
NOW = dt.datetime(2025, 4, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place") / "imagery"
    return demolished_place(folder, seed=13, revisit_days=40, controls=2)


def watched(place, **more):
    settings = Settings(export=ExportSettings(report=False))
    dates = {"start": place.start, "end": place.end, "now": NOW}
    return watch(place.areas, catalog=place.folder, settings=settings, **dates, **more)


@pytest.fixture(scope="module")
def alone(place, tmp_path_factory):
    return watched(place, out=tmp_path_factory.mktemp("alone") / "out")


def same(one, other):
    assert one.series.equals(other.series)
    assert [repr(s) for s in one.states] == [repr(s) for s in other.states]
    assert [repr(e) for e in one.effects] == [repr(e) for e in other.effects]
    assert [s.scene_id for s in one.scenes] == [s.scene_id for s in other.scenes]
    assert one.skipped == other.skipped
    for mine, yours in zip(one.changes, other.changes, strict=True):
        assert (mine.site_id, mine.feature) == (yours.site_id, yours.feature)
        assert mine.change_map.identical(yours.change_map)
    return True


def test_two_processes_say_what_one_says_and_find_nothing_new_afterwards(place, alone, tmp_path):
    told = []
    both = watched(place, out=tmp_path / "out", workers=2, progress=lambda *news: told.append(news))
    assert same(both, alone)
    assert [done for text, done, _ in told if text.startswith("read ")] == list(range(1, len(alone.area.sites) + 1))
    assert not watched(place, out=tmp_path / "out", workers=1).fresh


def test_the_place_of_a_worker_that_is_killed_is_done_again(place, alone, tmp_path):
    """A cluster of the user's own; one of its two processes is killed once both have begun."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1", silence_logs=50
    ) as cluster:
        killed = []

        def kill():
            with distributed.Client(cluster) as client:
                while not any(client.processing().values()):
                    time.sleep(0.02)
                busy = next(worker for worker, tasks in client.processing().items() if tasks)
                (pid,) = client.run(os.getpid, workers=[busy]).values()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

        killer = threading.Thread(target=kill)
        killer.start()
        result = watched(place, out=tmp_path / "out", dask=cluster.scheduler_address)
        killer.join()
        assert len(killed) == 1
    assert same(result, alone)


def test_nobody_at_the_address(place, tmp_path, monkeypatch):
    address = f"tcp://127.0.0.1:{free_port()}"
    monkeypatch.setattr(spreading, "TIMEOUT_S", 1)
    with pytest.raises(SettingsError, match=f"no Dask scheduler answers at {address}"):
        watched(place, out=tmp_path / "out", dask=address)
    assert not Path(tmp_path / "out").exists()


def test_dask_is_asked_for_in_a_sentence(place, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(SettingsError, match=r"pip install 'compoundwatch\[cluster\]'"):
        watched(place, workers=2)


def test_a_worker_of_another_version_is_refused(place):
    order = spreading._Order(
        (), (), NOW.date(), NOW.date(), NOW.date(), Settings(), 0, True, False, "", version="0.0.1"
    )
    with pytest.raises(spreading.ClusterError, match=r"this is 0\.0\.1; install the same"):
        spreading._found(order, None, "sentinel2", None, {})

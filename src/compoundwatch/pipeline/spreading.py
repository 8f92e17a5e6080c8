"""Many places at once, on the workers of a Dask cluster: of this machine, or of another.

A worker is sent a place and what is known of it, and sends back what it found; it keeps nothing and writes nothing but
chips. What comes back is taken in the order of the places by the one process that holds the workspace, so the result is
that of a run without workers. A place whose worker is lost is done again by another one.
"""

from __future__ import annotations

import datetime as dt
import logging
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from compoundwatch import __version__, stack
from compoundwatch.errors import ClusterError, SettingsError
from compoundwatch.model import Settings, Site
from compoundwatch.pipeline.measuring import Arrays, Part, Recall, look
from compoundwatch.pipeline.planning import Plan, plan
from compoundwatch.pipeline.progress import silent
from compoundwatch.store import Kept

WORKER_MEMORY = "1.5GB"
"""Most that a worker of this machine may take; one that takes more is ended, and its place is done again."""
TIMEOUT_S = 20
AHEAD = 3
"""Places given out for each worker: one to work on, the others on their way."""


@dataclass(frozen=True)
class Question:
    """A place to look at with one sensor, and what is known of it."""

    site: Site
    sensor: str
    kept: Kept = field(default_factory=Kept)
    recall: Recall = lambda prefixes: {}


@dataclass(frozen=True)
class _Order:
    """All that a worker needs to plan as this process does."""

    catalog: tuple[str, ...]
    sensors: tuple[str, ...]
    start: dt.date
    end: dt.date
    reference_end: dt.date
    settings: Settings
    seed: int
    whole: bool
    renew: bool
    chips: str
    version: str = __version__


Looks = Callable[[Iterable[Question], Plan], Iterator[Part]]
"""Looks at places, one after the other or many at once, and gives what was found in the same order."""


def one_by_one(questions: Iterable[Question], job: Plan) -> Iterator[Part]:
    """Look at places in this process."""
    by_name = {s.name: s for s in job.sensors}
    for question in questions:
        yield look(question.site, by_name[question.sensor], job, question.kept, question.recall)


@contextmanager
def crew(catalog: tuple[str, ...], workers: int = 0, address: str | None = None) -> Iterator[Looks]:
    """How places are looked at: by this process, by workers on this machine, or by those of a Dask scheduler.

    Parameters
    ----------
    catalog : where imagery is found, as the user named it.
    workers : how many processes on this machine; 0 = this one alone.
    address : of a Dask scheduler, such as ``tcp://10.0.0.1:8786``.

    Raises
    ------
    SettingsError : Dask is not installed, or nobody answers at the address.
    """
    if not workers and address is None:
        yield one_by_one
        return
    try:
        distributed: Any = import_module("distributed")
    except ImportError as error:
        raise SettingsError("workers need Dask; install it: pip install 'compoundwatch[cluster]'") from error
    if address is None:
        alone = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=WORKER_MEMORY,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            env=alone,
            silence_logs=logging.ERROR,
        )
        with cluster, distributed.Client(cluster) as client:
            yield lambda questions, job: _spread(client, questions, job, catalog, near=True)
        return
    try:
        client = distributed.Client(address, timeout=TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"no Dask scheduler answers at {address} ({type(error).__name__}); start one with 'dask scheduler', or "
            "use --workers"
        ) from error
    with client:
        yield lambda questions, job: _spread(client, questions, job, catalog, near=False)


def _spread(
    client: Any, questions: Iterable[Question], job: Plan, catalog: tuple[str, ...], near: bool
) -> Iterator[Part]:
    """Give places out, a few for each worker at a time, and take what they found in the order of the places."""
    lost = import_module("distributed.scheduler").KilledWorker
    order = _Order(
        catalog=tuple(str(Path(c).resolve()) if Path(c).exists() else c for c in catalog),
        sensors=tuple(s.name for s in job.sensors),
        start=job.start,
        end=job.end,
        reference_end=job.reference_end,
        settings=job.settings,
        seed=job.seed,
        whole=job.whole,
        renew=job.renew,
        chips=str(job.chips.folder.resolve()) if near and job.chips else "",
    )
    waiting: deque[tuple[Question, Any]] = deque()
    todo = iter(questions)
    try:
        while True:
            room = AHEAD * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
            for question in todo:
                work = _found, order, question.site, question.sensor, question.kept, dict(question.recall(()))
                with warnings.catch_warnings():
                    # What is known of a place travels with it, however much that is, so that it can be done again.
                    warnings.filterwarnings("ignore", "Sending large graph")
                    waiting.append((question, client.submit(*work, pure=False)))
                if len(waiting) >= room:
                    break
            if not waiting:
                return
            question, future = waiting.popleft()
            try:
                part = future.result()
            except lost as error:
                raise ClusterError(
                    f"the workers at {question.site.site_id} were lost again and again, most likely for want of memory "
                    f"({WORKER_MEMORY} each); lower load.tile_pixels or use fewer workers"
                ) from error
            future.release()
            yield part
    finally:
        client.cancel([future for _, future in waiting])


def _found(order: _Order, site: Site, sensor: str, kept: Kept, arrays: Arrays) -> Part:
    """What a worker finds at a place."""
    if order.version != __version__:
        raise ClusterError(f"a worker runs compoundwatch {__version__}, this is {order.version}; install the same")
    job = _planned(order)

    def recall(prefixes: Any) -> Arrays:
        return {name: a for name, a in arrays.items() if not prefixes or name.startswith(tuple(prefixes))}

    return look(site, next(s for s in job.sensors if s.name == sensor), job, kept, recall)


@lru_cache(maxsize=2)
def _planned(order: _Order) -> Plan:
    """The plan of an order, made once by each worker."""
    now = dt.datetime.combine(order.end, dt.time(), dt.UTC)
    made = plan(
        order.catalog,
        order.sensors,
        order.start,
        order.end,
        order.reference_end,
        order.settings,
        now,
        order.seed,
        silent,
    )
    chips = stack.Chips(Path(order.chips), order.settings.load.cache_mb, alone=False) if order.chips else None
    return replace(made, reference_end=order.reference_end, whole=order.whole, renew=order.renew, chips=chips)

"""Several catalogues in an order: the next one is asked where one fails or has gaps, and every scene counts once."""

from __future__ import annotations

import datetime as dt
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compoundwatch.catalogs.items import newest
from compoundwatch.errors import CatalogError
from compoundwatch.model import Scene, SearchSettings, Sensor, Skipped

if TYPE_CHECKING:
    from compoundwatch.catalogs import Catalog

log = logging.getLogger(__name__)

GAP_REVISITS = 6
"""A stretch without a usable scene is a gap when the satellite passes more often than that in it."""
TRIES = 2
"""A catalogue that failed so many searches in a row is not asked again in this run."""


class InOrder:
    """Catalogues at several places, opened when they are first needed; itself a ``catalogs.Catalog``."""

    def __init__(
        self,
        places: Sequence[str | Path],
        settings: SearchSettings,
        opener: Callable[[str | Path, SearchSettings], Catalog],
    ) -> None:
        self._places, self._settings, self._opener = list(dict.fromkeys(places)), settings, opener
        self._opened: dict[str | Path, Catalog] = {}
        self._serve: dict[tuple[str | Path, str], bool] = {}
        self._broken: dict[tuple[str | Path, str], CatalogError] = {}
        self._failures: dict[str | Path, int] = {}

    @property
    def name(self) -> str:
        """Names of the catalogues that were needed so far."""
        return ", ".join(dict.fromkeys(c.name for c in self._opened.values()))

    def serves(self, sensor: Sensor) -> bool:
        """Whether one of the catalogues has a collection of the sensor.

        Raises
        ------
        CatalogError : none has, and at least one could not be asked.
        """
        failed: list[tuple[str, CatalogError]] = []
        if any(True for _ in self._having(sensor, failed)):
            return True
        if failed:
            raise failed[0][1]
        return False

    def search(
        self,
        bounds: tuple[float, float, float, float],
        start: dt.date,
        end: dt.date,
        sensor: Sensor,
        settings: SearchSettings,
    ) -> tuple[list[Scene], list[Skipped]]:
        """Scenes of the first catalogue that has the sensor, and of the next ones for what it does not have.

        What a catalogue failed at is among the skipped. Raises CatalogError when none answers.
        """
        kept: list[Scene] = []
        skipped: list[Skipped] = []
        failed: list[tuple[str, CatalogError]] = []
        asked: list[str] = []
        gap: tuple[dt.date, dt.date] | None = (start, end)
        for place, catalog in self._having(sensor, failed):
            assert gap is not None
            try:
                scenes, left = catalog.search(bounds, *gap, sensor, settings)
            except CatalogError as error:
                log.warning("%s", error)
                failed.append((catalog.name, error))
                self._failures[place] = self._failures.get(place, 0) + 1
                if self._failures[place] >= TRIES:
                    self._broken[place, sensor.name] = error
                continue
            self._failures[place] = 0
            if asked:
                skipped.append(_filled(asked[-1], catalog.name, gap, len(scenes)))
            asked.append(catalog.name)
            kept, older = newest([*kept, *scenes], sensor, asked)
            skipped += left + older
            gap = gaps(kept, start, end, sensor)
            if gap is None:
                break
        if not asked and failed:
            raise failed[0][1]
        return kept, skipped + [_failure(name, error) for name, error in failed]

    def _having(self, sensor: Sensor, failed: list[tuple[str, CatalogError]]) -> Iterator[tuple[str | Path, Catalog]]:
        """The catalogues that have the sensor; those that cannot tell are added to ``failed``."""
        for place in self._places:
            key = place, sensor.name
            if key in self._broken:
                failed.append((str(place), self._broken[key]))
                continue
            try:
                if place not in self._opened:
                    self._opened[place] = self._opener(place, self._settings)
                if key not in self._serve:
                    self._serve[key] = self._opened[place].serves(sensor)
            except CatalogError as error:
                log.warning("%s", error)
                self._broken[key] = error
                failed.append((str(place), error))
                continue
            if self._serve[key]:
                yield place, self._opened[place]


def gaps(scenes: Sequence[Scene], start: dt.date, end: dt.date, sensor: Sensor) -> tuple[dt.date, dt.date] | None:
    """First and last day of the stretch that holds all gaps between scenes; None where there is no gap.

    Before the first scene and after the last one there may be gaps as well.
    """
    days = sorted({start, end, *(scene.acquired.date() for scene in scenes)})
    if not scenes:
        return start, end
    most = dt.timedelta(days=GAP_REVISITS * sensor.revisit_days)
    wide = [(a, b) for a, b in itertools.pairwise(days) if b - a > most]
    return (wide[0][0], wide[-1][1]) if wide else None


def _filled(first: str, second: str, gap: tuple[dt.date, dt.date], count: int) -> Skipped:
    reason = (
        f"between {gap[0]} and {gap[1]} it has long stretches without a usable scene; catalogue {second} was asked for "
        f"these days as well and has {count}"
    )
    return Skipped(f"catalogue {first}", "search", reason, routine=True)


def _failure(name: str, error: CatalogError) -> Skipped:
    return Skipped(f"catalogue {name}", "search", str(error))

"""Any STAC API, through pystac-client."""

from __future__ import annotations

import datetime as dt
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import pystac_client
import requests
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from urllib3 import Retry

from compoundwatch.catalogs.items import remote_rule, select
from compoundwatch.errors import CatalogError
from compoundwatch.model import Scene, SearchSettings, Sensor, Skipped

PAGE = 100
RETRY = Retry(
    total=5,
    connect=2,
    backoff_factor=0.5,
    backoff_jitter=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,
    respect_retry_after_header=True,
)

CLOSED = {"earth-search.aws.element84.com": ("landsat-c2-l2", "sentinel-1-grd", "sentinel-2-l1c")}
"""Collections, by host, whose files are only for readers who pay (s3:// addresses, says the README of Earth Search); to
us the catalogue does not have them."""


class StacApi:
    """A STAC API at a URL."""

    def __init__(self, url: str, settings: SearchSettings) -> None:
        host = urlsplit(url).hostname
        self.name = host or url
        self._rule = remote_rule(host)
        self._present: dict[str, bool] = {}
        io = StacApiIO(
            max_retries=RETRY,
            timeout=settings.timeout_s,
            headers={"User-Agent": f"compoundwatch/{version('compoundwatch')}"},
        )
        try:
            self._client = pystac_client.Client.open(url, stac_io=io)
        except (APIError, requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise CatalogError(f"catalogue {self.name} does not answer as a STAC API: {_brief(error)}") from error

    def _has(self, collection: str) -> bool:
        if collection in CLOSED.get(self.name, ()):
            return False
        if collection not in self._present:
            self._present[collection] = self._client.get_collection(collection) is not None
        return self._present[collection]

    def serves(self, sensor: Sensor) -> bool:
        """Whether the catalogue has a collection of the sensor; see ``catalogs.Catalog``."""
        try:
            return any(self._has(c) for c in sensor.collections)
        except (APIError, requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise CatalogError(f"catalogue {self.name} does not list its collections: {_brief(error)}") from error

    def search(
        self,
        bounds: tuple[float, float, float, float],
        start: dt.date,
        end: dt.date,
        sensor: Sensor,
        settings: SearchSettings,
    ) -> tuple[list[Scene], list[Skipped]]:
        """Scenes over a place and time; see ``catalogs.Catalog``."""
        try:
            collections = [c for c in sensor.collections if self._has(c)]
            if not collections:
                raise CatalogError(
                    f"catalogue {self.name} has none of the collections {', '.join(sensor.collections)} "
                    f"of sensor {sensor.name}"
                )
            found = self._client.search(
                collections=collections, bbox=list(bounds), datetime=f"{start}T00:00:00Z/{end}T23:59:59Z", limit=PAGE
            )
            items: list[dict[str, Any]] = list(found.items_as_dicts())
        except (APIError, requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise CatalogError(f"catalogue {self.name} did not answer the search: {_brief(error)}") from error
        return select(items, bounds, start, end, sensor, settings, self.name, self._rule)


def _brief(error: Exception) -> str:
    """First line of an error without query strings, which may hold tokens."""
    text = (str(error).splitlines() or [""])[0]
    words = [w.split("?", 1)[0] + "?..." if "://" in w and "?" in w else w for w in text.split()]
    return f"{type(error).__name__} {' '.join(words)[:200]}"

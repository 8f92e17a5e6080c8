"""Any STAC API, through pystac-client, over connections that go nowhere but where they may."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import pystac
import pystac_client
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import PystacClientWarning

from compoundwatch.catalogs.items import UNREADABLE, choose, remote_rule, to_scenes
from compoundwatch.errors import CatalogError, NetworkError
from compoundwatch.model import Access, Scene, SearchSettings, Sensor, Skipped, shown
from compoundwatch.network import Client, json_object

PAGE = 100
MAX_PAGE_BYTES = 50_000_000
MAX_EMPTY_PAGES = 10
"""Some servers filter after they cut their pages, and give empty ones on the way."""
SHARE_GIVEN = 0.9
"""A search is told to be incomplete where fewer of the announced items come; numbers that are announced are rough."""
FAULTS = (
    *UNREADABLE,
    APIError,
    ClientTypeError,
    NetworkError,
    PystacClientWarning,
    pystac.STACError,
    pystac.STACTypeError,
)
"""What a server that does not keep to the standard, or does not answer, makes the libraries raise."""

CLOSED = {"earth-search.aws.element84.com": ("landsat-c2-l2", "sentinel-1-grd", "sentinel-2-l1c")}
"""Collections, by host, whose files are only for readers who pay (s3:// addresses, says the README of Earth Search); to
us the catalogue does not have them."""

SIGNED = {
    "planetarycomputer.microsoft.com": Access(
        token_endpoint="https://planetarycomputer.microsoft.com/api/sas/v1/token",  # noqa: S106 - an address
        signed_hosts=".blob.core.windows.net",
    )
}
"""How files are reached, by the host of the catalogue, where anybody may read them but only with a token (Planetary
Computer, Reading data from the STAC API: planetarycomputer.microsoft.com/docs/concepts/sas)."""


class StacApi:
    """A STAC API at a URL."""

    def __init__(self, url: str, settings: SearchSettings) -> None:
        host = urlsplit(url).hostname
        self.name = host or url
        self._rule = remote_rule(host, SIGNED.get(self.name))
        self._present: dict[str, bool] = {}
        self._settings = settings
        self._http = Client(
            self._rule.access.own_hosts, timeout_s=settings.timeout_s, budget_s=min(settings.budget_s, 120)
        )
        self._reader = _Reader(self._http, self.name)
        try:
            with _quietly():
                self._client = pystac_client.Client.open(url, stac_io=self._reader)
        except CatalogError:
            raise
        except FAULTS as error:
            raise CatalogError(f"catalogue {self.name} does not answer as a STAC API: {_brief(error)}") from error

    def _has(self, collection: str) -> bool:
        if collection in CLOSED.get(self.name, ()):
            return False
        if collection not in self._present:
            self._present[collection] = self._client.get_collection(collection) is not None
        return self._present[collection]

    def serves(self, sensor: Sensor) -> bool:
        """Whether the catalogue has a collection of the sensor; see ``catalogs.Catalog``.

        Raises
        ------
        CatalogError : it does not answer as a STAC API does.
        """
        try:
            with _quietly(), self._http.within(self._settings.budget_s):
                return any(self._has(c) for c in sensor.collections)
        except CatalogError:
            raise
        except FAULTS as error:
            raise CatalogError(f"catalogue {self.name} does not list its collections: {_brief(error)}") from error

    def search(
        self,
        bounds: tuple[float, float, float, float],
        start: dt.date,
        end: dt.date,
        sensor: Sensor,
        settings: SearchSettings,
    ) -> tuple[list[Scene], list[Skipped]]:
        """Scenes over a place and time; see ``catalogs.Catalog``.

        Raises
        ------
        CatalogError : it does not answer, has no collection of the sensor, or gives more scenes than are allowed.
        """
        try:
            with _quietly(), self._http.within(settings.budget_s):
                collections = [c for c in sensor.collections if self._has(c)]
                if not collections:
                    raise CatalogError(
                        f"catalogue {self.name} has none of the collections {', '.join(sensor.collections)} "
                        f"of sensor {sensor.name}"
                    )
                days = f"{start}T00:00:00Z/{end}T23:59:59Z"
                found = self._client.search(collections=collections, bbox=list(bounds), datetime=days, limit=PAGE)
                answers = self._reader.get_pages(found.url, found.method, found.get_parameters())
                pages = _Pages(answers, self.name, settings.max_scenes)
                scenes, skipped = to_scenes(pages.items(), sensor, self.name, self._rule)
        except CatalogError:
            raise
        except FAULTS as error:
            raise CatalogError(f"catalogue {self.name} did not answer the search: {_brief(error)}") from error
        kept, left = choose(scenes, bounds, start, end, sensor, settings, self.name)
        return kept, skipped + left + pages.missing()


class _Pages:
    """The items of all pages, each once; how many were announced and how many came."""

    def __init__(self, pages: Iterator[Mapping[str, Any]], name: str, max_scenes: int) -> None:
        self._pages, self._name, self._max_scenes = pages, name, max_scenes
        self._announced, self._came = 0, 0

    def items(self) -> Iterator[Mapping[str, Any]]:
        """One item after the other.

        Raises
        ------
        CatalogError : the pages repeat themselves, or hold far more items than may be used.
        """
        seen: set[str] = set()
        most = 4 * self._max_scenes + PAGE
        for page in self._pages:
            items = {_key(f): f for f in page["features"] if isinstance(f, dict)}
            if items and items.keys() <= seen:
                raise CatalogError(
                    f"catalogue {self._name} gives the same items again and again; it cannot be searched"
                )
            new = [item for key, item in items.items() if key not in seen]
            seen |= items.keys()
            self._came = len(seen)
            matched = page.get("numberMatched")
            self._announced = max(self._announced, matched) if isinstance(matched, int) else self._announced
            if self._came > most:
                raise CatalogError(
                    f"catalogue {self._name} gives more than {most} items where search.max_scenes is "
                    f"{self._max_scenes}; ask for fewer years or raise the limit in the settings"
                )
            yield from new

    def missing(self) -> list[Skipped]:
        """A word where fewer items came than were announced."""
        if self._came >= SHARE_GIVEN * self._announced:
            return []
        reason = f"it announced {self._announced} items and gave {self._came}; scenes may be missing"
        return [Skipped(f"catalogue {self._name}", "search", reason)]


def _key(item: Mapping[str, Any]) -> str:
    """What makes an item one: its collection and id."""
    return json.dumps([item.get("collection"), item.get("id")], sort_keys=True)


class _Reader(StacApiIO):
    """Reads what pystac-client asks for, from the catalogue's own host only."""

    def __init__(self, http: Client, host: str) -> None:
        super().__init__(max_retries=None)
        self._http, self._host = http, host

    def read_text(self, source: Any, *args: Any, **options: Any) -> str:
        """Never used: answers are read as JSON in one go."""
        return json.dumps(self.read_json(source, *args, **options))

    def read_json(
        self,
        source: Any,
        method: str | None = None,
        headers: Any = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The JSON object at an address.

        Raises
        ------
        CatalogError : the address is of another host.
        NetworkError : it may not be reached, does not answer, or not with an object of JSON.
        APIError : it answers with an error.
        """
        url = str(source)
        if urlsplit(url).scheme not in ("https", "http") or urlsplit(url).hostname != self._host:
            raise CatalogError(f"catalogue {self._host} links to {shown(url)}, which is not on its own host")
        posting = (method or "GET").upper() == "POST"
        values = dict(parameters or {})
        answer = self._http.ask(
            url,
            method="POST" if posting else "GET",
            params=None if posting else values,
            content=values if posting else None,
            headers={"Accept": "application/geo+json, application/json"},
            max_bytes=MAX_PAGE_BYTES,
            whole=json_object,
        )
        if not 200 <= answer.status < 300:
            error = APIError(f"status {answer.status}")
            error.status_code = answer.status
            raise error
        return json_object(answer.body)

    def get_pages(
        self, url: str, method: str | None = None, parameters: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """One page after the other, until there is none.

        Raises
        ------
        CatalogError : the pages lead in circles, or one is no page.
        """
        first = dict(parameters or {})
        asked, empty = set(), 0
        question: dict[str, Any] = {"source": url, "method": (method or "GET").upper(), "parameters": first}
        while True:
            key = json.dumps(question, sort_keys=True)
            if key in asked or empty > MAX_EMPTY_PAGES:
                raise CatalogError(f"the pages of catalogue {self._host} lead in circles; it cannot be searched")
            asked.add(key)
            page = self.read_json(**question)
            if not isinstance(page.get("features"), list):
                raise CatalogError(f"catalogue {self._host} answers with a page that has no list of features")
            empty = 0 if page["features"] else empty + 1
            yield page
            link = next((k for k in page.get("links") or () if k.get("rel") == "next"), None)
            if link is None:
                return
            posting = str(link.get("method") or "GET").upper() == "POST"
            body = link.get("body") or {}
            merged = {**first, **body} if link.get("merge") else dict(body)
            question = {
                "source": urljoin(url, str(link["href"])),
                "method": "POST" if posting else "GET",
                "parameters": merged if posting else {},
            }


@contextmanager
def _quietly() -> Iterator[None]:
    """The library warns of what a server does not claim to support; what is needed of it is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PystacClientWarning)
        yield


def _brief(error: Exception) -> str:
    """First line of an error without query strings, which may hold tokens."""
    if isinstance(error, NetworkError):
        return str(error)
    text = (str(error).splitlines() or [""])[0]
    words = [w.split("?", 1)[0] + "?..." if "://" in w and "?" in w else w for w in text.split()]
    return f"{type(error).__name__} {shown(' '.join(words), 120)}"

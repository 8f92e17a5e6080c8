"""Access tokens for files that anybody may read, but only with one: asked for when a file is read, and never kept.

Catalogues give such files as bare addresses, and so they travel; the token is added to the address of a single request.
A token belongs to one container of one storage account, so that a host which an item makes up can never be sent one
that was given for another. Tokens last for about 45 minutes; clocks of this machine may be wrong, so how long a token
is good for is counted from the time that the server states along with it.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from compoundwatch.errors import NetworkError, StackError
from compoundwatch.model import Access
from compoundwatch.network import Answer, Client, json_object

EARLY_S = 120.0
"""A token is renewed so many seconds before it expires, or at half its time where that is later."""
YOUNG_S = 1.0
"""A token that is refused although it is so new is not renewed: the next one would be refused as well."""
FAILED_S = 60.0
"""How long it is believed that no token can be had after one could not."""
TIMEOUT_S, BUDGET_S = 30.0, 120.0

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]")
_TOKEN = re.compile(r"[A-Za-z0-9%&=_.:~+/-]{1,2000}")

Key = tuple[str, str, str]
"""Endpoint, account and container that a token is for."""


@dataclass
class _Slot:
    """The token of one container: its query, and from when to when (monotonic seconds) it is used."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    query: str = ""
    since: float = 0.0
    until: float = 0.0
    failure: str = ""


class Tokens:
    """Tokens by container, shared by all threads. ``young_s`` is YOUNG_S, ``clock`` counts seconds."""

    def __init__(self, young_s: float = YOUNG_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slots: dict[Key, _Slot] = {}
        self._lock = threading.Lock()
        self._young_s = young_s

    def sign(self, href: str, access: Access) -> str:
        """The address to read a file at: with a token where it needs one, else as it is.

        Raises
        ------
        StackError : no token can be had.
        """
        key = container(href, access)
        if key is None:
            return href
        slot = self._slot(key)
        with slot.lock:
            now = self._clock()
            if now >= slot.until:
                self._renew(slot, key, access, now)
            if slot.failure:
                raise StackError(slot.failure)
            return f"{href}{'&' if urlsplit(href).query else '?'}{slot.query}"

    def refused(self, signed: str, href: str, access: Access) -> bool:
        """Tell that the storage refused an address; True where signing anew may help."""
        key = container(href, access)
        if key is None:
            return False
        slot = self._slot(key)
        with slot.lock:
            if not slot.query or not signed.endswith(slot.query):
                return True  # another thread has renewed it
            if self._clock() - slot.since < self._young_s:
                return False
            slot.until = 0.0
            return True

    def _slot(self, key: Key) -> _Slot:
        with self._lock:
            return self._slots.setdefault(key, _Slot())

    def _renew(self, slot: _Slot, key: Key, access: Access, now: float) -> None:
        slot.query, slot.failure = "", ""
        endpoint, account, name = key
        try:
            answer = _client(access.own_hosts).ask(
                f"{endpoint.rstrip('/')}/{account}/{name}", max_bytes=100_000, whole=json_object
            )
        except NetworkError as error:
            told = str(error)
        else:
            told = f"status {answer.status}" if answer.status != 200 else ""
            found = {} if told else _read(answer)
            slot.query = found.get("query", "")
            seconds = found.get("seconds", 0.0)
            if not told and not slot.query:
                told = "what it answers is no token"
        slot.since = self._clock()
        if slot.query:
            slot.until = now + max(seconds - min(EARLY_S, seconds / 2), self._young_s)
        else:
            slot.until = slot.since + FAILED_S
            slot.failure = f"no token to read {account}/{name} was given by {urlsplit(endpoint).hostname} ({told})"


def container(href: str, access: Access) -> Key | None:
    """Which token a file needs; None where it needs none, or lies where none may be sent."""
    if not access.token_endpoint or not access.signed_hosts.startswith("."):
        return None
    parts = urlsplit(href)
    host, name = parts.hostname or "", parts.path.lstrip("/").partition("/")[0]
    account = host.removesuffix(access.signed_hosts)
    if account == host or parts.scheme != urlsplit(access.token_endpoint).scheme:
        return None
    if not _ACCOUNT.fullmatch(account) or not _CONTAINER.fullmatch(name):
        return None
    return access.token_endpoint, account, name


def _read(answer: Answer) -> dict[str, Any]:
    """The query of a token and the seconds it is good for; nothing where the answer holds no usable one."""
    try:
        stated = json_object(answer.body)
        query, expiry = stated["token"].lstrip("?"), dt.datetime.fromisoformat(stated["msft:expiry"])
        if not _TOKEN.fullmatch(query):
            return {}
        stamp = answer.headers.get("Date")
        now = parsedate_to_datetime(stamp) if stamp else dt.datetime.now(dt.UTC)
        return {"query": query, "seconds": max(0.0, (_utc(expiry) - _utc(now)).total_seconds())}
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        return {}


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


@lru_cache(maxsize=8)
def _client(own_hosts: frozenset[str]) -> Client:
    return Client(own_hosts, timeout_s=TIMEOUT_S, budget_s=BUDGET_S)


TOKENS = Tokens()
"""The tokens of this process."""

"""Which network addresses may be reached, and a client that reaches no others, waits politely and gives up in time.

Addresses come from items of catalogues, from links and from redirects, all of which strangers write. The name of a host
says little: it may resolve to this machine or to its network. So names are looked up here, once, and connections go to
the very address that was checked. Behind a proxy (HTTPS_PROXY and the like) the proxy looks names up; then only
what a name itself says is checked, and the proxy has to refuse the rest.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_ACCEPT_ENCODING
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import parse_url
from urllib3.util.retry import Retry

from compoundwatch.errors import NetworkError

BUSY = (408, 429, 500, 502, 503, 504)
"""Answers after which the same question is asked again."""
MAX_REDIRECTS = 5
MAX_URL = 4_000
CONNECT_S = 20.0
"""Seconds to wait for a connection, however long an answer may take."""
PIECE_BYTES = 1 << 18
MAX_POOLS = 256

_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\]", re.IGNORECASE)
_INSIDE_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "onion", "home.arpa")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SPECIAL = tuple(
    map(
        ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20")
    )
)
"""Special-purpose addresses (registries of IANA, RFC 6890) that older versions of Python take for public."""
_PUBLIC_V6 = ipaddress.ip_network("2000::/3")


def check_url(url: str, own_hosts: Iterable[str] = ()) -> None:
    """Refuse an address that is not http(s), hides what it points to, or names a host of this machine or its network.

    Parameters
    ----------
    own_hosts : hosts that the user named; they may be anywhere.

    Raises
    ------
    NetworkError : says what is wrong, without repeating a password or a query.
    """
    if len(url) > MAX_URL:
        raise NetworkError(f"the address has {len(url)} characters, more than {MAX_URL}")
    if not url.isprintable() or "\\" in url:
        raise NetworkError("the address holds backslashes or characters that cannot be printed")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise NetworkError("the address is malformed") from None
    if parts.scheme not in ("https", "http") or not host:
        raise NetworkError(f"the address starts with {(parts.scheme or url)[:20]!r}; only https is read")
    if parts.username is not None or parts.password is not None:
        raise NetworkError("the address carries a user name or password")
    if host in own_hosts:
        return
    if not _HOST.fullmatch(f"[{host}]" if ":" in host else host):
        raise NetworkError("the host of the address is malformed or not written in ASCII")
    if is_inside(host):
        raise NetworkError(f"the address points to the private host '{host[:60]}'")


@lru_cache(maxsize=1024)
def is_inside(host: str) -> bool:
    """Whether a host is, by its name alone, one of this machine or its network."""
    host = host.lower().strip("[]").rstrip(".")
    if literal := _literal(host):
        return not is_public(literal)
    return "." not in host or any(host == name or host.endswith(f".{name}") for name in _INSIDE_NAMES)


def _literal(host: str) -> str:
    """The address that a host writes out, also in the ways only C libraries read ("127.1", "0x7f.1"); else empty."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return ""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public network; addresses that wrap another one are unwrapped."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip not in _PUBLIC_V6:
            return False
    special = any(ip in block for block in _SPECIAL if block.version == ip.version)
    return ip.is_global and not (special or ip.is_multicast or ip.is_reserved)


def reachable(host: str, port: int, own_hosts: Iterable[str] = ()) -> list[str]:
    """The IP addresses of a host that may be connected to.

    Raises
    ------
    NetworkError : all of them are private.
    OSError : the name cannot be looked up.
    """
    found = dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    allowed = [address for address in found if host in own_hosts or is_public(address)]
    if not allowed:
        raise NetworkError(f"host {host} lies on this machine or its network, and is not connected to")
    return allowed


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that an answer is.

    Raises
    ------
    ValueError : it is none.
    """
    try:
        found = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, found {type(found).__name__}")
    return found


def user_agent() -> str:
    """How this program introduces itself to servers."""
    return f"compoundwatch/{version('compoundwatch')}"


@dataclass(frozen=True)
class Answer:
    """What a server answered: status, headers and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class _Question:
    """What a server is asked; ``content`` is sent along as JSON."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: Any = None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


class Client:
    """Asks servers over HTTP.

    Every connection goes to an address that was checked. Answers that come late, broken off, or with a status of BUSY
    are asked for again, after pauses that grow and vary, or as long as the server asks for; the whole takes no longer
    than ``budget_s`` seconds. No cookies, no passwords of the user's netrc file.

    Parameters
    ----------
    own_hosts : hosts that the user named; their addresses may be private.
    timeout_s : seconds to wait for the next piece of an answer.
    budget_s : seconds for one request with all its repetitions; ``within`` sets one for several.
    retries : how often a request is repeated.
    connections : how many threads use the client at the same time.
    """

    def __init__(
        self,
        own_hosts: Iterable[str] = (),
        *,
        timeout_s: float = 60.0,
        budget_s: float = 300.0,
        retries: int = 5,
        connections: int = 1,
        pause_s: float = 0.5,
    ) -> None:
        self.own_hosts = frozenset(own_hosts)
        self._timeout_s, self._budget_s = timeout_s, budget_s
        self._deadline = threading.local()
        self._retry = Retry(
            total=retries,
            connect=min(2, retries),
            read=min(3, retries),
            backoff_factor=pause_s,
            backoff_jitter=pause_s,
            backoff_max=30,
            status_forcelist=BUSY,
            allowed_methods=None,
        )
        self._headers = {"User-Agent": user_agent(), "Accept": "*/*", "Accept-Encoding": DEFAULT_ACCEPT_ENCODING}
        self._adapter = _Adapter(self.own_hosts, connections)
        self._pools: dict[tuple[str, str], urllib3.HTTPConnectionPool] = {}
        _keep_queries_out_of_logs()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """All requests of this thread in the block share one time budget."""
        self._deadline.at = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline.at = None

    def ask(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        content: Any = None,
        max_bytes: int = 50_000_000,
        whole: Callable[[bytes], object] | None = None,
    ) -> Answer:
        """Ask for an address, and again where that may help; any status may come back.

        Parameters
        ----------
        content : is sent along as JSON.
        max_bytes : how long an answer may be.
        whole : raises ValueError for the body of a good answer that is not what was asked for, as where half of it is
            missing; it is then asked for again.

        Raises
        ------
        NetworkError : the address may not be reached, the server does not answer in time, or answers too much.
        """
        check_url(url, self.own_hosts)
        deadline = getattr(self._deadline, "at", None) or time.monotonic() + self._budget_s
        question = _Question(method, _with_params(url, params), self._headers | dict(headers or {}), content)
        host = question.host
        retry = self._retry
        while True:
            raw: urllib3.BaseHTTPResponse | None = None
            error: HTTPError | None = None
            try:
                raw = self._send(question, deadline)
                answer = Answer(raw.status, raw.headers, _body(raw, host, deadline, max_bytes))
                if answer.status not in BUSY:
                    if whole and answer.status < 300:
                        whole(answer.body)
                    return answer
                told = f"status {answer.status}"
            except ValueError as broken_off:
                told, error = f"its answer is broken: {broken_off}"[:120], ProtocolError("broken")
            except _Broken as broken:
                told, error = broken.told, broken.error
            try:
                retry = retry.increment(method, host, response=raw, error=error)
            except (MaxRetryError, HTTPError):
                if error is None:
                    return answer
                raise NetworkError(f"host {host} does not answer ({told})") from None
            self._pause(retry, raw, deadline, f"host {host} does not answer in time ({told})")

    def _send(self, question: _Question, deadline: float) -> urllib3.BaseHTTPResponse:
        """The answer to a question, its body not read yet; redirects are followed where they may be."""
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send_once(question, deadline)
            target = response.get_redirect_location()
            if not target:
                return response
            response.close()
            question = self._redirected(question, response.status, target)
        raise NetworkError(f"host {question.host} redirects in circles")

    def _send_once(self, question: _Question, deadline: float) -> urllib3.BaseHTTPResponse:
        """Ask once, straight from the pool of connections: what the library does around it costs twice as much."""
        host, left = question.host, deadline - time.monotonic()
        if left <= 0:
            raise NetworkError(f"host {host} does not answer in time")
        headers, body = question.headers, None
        try:
            if question.content is not None:
                headers = {**headers, "Content-Type": "application/json"}
                body = json.dumps(question.content, allow_nan=False).encode()
            pool, target = self._pool(question.url)
            return pool.urlopen(
                question.method,
                target,
                body=body,
                headers=headers,
                retries=_ONCE,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(min(CONNECT_S, self._timeout_s, left), min(self._timeout_s, left)),
                preload_content=False,
                decode_content=False,
            )
        except SSLError:
            raise NetworkError(f"host {host} cannot prove who it is (its certificate is not accepted)") from None
        except (ConnectTimeoutError, NewConnectionError) as error:
            told = type(error).__name__
            raise _Broken(told, ConnectTimeoutError(told)) from None
        except (ProtocolError, ProxyError, ReadTimeoutError) as error:
            told = type(error).__name__
            raise _Broken(told, ProtocolError(told)) from None
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise NetworkError(f"host {host} cannot be asked ({type(error).__name__})") from None

    def _redirected(self, question: _Question, status: int, target: str) -> _Question:
        """The question to ask where a redirect points to."""
        url = urljoin(question.url, target)
        check_url(url, self.own_hosts)
        if urlsplit(question.url).scheme == "https" and urlsplit(url).scheme != "https":
            raise NetworkError(f"host {question.host} redirects to an address without encryption")
        if question.method == "GET" or status in (307, 308):
            return replace(question, url=url)
        return replace(question, method="GET", url=url, content=None)

    def _pool(self, url: str) -> tuple[urllib3.HTTPConnectionPool, str]:
        """The connections to the host of an address, and what is asked of it there.

        Proxies and certificates of the user's environment are looked up once a host.
        """
        parts = parse_url(url)
        key = parts.scheme or "", parts.netloc or ""
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= MAX_POOLS:
                self._pools.clear()
            pool = self._pools[key] = self._adapter.pool(url)
        through_proxy = pool.proxy is not None and parts.scheme == "http"
        return pool, parts._replace(fragment=None).url if through_proxy else parts.request_uri

    def _pause(self, retry: Retry, raw: urllib3.BaseHTTPResponse | None, deadline: float, message: str) -> None:
        try:
            asked = retry.get_retry_after(raw) if raw is not None else None
        except (InvalidHeader, ValueError, OverflowError):
            asked = None
        seconds = retry.get_backoff_time() if asked is None else asked
        if time.monotonic() + seconds >= deadline:
            raise NetworkError(f"{message}; it asks to wait {seconds:.0f} s" if asked else message)
        time.sleep(seconds)


_ONCE = Retry(False, redirect=False)
"""The library is not to repeat anything by itself."""


class _Broken(Exception):  # noqa: N818 - it never leaves this module
    """An answer that did not come, or not whole; ``error`` says of which kind that is to the rules of retrying."""

    def __init__(self, told: str, error: HTTPError) -> None:
        self.told, self.error = told, error


def _with_params(url: str, params: Mapping[str, Any] | None) -> str:
    if not params:
        return url
    request = requests.PreparedRequest()
    request.prepare_url(url, dict(params))
    return str(request.url)


def _body(response: urllib3.BaseHTTPResponse, host: str, deadline: float, max_bytes: int) -> bytes:
    """The whole body, however slowly it drips, within the deadline and the limit."""
    pieces, size = [], 0
    try:
        while piece := response.read1(PIECE_BYTES, decode_content=True):
            size += len(piece)
            if size > max_bytes:
                raise NetworkError(f"host {host} answers with more than {max_bytes / 1e6:.0f} MB")
            if time.monotonic() > deadline:
                raise NetworkError(f"host {host} does not answer in time (its answer does not end)")
            pieces.append(piece)
    except (HTTPError, OSError) as error:
        raise _Broken(f"answer broken off, {type(error).__name__}", ProtocolError("broken off")) from None
    finally:
        response.close()  # where the body was read to its end, the connection has gone back to its pool before
    return b"".join(pieces)


class _Checked:
    """A connection that looks its host up itself and goes only where it may."""

    own_hosts: frozenset[str] = frozenset()
    _dns_host: str
    host: str
    port: int

    def _new_conn(self) -> socket.socket:
        name = self._dns_host
        try:
            addresses = reachable(name, self.port, self.own_hosts)
        except (OSError, UnicodeError) as error:
            gone = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise NameResolutionError(name, self, gone) from error  # type: ignore[arg-type]
        failure: Exception | None = None
        for address in addresses:
            self._dns_host = address
            try:
                return super()._new_conn()  # type: ignore[misc,no-any-return]
            except (NewConnectionError, ConnectTimeoutError) as error:
                failure = error
            finally:
                self._dns_host = name
        assert failure is not None
        raise failure


class _Adapter(HTTPAdapter):
    """Knows the proxies and certificates of the user's environment, and connects to checked addresses only."""

    def __init__(self, own_hosts: frozenset[str], connections: int) -> None:
        self._own_hosts = own_hosts
        super().__init__(pool_connections=MAX_POOLS, pool_maxsize=connections, max_retries=0)

    def pool(self, url: str) -> urllib3.HTTPConnectionPool:
        """The connections to the host of an address."""
        with requests.Session() as session:
            settings = session.merge_environment_settings(url, {}, None, None, None)
        request = requests.Request("GET", url).prepare()
        verify, cert = settings["verify"], settings["cert"]
        pool = self.get_connection_with_tls_context(request, verify, settings["proxies"], cert)
        self.cert_verify(pool, url, verify, cert)
        return pool

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        own = self._own_hosts

        class Plain(_Checked, HTTPConnection):
            own_hosts = own

        class Encrypted(_Checked, HTTPSConnection):
            own_hosts = own

        class PlainPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Plain

        class EncryptedPool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Encrypted

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}


_QUERY = re.compile(r"\?\S*")


def _without_query(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(_QUERY.sub("?...", a) if isinstance(a, str) else a for a in record.args)
    return True


def _keep_queries_out_of_logs() -> None:
    """Queries may hold access tokens, and the library logs whole addresses when it is told to say everything."""
    logger = logging.getLogger("urllib3.connectionpool")
    if _without_query not in logger.filters:
        logger.addFilter(_without_query)

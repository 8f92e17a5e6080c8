"""Which network addresses may be reached, and a client that reaches no others, waits politely and gives up in time.

Addresses come from items of catalogues, from links and from redirects, all of which strangers write. The name of a host
says little: it may resolve to this machine or to its network. So names are looked up here, once, and connections go to
the very address that was checked. Behind a proxy (HTTPS_PROXY and the like) the proxy looks names up; then only
what a name itself says is checked, and the proxy has to refuse the rest.
"""

from __future__ import annotations

import http.cookiejar
import ipaddress
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)
from urllib3.util.retry import Retry

from compoundwatch.errors import NetworkError

BUSY = (408, 429, 500, 502, 503, 504)
"""Answers after which the same question is asked again."""
MAX_REDIRECTS = 5
MAX_URL = 4_000
CONNECT_S = 20.0
"""Seconds to wait for a connection, however long an answer may take."""
PIECE_BYTES = 1 << 16

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
        self._session = requests.Session()
        self._session.headers["User-Agent"] = user_agent()
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._session.auth = _no_password
        adapter = _Adapter(self.own_hosts, connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._settings: dict[tuple[str, str], dict[str, Any]] = {}
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
        host = urlsplit(url).hostname or ""
        deadline = getattr(self._deadline, "at", None) or time.monotonic() + self._budget_s
        question = requests.Request(method, url, headers=dict(headers or {}), params=dict(params or {}), json=content)
        retry = self._retry
        while True:
            raw: urllib3.BaseHTTPResponse | None = None
            error: HTTPError | None = None
            try:
                with self._send(question, deadline) as response:
                    raw = response.raw
                    answer = Answer(response.status_code, response.headers, _body(response, deadline, max_bytes))
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

    def _send(self, question: requests.Request, deadline: float) -> requests.Response:
        """The answer to a question, its body not read yet; redirects are followed where they may be."""
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send_once(question, deadline)
            if not response.is_redirect:
                return response
            response.close()
            question = self._redirected(question, response)
        raise NetworkError(f"host {_host(str(question.url))} redirects in circles")

    def _send_once(self, question: requests.Request, deadline: float) -> requests.Response:
        host, left = _host(str(question.url)), deadline - time.monotonic()
        if left <= 0:
            raise NetworkError(f"host {host} does not answer in time")
        timeout = (min(CONNECT_S, self._timeout_s, left), min(self._timeout_s, left))
        try:
            prepared = self._session.prepare_request(question)
            settings = self._environment(str(prepared.url))
            return self._session.send(prepared, stream=True, timeout=timeout, allow_redirects=False, **settings)
        except requests.exceptions.SSLError:
            raise NetworkError(f"host {host} cannot prove who it is (its certificate is not accepted)") from None
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _broken(error) from None
        except (requests.RequestException, HTTPError, ValueError) as error:
            raise NetworkError(f"host {host} cannot be asked ({type(error).__name__})") from None

    def _redirected(self, question: requests.Request, response: requests.Response) -> requests.Request:
        """The question to ask where a redirect points to."""
        url = urljoin(response.url, response.headers["Location"])
        check_url(url, self.own_hosts)
        if urlsplit(response.url).scheme == "https" and urlsplit(url).scheme != "https":
            raise NetworkError(f"host {_host(response.url)} redirects to an address without encryption")
        keeps = question.method == "GET" or response.status_code in (307, 308)
        body = question.json if keeps else None
        return requests.Request(question.method if keeps else "GET", url, headers=question.headers, json=body)

    def _environment(self, url: str) -> dict[str, Any]:
        """Proxies and certificates of the user's environment, looked up once a host."""
        parts = urlsplit(url)
        key = parts.scheme, parts.netloc
        if key not in self._settings:
            found = self._session.merge_environment_settings(url, {}, None, None, None)
            self._settings[key] = {name: found[name] for name in ("proxies", "verify", "cert")}
        return self._settings[key]

    def _pause(self, retry: Retry, raw: urllib3.BaseHTTPResponse | None, deadline: float, message: str) -> None:
        try:
            asked = retry.get_retry_after(raw) if raw is not None else None
        except (InvalidHeader, ValueError, OverflowError):
            asked = None
        seconds = retry.get_backoff_time() if asked is None else asked
        if time.monotonic() + seconds >= deadline:
            raise NetworkError(f"{message}; it asks to wait {seconds:.0f} s" if asked else message)
        time.sleep(seconds)


class _Broken(Exception):  # noqa: N818 - it never leaves this module
    """An answer that did not come, or not whole; ``error`` says of which kind that is to the rules of retrying."""

    def __init__(self, told: str, error: HTTPError) -> None:
        self.told, self.error = told, error


def _broken(error: Exception) -> _Broken:
    """What went wrong in a word; the message of the library may hold an address with its query."""
    inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    reason = getattr(inner, "reason", None) or inner
    told = type(reason).__name__
    if isinstance(reason, NewConnectionError | ConnectTimeoutError):
        return _Broken(told, ConnectTimeoutError(told))
    return _Broken(told, ProtocolError(told))


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _body(response: requests.Response, deadline: float, max_bytes: int) -> bytes:
    """The whole body, however slowly it drips, within the deadline and the limit."""
    pieces, size = [], 0
    try:
        while piece := response.raw.read1(PIECE_BYTES, decode_content=True):
            size += len(piece)
            if size > max_bytes:
                raise NetworkError(f"host {_host(response.url)} answers with more than {max_bytes / 1e6:.0f} MB")
            if time.monotonic() > deadline:
                raise NetworkError(f"host {_host(response.url)} does not answer in time (its answer does not end)")
            pieces.append(piece)
    except (HTTPError, OSError) as error:
        raise _Broken(f"answer broken off, {type(error).__name__}", ProtocolError("broken off")) from None
    return b"".join(pieces)


def _no_password(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps the library from sending passwords of the user's netrc file to hosts that a stranger names."""
    return request


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
    """Connects to checked addresses only; repeating is left to the client."""

    def __init__(self, own_hosts: frozenset[str], connections: int) -> None:
        self._own_hosts = own_hosts
        super().__init__(pool_connections=16, pool_maxsize=connections, max_retries=0)

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

"""Opening the file of a band: on this machine, or on a server by asking for the ranges of bytes that are needed.

GDAL can read from servers itself, but then it follows redirects to any host, also to ones of this machine's network,
and repeats whole addresses in what it logs. So it is given bytes, which our own client fetches, and is kept from the
network and from other files: only TIFFs are opened, without side files.

A file is hostile until checked: the pieces that have to be read at once, and all that is fetched, are bounded.
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.io import FilePath

from compoundwatch.errors import NetworkError, StackError
from compoundwatch.model import Asset
from compoundwatch.network import Answer, Client
from compoundwatch.stack.signing import TOKENS, Tokens

GDAL_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no side files
    "GDAL_PAM_ENABLED": "NO",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",  # no network of its own
}
HEAD_BYTES = 32_768
"""Fetched of every file at once: in a cloud-optimised one it holds all that leads to the pixels."""
PIECE_BYTES = 16_384
"""Least that is fetched at a time."""
MAX_WHOLE_BYTES = 5_000_000
"""A server that knows no ranges sends whole files; up to this length they are taken."""
MAX_FETCHED_BYTES = 400_000_000
"""Most that is fetched of one file each time it is opened."""
MAX_BLOCK_BYTES = 500_000_000
"""Refuse files whose smallest readable piece takes more memory than this."""
CACHE_BYTES = 16_000_000
"""How much of what was fetched is kept, as neighbouring tiles and bands are read from the same pieces."""
TIMEOUT_S, BUDGET_S, CONNECTIONS = 60.0, 180.0, 64

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


def is_remote(href: str) -> bool:
    """Whether a file lies on a server."""
    return href.startswith(("https://", "http://"))


@contextmanager
def opened(asset: Asset, remote: Remote | None = None) -> Iterator[Any]:
    """The raster of a band, closed at the end; ``remote`` is its file on a server, where some of it is fetched already.

    Raises
    ------
    StackError : it cannot be fetched, or it is built so that reading a little of it takes very much memory.
    RasterioError : it is no TIFF, or a broken one.
    """
    if not is_remote(asset.href):
        with rasterio.open(asset.href, driver="GTiff") as source:
            _check(source)
            yield source
        return
    remote = remote or Remote(asset)
    try:
        remote.head()
        with _VirtualFile(remote) as file, file.open(driver="GTiff") as source:
            _check(source)
            yield source
    except (RasterioError, OSError):
        if remote.failure:
            raise remote.failure from None
        raise
    if remote.failure:
        raise remote.failure


class Bytes(Protocol):
    """A file that can be read in part."""

    def bytes_at(self, start: int, size: int) -> bytes:
        """Bytes of the file; fewer at its end.

        Raises
        ------
        StackError : they cannot be fetched.
        """
        ...


@contextmanager
def source_bytes(asset: Asset) -> Iterator[Bytes]:
    """The bytes of a band's file, wherever it is."""
    if is_remote(asset.href):
        yield Remote(asset)
    else:
        with open(asset.href, "rb", buffering=0) as file:
            yield _Local(file)


class _Local:
    """A file of this machine."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file.fileno()
        self._size = os.fstat(self._file).st_size

    def bytes_at(self, start: int, size: int) -> bytes:
        return os.pread(self._file, max(0, min(size, self._size - start)), start)


def _check(source: Any) -> None:
    if source.tags(ns="OVERVIEWS"):
        raise StackError("its metadata names another file, which GDAL would open")
    rows, cols = source.block_shapes[0]
    together = source.count if str(source.interleaving or "").lower().endswith("pixel") else 1
    kind = np.dtype(source.dtypes[0])
    if kind.kind not in "uif":
        raise StackError(f"it holds numbers of the kind {kind}, expected whole or floating-point ones")
    size = rows * cols * together * kind.itemsize
    if size > MAX_BLOCK_BYTES:
        raise StackError(
            f"its smallest readable piece takes {size / 1e6:.0f} MB, more than {MAX_BLOCK_BYTES / 1e6:.0f}"
        )


class _VirtualFile(FilePath):  # type: ignore[misc]
    """What GDAL opens. The library calls the class outdated, yet what replaces it is not safe among threads."""

    def __init__(self, remote: Remote) -> None:
        super(FilePath, self).__init__(remote)


class Remote:
    """A file on a server. GDAL may open it several times; every ``open`` gives a reader with a place of its own.

    ``failure`` is why bytes could not be given, where they could not: what GDAL then raises does not say.
    """

    mode, path = "rb", ""

    def __init__(self, asset: Asset, tokens: Tokens = TOKENS) -> None:
        self._asset, self._tokens = asset, tokens
        self._http = _client(asset.access.own_hosts)
        self._fetched = 0
        self._state: _State | None = None
        self._last: tuple[int, bytes] = 0, b""
        self.failure: StackError | None = None

    @property
    def fs(self) -> Remote:
        """The library asks a file for its file system to open it once more."""
        return self

    def open(self, path: str = "", mode: str = "rb") -> _Reader:
        """A reader that starts at the first byte."""
        return _Reader(self)

    def read(self, size: int = -1) -> bytes:
        """Never used; the library wants a file to have it."""
        return self.open().read(size)

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        return self._known().size

    def head(self) -> None:
        """Make sure that the file is there.

        Raises
        ------
        StackError : it is not, or cannot be fetched.
        """
        self._known()

    def _known(self) -> _State:
        if self._state is None:
            self._state = _CACHE.state(self._asset.href)
        if self._state is None:
            answer = self._ask(0, HEAD_BYTES)
            self._state = _state(answer)
            self._last = 0, answer.body
            _CACHE.put(self._asset.href, 0, answer.body, self._state)
        return self._state

    def bytes_at(self, start: int, size: int) -> bytes:
        """Bytes of the file; fewer at its end.

        Raises
        ------
        StackError : they cannot be fetched.
        """
        state = self._known()
        size = max(0, min(size, state.size - start))
        if not size:
            return b""
        first, piece = self._last
        if first <= start < first + len(piece) < start + size:
            known = piece[start - first :]
            return known + self.bytes_at(start + len(known), size - len(known))
        if not first <= start <= start + size <= first + len(piece):
            first, piece = _CACHE.get(self._asset.href, start, size) or self._fetch(start, size, state)
            self._last = first, piece
        return piece[start - first : start - first + size]

    def _fetch(self, start: int, size: int, state: _State) -> tuple[int, bytes]:
        """A piece of the file that holds some bytes, and where it starts."""
        answer = self._ask(start, min(max(size, PIECE_BYTES), state.size - start))
        if _state(answer) != state:
            _CACHE.forget(self._asset.href)
            raise StackError("it changed while it was read")
        first = start if answer.status == 206 else 0
        _CACHE.put(self._asset.href, first, answer.body, state)
        return first, answer.body

    def _ask(self, start: int, size: int) -> Answer:
        """A range of bytes, or all of a file that is small; signed anew once where it is refused."""
        if self._fetched + size > MAX_FETCHED_BYTES:
            raise StackError(f"reading it takes more than {MAX_FETCHED_BYTES / 1e6:.0f} MB")
        self._fetched += size
        href, access = self._asset.href, self._asset.access
        headers = {"Range": f"bytes={start}-{start + size - 1}", "Accept-Encoding": "identity"}
        for again in (True, False):
            signed = self._tokens.sign(href, access)
            try:
                answer = self._http.ask(signed, headers=headers, max_bytes=max(size, MAX_WHOLE_BYTES))
            except NetworkError as error:
                raise StackError(str(error)) from None
            if not (answer.status in (401, 403) and again and self._tokens.refused(signed, href, access)):
                break
        if answer.status == 206:
            _check_range(answer, start, size)
        elif answer.status != 200:
            raise StackError(f"its server answers with status {answer.status}")
        return answer


@dataclass(frozen=True)
class _State:
    """What is known of a version of a file: its length, and the mark by which the server tells versions apart."""

    size: int
    mark: str


def _state(answer: Answer) -> _State:
    mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    match = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    return _State(int(match[3]) if match and answer.status == 206 else len(answer.body), mark)


def _check_range(answer: Answer, start: int, size: int) -> None:
    match = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    if match is None:
        raise StackError("its server does not say which bytes it sends")
    first, last, whole = int(match[1]), int(match[2]), int(match[3])
    if first != start or last != min(start + size, whole) - 1 or len(answer.body) != last - first + 1:
        raise StackError("its server sends other bytes than it was asked for")


class _Reader:
    """One place in a remote file."""

    def __init__(self, remote: Remote) -> None:
        self._remote, self._at = remote, 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none after a failure, which ``Remote.failure`` then tells."""
        if self._remote.failure:
            return b""
        try:
            found = self._remote.bytes_at(self._at, size if size >= 0 else MAX_FETCHED_BYTES)
        except StackError as error:
            self._remote.failure = error
            return b""
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        self._at = max(0, offset + (self._remote.size if base is None else base))
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def close(self) -> None:
        """Nothing has to be closed."""


class _Cache:
    """Pieces of files that were fetched lately, by address and first byte."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit, self._held = limit, 0
        self._pieces: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._states: dict[str, _State] = {}
        self._lock = threading.Lock()

    def state(self, href: str) -> _State | None:
        """What is known of a file."""
        with self._lock:
            return self._states.get(href)

    def get(self, href: str, start: int, size: int) -> tuple[int, bytes] | None:
        """A piece that holds some bytes, and where it starts: the one that starts there, or the head of the file."""
        with self._lock:
            for first in (start, 0):
                piece = self._pieces.get((href, first))
                if piece is not None and start + size <= first + len(piece):
                    self._pieces.move_to_end((href, first))
                    return first, piece
        return None

    def put(self, href: str, start: int, piece: bytes, state: _State) -> None:
        """Keep a piece, and let go of the ones that were not used for longest."""
        with self._lock:
            self._states[href] = state
            self._held += len(piece) - len(self._pieces.pop((href, start), b""))
            self._pieces[href, start] = piece
            while self._held > self._limit:
                (old, first), dropped = self._pieces.popitem(last=False)
                self._held -= len(dropped)
                if first == 0:
                    self._states.pop(old, None)

    def forget(self, href: str) -> None:
        """Let go of a file."""
        with self._lock:
            self._states.pop(href, None)
            for key in [k for k in self._pieces if k[0] == href]:
                self._held -= len(self._pieces.pop(key))


_CACHE = _Cache()


@lru_cache(maxsize=8)
def _client(own_hosts: frozenset[str]) -> Client:
    return Client(own_hosts, timeout_s=TIMEOUT_S, budget_s=BUDGET_S, connections=CONNECTIONS)

"""Night-light granules of NASA's archive: found with CMR, fetched from LAADS DAAC, kept in a folder.

Both need a free account. Its token comes from the environment (EARTHDATA_TOKEN, or EARTHDATA_USERNAME and
EARTHDATA_PASSWORD) or from the user's netrc file (machine urs.earthdata.nasa.gov); it is never asked for, written or
logged, and only sent to hosts of NASA. Granules are whole tiles and large, so each is fetched once, into the folder of
COMPOUNDWATCH_GRANULES or the user's cache, and used from there by every site and run.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from compoundwatch.catalogs.granules import Granule, covers, parse_name, tiles, to_items
from compoundwatch.catalogs.items import folder_rule, select
from compoundwatch.errors import CatalogError
from compoundwatch.model import Scene, SearchSettings, Sensor, Skipped

if TYPE_CHECKING:
    from earthaccess import Auth
    from earthaccess.system import System

log = logging.getLogger(__name__)

NAME = "earthdata"
FOLDER_VARIABLE = "COMPOUNDWATCH_GRANULES"
SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""First bytes of an HDF5 file; a page that asks to log in has others."""
THREADS = 4
PIECE_BYTES = 1 << 20

HOW_TO_LOG_IN = (
    "make a token at https://urs.earthdata.nasa.gov (Generate Token) and set the environment variable "
    "EARTHDATA_TOKEN, or name a folder of granules as the catalogue"
)


def default_folder() -> Path:
    """Where granules are kept: the folder of COMPOUNDWATCH_GRANULES, else one in the user's cache."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named).expanduser()
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "compoundwatch" / "granules"


def of_nasa(url: str) -> bool:
    """Whether an address is one of NASA's, which alone may see the token."""
    parts = urlsplit(url)
    return parts.scheme == "https" and (parts.hostname or "").endswith(".nasa.gov")


@dataclass(frozen=True)
class Remote:
    """A granule of the archive: what its name says, its address, its size in bytes (None = not stated)."""

    granule: Granule
    url: str
    size: int | None


class Earthdata:
    """NASA's archive, asked for night lights only.

    ``folder`` is where granules are kept; ``system`` and ``may_see_token`` say which servers are asked and trusted.
    """

    def __init__(
        self,
        settings: SearchSettings,
        folder: Path | None = None,
        system: System | None = None,
        may_see_token: Callable[[str], bool] = of_nasa,
    ) -> None:
        self.name = NAME
        self._folder = folder or default_folder()
        self._timeout = settings.timeout_s
        self._system = system
        self._may_see_token = may_see_token
        self._auth: Auth | None = None
        self._known: dict[tuple[Any, ...], list[Remote]] = {}

    def serves(self, sensor: Sensor) -> bool:
        """Whether the sensor is one for lights at night; see ``catalogs.Catalog``.

        Raises
        ------
        CatalogError : it is, but there is no token.
        """
        if sensor.kind != "lights":
            return False
        self._login()
        return True

    def search(
        self,
        bounds: tuple[float, float, float, float],
        start: dt.date,
        end: dt.date,
        sensor: Sensor,
        settings: SearchSettings,
    ) -> tuple[list[Scene], list[Skipped]]:
        """Scenes over a place and time, their granules fetched; see ``catalogs.Catalog``.

        Raises
        ------
        CatalogError : nobody answers, the token is missing or refused, or a granule is not what was asked for.
        """
        found = [r for product in sensor.collections for r in self._find(product, bounds, start, end)]
        if len(found) > settings.max_scenes:
            raise CatalogError(
                f"catalogue {NAME}: {len(found)} granules found, more than search.max_scenes = "
                f"{settings.max_scenes}; ask for fewer years or raise the limit in the settings"
            )
        wanted = []
        for remote in found:
            (item,) = to_items([(remote.granule, self._path(remote))], sensor)
            if not sensor.unsuited(item):
                wanted.append(remote)
        failed = self._fetch(wanted)
        kept = [(r.granule, self._path(r)) for r in found if r.granule.name not in failed]
        rule = folder_rule(self._folder)
        scenes, left = select(to_items(kept, sensor), bounds, start, end, sensor, settings, NAME, rule)
        return scenes, left + list(failed.values())

    def _path(self, remote: Remote) -> Path:
        return self._folder / remote.granule.name

    def _login(self) -> Auth:
        """The user's account, from the environment or the netrc file."""
        if self._auth is not None:
            return self._auth
        try:
            from earthaccess import PROD, Auth
            from earthaccess.exceptions import LoginAttemptFailure, LoginStrategyUnavailable
        except ImportError as error:
            raise CatalogError(
                "fetching night lights needs earthaccess; install it: pip install 'compoundwatch[lights]'"
            ) from error
        for strategy in ("environment", "netrc"):
            auth = Auth()
            try:
                auth.login(strategy=strategy, system=self._system or PROD)
            except LoginStrategyUnavailable:
                continue
            except (LoginAttemptFailure, requests.RequestException, KeyError, ValueError):
                # The message of the server is not repeated: it may hold what was sent.
                raise CatalogError(
                    f"NASA Earthdata did not accept the account of the {strategy}; check it, or {HOW_TO_LOG_IN}"
                ) from None
            if auth.authenticated:
                self._auth = auth
                return auth
        raise CatalogError(f"no NASA Earthdata account was found; {HOW_TO_LOG_IN}")

    def _session(self) -> requests.Session:
        session = self._login().get_session()
        adapter = _Patient(self._timeout)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session

    def _find(
        self, product: str, bounds: tuple[float, float, float, float], start: dt.date, end: dt.date
    ) -> list[Remote]:
        """Granules of one product over a place and time; sites in the same tiles are asked for once."""
        question = (product, tiles(bounds), start, end)
        if question not in self._known:
            self._known[question] = self._ask(product, bounds, start, end)
        return [r for r in self._known[question] if covers(r.granule, bounds, start, end)]

    def _ask(
        self, product: str, bounds: tuple[float, float, float, float], start: dt.date, end: dt.date
    ) -> list[Remote]:
        """What NASA's catalogue answers."""
        auth = self._login()
        from earthaccess import DataGranules

        try:
            with warnings.catch_warnings(), self._session() as session:
                warnings.simplefilter("ignore", FutureWarning)  # of the library, about its own next version
                query = DataGranules(auth)
                query.session = session
                query.short_name(product).bounding_box(*bounds)
                query.temporal(f"{start}T00:00:00Z", f"{end}T23:59:59Z")
                return [r for r in map(_remote, query.get_all()) if r and r.granule.product == product]
        except (RuntimeError, requests.RequestException, KeyError, ValueError, TypeError, AttributeError) as error:
            raise CatalogError(f"NASA's catalogue did not answer the search for {product} ({_kind(error)})") from None

    def _fetch(self, remotes: Sequence[Remote]) -> dict[str, Skipped]:
        """Fetch what is not in the folder yet; what could not be fetched, by name, and why."""
        missing = [r for r in remotes if not _is_there(self._path(r), r.size)]
        if not missing:
            return {}
        total = sum(r.size or 0 for r in missing)
        log.info("fetching %d granules (%.1f GB) to %s", len(missing), total / 1e9, self._folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CatalogError(
                f"the folder of granules {self._folder} cannot be made ({type(error).__name__}); set "
                f"{FOLDER_VARIABLE} to one that can"
            ) from error
        with ThreadPoolExecutor(max_workers=THREADS) as pool:
            parts = list(pool.map(self._fetch_all, [missing[k::THREADS] for k in range(THREADS)]))
        failed = {name: skipped for part in parts for name, skipped in part.items()}
        if len(failed) == len(missing):
            raise CatalogError(
                f"none of {len(missing)} granules could be fetched: {next(iter(failed.values())).reason}"
            )
        return failed

    def _fetch_all(self, remotes: Sequence[Remote]) -> dict[str, Skipped]:
        """Fetch one after another over one connection."""
        failed: dict[str, Skipped] = {}
        with self._session() as session:
            for remote in remotes:
                if reason := self._fetch_one(session, remote):
                    failed[remote.granule.name] = Skipped(remote.granule.name, "search", reason)
        return failed

    def _fetch_one(self, session: requests.Session, remote: Remote) -> str:
        """Fetch one granule; why it could not be, empty where it was."""
        host = urlsplit(remote.url).hostname
        if not self._may_see_token(remote.url):
            return f"its address is not one of NASA over https (host {host}), and no other may see the token"
        try:
            with session.get(remote.url, stream=True) as answer:
                if answer.status_code in (401, 403):
                    raise CatalogError(
                        f"{host} refused the token: it is expired (they last 60 days), or the account has not yet "
                        f"agreed to the terms of LAADS DAAC; open {host} in a browser, log in, then {HOW_TO_LOG_IN}"
                    )
                if answer.status_code != 200:
                    return f"{host} answered with status {answer.status_code}"
                return _save(answer, self._path(remote), remote.size)
        except requests.RequestException as error:
            return f"{host} did not deliver it ({type(error).__name__})"
        except OSError as error:
            raise CatalogError(
                f"the folder of granules {self._folder} cannot be written ({type(error).__name__}); is the disk full?"
            ) from error


class _Patient(HTTPAdapter):
    """Waits so many seconds for an answer where the caller names no limit, and tries again when a server is busy."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        retry = Retry(total=4, connect=2, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))
        super().__init__(max_retries=retry)

    def send(self, *args: Any, **options: Any) -> requests.Response:
        options["timeout"] = options.get("timeout") or self._timeout
        return super().send(*args, **options)


def _remote(answer: Any) -> Remote | None:
    """What the archive says of one granule; None where no address of it ends in the name of a granule."""
    for url in answer.data_links(access="external"):
        if granule := parse_name(urlsplit(url).path.rpartition("/")[2]):
            files = answer["umm"].get("DataGranule", {}).get("ArchiveAndDistributionInformation") or [{}]
            size = next(
                (f["SizeInBytes"] for f in files if f.get("Name") in (None, granule.name) and "SizeInBytes" in f), None
            )
            return Remote(granule, url, int(size) if size else None)
    return None


def _is_there(path: Path, size: int | None) -> bool:
    """Whether the file is in the folder, whole as far as its size is known."""
    return path.is_file() and (size is None or path.stat().st_size == size)


def _save(answer: requests.Response, path: Path, size: int | None) -> str:
    """Write what a server sends to a file that appears only when it is whole; why it is not, empty where it is."""
    stated = answer.headers.get("Content-Length")
    expected = size or (int(stated) if stated and "Content-Encoding" not in answer.headers else None)
    with _appearing(path) as (part, keep):
        with part.open("wb") as file:
            for piece in answer.iter_content(PIECE_BYTES):
                file.write(piece)
        with part.open("rb") as file:
            if file.read(len(SIGNATURE)) != SIGNATURE:
                return "what was sent is no HDF5 file, but perhaps a page that asks to log in"
        found = part.stat().st_size
        if expected is not None and found != expected:
            return f"{found} bytes came, {expected} were announced"
        keep()
    return ""


@contextmanager
def _appearing(path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A file beside ``path`` that takes its place on ``keep()`` and is removed otherwise."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part, lambda: os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _kind(error: Exception) -> str:
    """What went wrong, without the server's words, which may repeat the token."""
    answer = getattr(error.__cause__ or error, "response", None)
    return f"status {answer.status_code}" if answer is not None else type(error).__name__

"""Messages to people, through the library apprise: mail, chat, push and web hooks, each named by an address.

Addresses hold passwords and tokens, so no text that is made here repeats one: an address is told by its place in the
list and its kind.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from compoundwatch.errors import SettingsError

_CHATTY = ("apprise", "urllib3", "requests", "requests_oauthlib", "smtplib", "asyncio")
"""Loggers that may repeat an address, or parts of it, while a message is sent."""


def label(urls: Sequence[str], index: int) -> str:
    """How an address is told: "address 2 of 3 (ntfys)"."""
    kind = re.match(r"[a-z0-9]{1,20}(?=s?://)", urls[index].strip().lower())
    return f"address {index + 1} of {len(urls)}" + (f" ({kind[0]})" if kind else "")


def check(urls: Sequence[str]) -> None:
    """Make sure that every address can be used, without sending anything.

    Raises
    ------
    SettingsError : the library is not installed, or it does not know an address; the address is not repeated.
    """
    for index in range(len(urls)):
        with _quiet():
            known = _service(urls[index]) is not None
        if not known:
            raise SettingsError(
                f"{label(urls, index)} is none that can be used (it is not repeated here, it may hold a password); "
                "see https://appriseit.com/services/ for how they are written"
            )


def deliver(url: str, title: str, body: str) -> bool:
    """Send one message; False = it did not arrive, as far as can be known.

    Raises
    ------
    SettingsError : the library is not installed.
    """
    with _quiet():
        service = _service(url)
        try:
            return bool(service is not None and service.notify(title=title, body=body, body_format="text"))
        except Exception:  # whatever a service raises may hold the address
            return False


def _service(url: str) -> Any:
    try:
        import apprise
    except ImportError:
        raise SettingsError(
            "alerts need the library apprise: install it with pip install 'compoundwatch[notify]'"
        ) from None
    service = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))
    try:
        return service if service.add(url) and len(service) == 1 else None
    except Exception:
        return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No log and no warning of a library, which may hold an address."""
    before = {name: logging.getLogger(name).disabled for name in _CHATTY}
    children = [n for n in logging.root.manager.loggerDict if n.split(".")[0] in _CHATTY]
    before |= {name: logging.getLogger(name).disabled for name in children}
    for name in before:
        logging.getLogger(name).disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, disabled in before.items():
            logging.getLogger(name).disabled = disabled

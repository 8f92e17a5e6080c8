"""A result looked at through a server on this machine, for as long as the command runs."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable
from pathlib import Path

from compoundwatch import __version__, sensors
from compoundwatch.errors import OutputError, SettingsError

LOOPBACK = "127.0.0.1"


def serve(folder: Path | str, *, port: int, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve a result on this machine until interrupted; nobody else can reach it, and nothing can be changed.

    Parameters
    ----------
    folder : result of ``watch``.
    port : 0 = any that is free.
    ready : told the address of the page.

    Raises
    ------
    SettingsError : the folder is no result, or the libraries are not installed.
    OutputError : the port is taken.
    """
    try:
        import uvicorn
        from rasterio.errors import NotGeoreferencedWarning

        from compoundwatch.outputs.viewer import make_app
    except ImportError:
        raise SettingsError(
            "the viewer needs more libraries: install them with pip install 'compoundwatch[serve]'"
        ) from None
    app = make_app(Path(folder), __version__, {s.name: s.attribution for s in sensors.available().values()})
    # A tile is a picture without a place of its own; that is no news, and threads undo one another's silence.
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            raise OutputError(f"port {port} cannot be used; name another one with --port, or 0 for any") from None
        ready(f"http://{LOOPBACK}:{door.getsockname()[1]}/")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, proxy_headers=False, server_header=False, lifespan="off"
        )
        uvicorn.Server(config).run(sockets=[door])

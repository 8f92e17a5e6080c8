"""What the viewer answers: a page, tiles, the listed files with their STAC catalogue, and OGC API Features.

Every answer is made of files that the manifest of the result lists. Names in an address are looked up in that list and
never joined to a path before; a listed file that is a link, or lies behind one, is not there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from compoundwatch.outputs.evidence import read_manifest
from compoundwatch.outputs.runlog import LOG
from compoundwatch.outputs.staging import MANIFEST
from compoundwatch.outputs.viewer import features, tiles

Answer = TypeVar("Answer", bound=Callable[..., Any])

HOSTS = ["127.0.0.1", "localhost"]
"""Names under which it answers: a page of elsewhere that points its own name to this machine gets nothing."""
READING = ["GET", "HEAD"]
OWN = Path(__file__).parent
LEAFLET = OWN.parent / "report" / "assets"
ASSETS = {"viewer.js": OWN, "viewer.css": OWN, "leaflet.js": LEAFLET, "leaflet.css": LEAFLET}
TYPES = {".geojson": "application/geo+json", ".json": "application/json", ".tif": "image/tiff; application=geotiff"}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Shown:
    """The files of a result that may be given out, as its manifest lists them now."""

    def __init__(self, folder: Path) -> None:
        """Read the manifest.

        Raises
        ------
        SettingsError : the folder is no result, or lists a path that leaves it.
        """
        self.folder = folder.resolve()
        self._made = -1
        self._entries: dict[str, dict[str, Any]] = {}
        self.entries()

    def entries(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of each file, by path; read anew after a new run."""
        made = (self.folder / MANIFEST).stat().st_mtime_ns
        if made != self._made:
            listed = read_manifest(self.folder)["outputs"]
            self._entries = {entry["path"]: entry for entry in listed} | {name: {} for name in (MANIFEST, LOG)}
            self._made = made
        return self._entries

    def path(self, name: str) -> Path:
        """The file of that name; HTTPException 404 where none is listed, or it is no plain file in the folder."""
        if name in self.entries():
            path = self.folder.joinpath(*name.split("/"))
            if path.is_file() and path.resolve() == path:
                return path
        raise HTTPException(404, "there is no such file in this result")


def make_app(folder: Path, version: str = "", attributions: Mapping[str, str] | None = None) -> FastAPI:
    """The viewer of a result.

    Parameters
    ----------
    version : of this software.
    attributions : what must stand beside imagery, by sensor.

    Raises
    ------
    SettingsError : the folder is no result that can be trusted.
    """
    shown = Shown(folder)
    app = FastAPI(title="compoundwatch", version=version, docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guarded(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.method not in READING:
            return JSONResponse({"detail": "this server is read-only"}, 405, {"Allow": ", ".join(READING), **HEADERS})
        answer = await call(request)
        answer.headers.update(HEADERS)
        return answer

    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)  # added last, asked first

    def reading(path: str) -> Callable[[Answer], Answer]:
        """Answer GET and HEAD; the description of the service names the first alone."""

        def add(answer: Answer) -> Answer:
            app.get(path)(answer)
            return app.head(path, include_in_schema=False)(answer)

        return add

    @reading("/")
    def page() -> Response:
        return FileResponse(OWN / "viewer.html", headers={"Content-Security-Policy": PAGE_POLICY})

    @reading("/assets/{name}")
    def asset(name: str) -> Response:
        if name not in ASSETS:
            raise HTTPException(404, "no such file")
        return FileResponse(ASSETS[name] / name)

    @reading("/files/{name:path}")
    def file(name: str) -> Response:
        path = shown.path(name)
        return FileResponse(path, media_type=TYPES.get(path.suffix))

    @reading("/stac")
    def stac() -> Response:
        return RedirectResponse("/files/stac/catalog.json")

    @reading("/layers")
    def layers() -> Any:
        return tiles.layers(shown.entries(), attributions or {})

    @reading("/tiles/{z}/{x}/{y}/{name:path}.png")
    def tile(z: int, x: int, y: int, name: str) -> Response:
        path = f"{name}.tif"
        kind = tiles.kind(path, shown.entries().get(path, {}))
        if kind is None or not (0 <= z <= tiles.DEEPEST and 0 <= min(x, y) <= max(x, y) < 2**z):
            raise HTTPException(404, "there is no such layer or tile")
        return Response(tiles.png(shown.path(path), kind, x, y, z), media_type="image/png")

    @reading("/ogc")
    def landing(request: Request) -> Any:
        return features.landing(str(request.base_url))

    @reading("/ogc/api")
    def api(request: Request) -> Response:
        return JSONResponse(features.api(app.openapi()), media_type=features.OPENAPI)

    @reading("/ogc/conformance")
    def conformance() -> Any:
        return {"conformsTo": list(features.CONFORMS)}

    @reading("/ogc/collections")
    def collections(request: Request) -> Any:
        return features.collections(str(request.base_url), shown.path)

    @reading("/ogc/collections/{name}")
    def collection(request: Request, name: str) -> Any:
        return _known(features.collection(str(request.base_url), name, shown.path))

    @reading("/ogc/collections/{name}/items")
    def items(
        request: Request,
        name: str,
        bbox: str = "",
        limit: int = Query(features.LIMIT, ge=1, le=features.MOST),
        offset: int = Query(0, ge=0),
    ) -> Response:
        try:
            found = features.items(str(request.base_url), name, shown.path, bbox, limit, offset)
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return JSONResponse(_known(found), media_type=features.GEOJSON)

    @reading("/ogc/collections/{name}/items/{number}")
    def item(request: Request, name: str, number: str) -> Response:
        found = features.item(str(request.base_url), name, shown.path, number)
        return JSONResponse(_known(found), media_type=features.GEOJSON)

    return app


def _known(found: Any) -> Any:
    if found is None:
        raise HTTPException(404, "there is no such collection or feature")
    return found

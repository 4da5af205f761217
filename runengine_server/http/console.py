"""Serves the web console: its page at every address that it shows, its built files below /assets."""

import mimetypes
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runengine_server.http.errors import plain_error

PAGES: Final = ("/", "/runs", "/runs/{id}", "/queue", "/workflows", "/workflows/{name}")
"""The addresses of the console, as in web/console/src/app.tsx."""

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' blob: data:",  # artifacts are fetched with the token and shown from memory
        "media-src 'self' blob:",
        "connect-src 'self' blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_FOLDER: Final = "console"
_INDEX: Final = "index.html"
_COMPRESSED: Final = ".gz"
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_TYPES: Final[Mapping[str, str]] = {".woff2": "font/woff2", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    media_type: str
    plain: bytes
    compressed: bytes | None


def console_routes() -> list[Route]:
    """The routes of the console; its files are read here, once, and served from memory."""
    built = dict(_built_files(files("runengine_server.http") / _FOLDER))
    index = built.pop(_INDEX)

    async def page(request: Request) -> Response:
        headers = {"content-security-policy": CONTENT_SECURITY_POLICY, "cache-control": "no-cache"}
        return _response(request, index, headers)

    async def asset(request: Request) -> Response:
        found = built.get(f"assets/{request.path_params['name']}")
        if found is None:
            missing = plain_error("PATH_NOT_FOUND", f"there is nothing at {request.url.path}", 404)
            missing.headers["cache-control"] = "no-store"  # the next build may have it
            return missing
        return _response(request, found, {"cache-control": _IMMUTABLE})  # another content has another name

    return [*(Route(path, page) for path in PAGES), Route("/assets/{name}", asset)]


def _response(request: Request, file: _File, headers: Mapping[str, str]) -> Response:
    body, own = file.plain, {**headers, "vary": "accept-encoding"}
    if file.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        body, own = file.compressed, {**own, "content-encoding": "gzip"}
    return Response(body, headers=own, media_type=file.media_type)


def _built_files(folder: Traversable, prefix: str = "") -> Iterable[tuple[str, _File]]:
    members = {member.name: member for member in folder.iterdir()}
    for name, member in members.items():
        if member.is_dir():
            yield from _built_files(member, f"{prefix}{name}/")
        elif not name.endswith(_COMPRESSED):
            twin = members.get(name + _COMPRESSED)
            compressed = None if twin is None else twin.read_bytes()
            yield (
                prefix + name,
                _File(media_type=_media_type(name), plain=member.read_bytes(), compressed=compressed),
            )


def _media_type(name: str) -> str:
    suffix = name[name.rindex(".") :]
    return _TYPES.get(suffix) or mimetypes.types_map.get(suffix, "application/octet-stream")

"""What a browser is told of an artifact's bytes, which a skill made and nobody checked: show them, never run them."""

import re
from mimetypes import guess_extension
from typing import Final
from urllib.parse import quote

from runengine_server.domain.artifact import Artifact

_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}", re.ASCII)
_CHARSET: Final = re.compile(r";\s*charset=\"?([a-z0-9_-]{1,40})\"?\s*(?:;|$)", re.IGNORECASE | re.ASCII)
_UNKNOWN: Final = "application/octet-stream"

_SHOWN_KINDS: Final = ("image/", "audio/", "video/", "text/", "model/gltf")
_SHOWN: Final = frozenset({"application/json", "application/x-ndjson"})

_POLICY: Final = (
    "default-src 'none'; img-src 'self' data:; media-src 'self' data:; style-src 'unsafe-inline'; "
    "frame-ancestors 'self'; form-action 'none'; base-uri 'none'"
)
_SANDBOX: Final = "; sandbox"
"""No scripts, no requests, an origin of its own: a page or a drawing that a skill made can do nothing with ours."""

_PLAYED: Final = ("audio/", "video/")
"""Go without the sandbox: Chromium's player, in an origin of its own, is refused the bytes. They are no documents."""


def content_headers(artifact: Artifact) -> dict[str, str]:
    """The headers of every answer about the bytes, whole, in part, or none because they are known."""
    media_type = _media_type(artifact)
    return {
        "Content-Type": media_type,
        "Content-Disposition": _disposition(artifact, media_type.partition(";")[0]),
        "Content-Security-Policy": _POLICY if media_type.startswith(_PLAYED) else _POLICY + _SANDBOX,
        "ETag": entity_tag(artifact),
        "Accept-Ranges": "bytes",
        # The bytes never change, but who may see them does: asked again each time, answered with 304.
        "Cache-Control": "private, no-cache",
    }


def entity_tag(artifact: Artifact) -> str:
    """The content's hash as a strong tag."""
    return f'"{artifact.produced.content_hash}"'


def _media_type(artifact: Artifact) -> str:
    given = artifact.produced.media_type.strip()
    media_type = given.partition(";")[0].strip().lower()
    if not _MEDIA_TYPE.fullmatch(media_type):
        return _UNKNOWN
    charset = _CHARSET.search(given)
    if charset:
        return f"{media_type}; charset={charset[1].lower()}"
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def _disposition(artifact: Artifact, media_type: str) -> str:
    is_shown = media_type.startswith(_SHOWN_KINDS) or media_type in _SHOWN or media_type.endswith("+json")
    name = artifact.produced.filename or f"{artifact.id}{guess_extension(media_type) or ''}"
    plain = re.sub(r"[^A-Za-z0-9 ._-]", "_", name)
    return f"{'inline' if is_shown else 'attachment'}; filename=\"{plain}\"; filename*=UTF-8''{_encoded(name)}"


def _encoded(name: str) -> str:
    return quote(name, safe="", errors="replace")

"""Where artifacts may be looked up: URI prefixes of the operator. Skills name the URIs; these bound what we touch."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

_PORTS = {"http": 80, "https": 443}


class ArtifactRootError(Exception):
    """A text is no root; the message says what one looks like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRoot:
    """A prefix of URIs: scheme, host and port of a server (empty for files), and the path that others lie below."""

    scheme: str
    host: str
    port: int
    path: str

    def holds(self, uri: SplitResult) -> bool:
        """True when the URI lies below this root, as written and as a server would read it."""
        try:
            place = _place(uri)
        except ValueError:
            return False
        segments = unquote(uri.path).split("/")
        is_plain = not any(part in (".", "..") or "\\" in part or "\0" in part for part in segments)
        is_below = uri.path == self.path or uri.path.startswith(f"{self.path}/")
        return place == (self.scheme, self.host, self.port) and is_plain and is_below

    def file_of(self, uri: SplitResult) -> Path | None:
        """The file a URI below this root names; None where links lead out of the root, or the root is not there."""
        root = os.path.realpath(self.path)
        file = os.path.realpath(unquote(uri.path))
        is_inside = file == root or file.startswith(root.rstrip("/") + "/")
        return Path(file) if is_inside and Path(root).is_dir() else None


def parse_roots(text: str) -> tuple[ArtifactRoot, ...]:
    """The roots of a comma-separated setting.

    Raises:
        ArtifactRootError: one of them is no root.
    """
    return tuple(_root(part.strip()) for part in text.split(",") if part.strip())


def split_uri(uri: str) -> SplitResult | None:
    """The parts of a URI; None when it is none."""
    try:
        return urlsplit(uri)
    except ValueError:
        return None


def _root(text: str) -> ArtifactRoot:
    problem = f"{text!r} is no root; write file:///directory or https://host[:port]/path, without query or password"
    uri = split_uri(text)
    if uri is None or uri.query or uri.fragment:
        raise ArtifactRootError(problem)
    try:
        scheme, host, port = _place(uri)
    except ValueError:
        raise ArtifactRootError(problem) from None
    root = ArtifactRoot(scheme=scheme, host=host, port=port, path=uri.path.rstrip("/"))
    if not root.holds(uri._replace(path=root.path)) or (scheme == "file" and not root.path):
        raise ArtifactRootError(problem)
    return root


def _place(uri: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port.

    Raises:
        ValueError: not a file, and not on a server that can be asked by HTTP without a password.
    """
    if uri.scheme == "file" and uri.netloc in ("", "localhost") and uri.path.startswith("/"):
        return "file", "", 0
    if uri.scheme in _PORTS and uri.hostname and "@" not in uri.netloc:
        return uri.scheme, uri.hostname, uri.port or _PORTS[uri.scheme]
    raise ValueError(uri.scheme)

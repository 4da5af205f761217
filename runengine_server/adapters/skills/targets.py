"""Reads the operator's target map: which skill ids go where."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

TARGETS_MAX: Final = 1000
ENDPOINTS_MAX: Final = 64

_PATTERN: Final = re.compile(r"(?:[a-z][a-z0-9_.]{0,127}|[a-z][a-z0-9_.]{0,125}\.\*|\*)\Z")
_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)*\Z")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?)\Z")


class Transport(Enum):
    """How a runner is reached."""

    LOCAL = "local"
    PLAINTEXT = "grpc"
    TLS = "grpcs"
    UNIX = "unix"
    HTTP = "http"
    HTTPS = "https"

    @property
    def is_http(self) -> bool:
        """Whether requests and answers are HTTP/JSON, not gRPC."""
        return self in (Transport.HTTP, Transport.HTTPS)

    @property
    def is_plaintext(self) -> bool:
        """Whether a token would travel in clear text."""
        return self in (Transport.PLAINTEXT, Transport.HTTP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a runner is; `address` is what gRPC dials, the base URL of HTTP, empty for this process."""

    transport: Transport
    address: str = ""

    @property
    def is_on_this_machine(self) -> bool:
        """Whether what is sent stays on this machine."""
        if self.transport in (Transport.LOCAL, Transport.UNIX):
            return True
        if self.transport.is_http:
            host = urlsplit(self.address).hostname or ""
        else:
            host = self.address.rpartition(":")[0].strip("[]")
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillTarget:
    """One entry of the map; the pattern is a skill id, a prefix that ends in `.*`, or `*`."""

    pattern: str
    endpoint: Endpoint


class TargetError(ValueError):
    """The target map cannot be used; the message names every entry that is wrong, and never a token."""


def parse_targets(text: str) -> tuple[SkillTarget, ...]:
    """The entries of a map such as `image.*=grpc://127.0.0.1:7001,*=grpcs://skills.example:443`, in order.

    Entries are separated by commas or line breaks. Endpoints: `grpc://host:port`, `grpcs://host:port` (TLS),
    `unix:/path`, `http://host:port/path`, `https://host/path`, `local:` (functions in this process).

    Raises:
        TargetError: some entries are wrong, a pattern occurs twice, or there are too many.
    """
    targets: dict[str, SkillTarget] = {}
    problems: list[str] = []
    for number, entry in enumerate(_entries(text), start=1):
        pattern, found, address = (part.strip() for part in entry.partition("="))
        try:
            if not found:
                raise TargetError("expected `pattern=endpoint`")
            if pattern in targets:
                raise TargetError(f"the pattern {pattern!r} occurs twice")
            targets[pattern] = SkillTarget(pattern=_pattern(pattern), endpoint=parse_endpoint(address))
        except TargetError as problem:
            problems.append(f"entry {number} ({entry!r}): {problem}")
    if len(targets) > TARGETS_MAX:
        problems.append(f"{len(targets)} patterns; at most {TARGETS_MAX}")
    endpoints = {target.endpoint for target in targets.values()}
    if len(endpoints) > ENDPOINTS_MAX:
        problems.append(f"{len(endpoints)} different endpoints; at most {ENDPOINTS_MAX}")
    if problems:
        raise TargetError("; ".join(problems))
    return tuple(targets.values())


def parse_endpoint(text: str) -> Endpoint:
    """Where a runner is.

    Raises:
        TargetError: it is none of these forms.
    """
    if text in ("local:", "local://"):
        return Endpoint(transport=Transport.LOCAL)
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/") or len(path.encode()) > 106:
            raise TargetError("a unix endpoint is `unix:/absolute/path` of at most 106 bytes")
        return Endpoint(transport=Transport.UNIX, address=f"unix:{path}")
    scheme, found, rest = text.partition("://")
    if found and scheme in ("http", "https"):
        return Endpoint(transport=Transport(scheme), address=_base_url(scheme, rest))
    if not found or scheme not in ("grpc", "grpcs"):
        raise TargetError("an endpoint is grpc(s)://host:port, http(s)://host/path, unix:/path or local:")
    return Endpoint(transport=Transport(scheme), address=_host_and_port(rest.rstrip("/")))


def parse_tokens(text: str) -> Mapping[Endpoint, str]:
    """The bearer tokens of a list such as `grpc://127.0.0.1:7001=secret`, separated by commas or line breaks.

    Raises:
        TargetError: an entry is wrong; entries are named by number, because they hold secrets.
    """
    tokens: dict[Endpoint, str] = {}
    for number, entry in enumerate(_entries(text), start=1):
        address, _, token = (part.strip() for part in entry.partition("="))
        if not token or not token.isascii() or not token.isprintable():
            raise TargetError(f"token {number}: expected `endpoint=token` in printable ASCII")
        try:
            endpoint = parse_endpoint(address)
        except TargetError as problem:
            raise TargetError(f"token {number}: {problem}") from None
        if endpoint.transport.is_plaintext and not endpoint.is_on_this_machine:
            raise TargetError(f"token {number}: a token may not travel in plaintext; use grpcs:// or https://")
        tokens[endpoint] = token
    return tokens


def _entries(text: str) -> Sequence[str]:
    return [entry.strip() for entry in re.split(r"[,\n]", text) if entry.strip()]


def _pattern(text: str) -> str:
    if not _PATTERN.match(text):
        raise TargetError("a pattern is a skill id such as image.resize, a prefix such as image.*, or *")
    return text


def _base_url(scheme: str, rest: str) -> str:
    """The URL in one form: with its port, without a trailing slash."""
    authority, _, path = rest.partition("/")
    path = f"/{path}".rstrip("/")
    if not _PATH.match(path):
        raise TargetError("the path is plain: letters, digits, . _ ~ - between slashes; no query")
    has_port = ":" in authority.rpartition("]")[2]
    port = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{_host_and_port(authority if has_port else f'{authority}:{port}')}{path}"


def _host_and_port(text: str) -> str:
    host, found, port = text.rpartition(":")
    if not found or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise TargetError("the port is missing or not 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise TargetError("the IPv6 address in brackets is not valid") from None
    elif not _HOST.match(host):
        raise TargetError("the host is missing or not a name or address")
    return text

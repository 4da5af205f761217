"""Opens the channel to a server: address, TLS, token, trace context and how fast it reconnects."""

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
import grpc.aio

from runengine_client.errors import InvalidArgumentError
from runengine_client.tracing import current_headers, uses_opentelemetry

TARGET_DEFAULT = "127.0.0.1:50051"

_BASE_OPTIONS: tuple[tuple[str, str | int], ...] = (
    # gRPC's own reconnect delay grows to two minutes, during which every call fails at once; a restart takes seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
NAME_LOOKUP_MS_MAX = 10_000
"""gRPC's own two minutes outlast a call, which could then not say that there is no server."""

TokenSource = str | Callable[[], str]
"""A bearer token, or what returns the current one; it is asked before every call."""

Request = TypeVar("Request")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """PEM bytes for a TLS connection; without roots the system's are used, without a key no client certificate."""

    root_certificates: bytes | None = None
    private_key: bytes | None = None
    certificate_chain: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """Where the server is and how to talk to it."""

    target: str = TARGET_DEFAULT
    token: TokenSource | None = None
    tls: TlsOptions | None = None
    allow_insecure_token: bool = False
    channel_options: Sequence[tuple[str, str | int]] = ()

    def __post_init__(self) -> None:
        """Refuse what would send a token where others can read it."""
        if self.token is None or self.tls is not None or self.allow_insecure_token or is_loopback(self.target):
            return
        raise InvalidArgumentError(
            "INSECURE_TOKEN",
            f"A token would travel unencrypted to {self.target}. Use TLS, or pass allow_insecure_token=True if the "
            "network is trusted.",
        )


def is_loopback(target: str) -> bool:
    """True when nothing sent to a gRPC target leaves this machine."""
    scheme, found, rest = target.partition(":")
    if found and scheme in ("unix", "unix-abstract"):
        return True
    address = rest if found and scheme in ("dns", "ipv4", "ipv6") else target
    # dns:///host:port has an empty authority; several addresses are separated by commas.
    hosts = [_host(part) for part in address.rpartition("/")[2].split(",")]
    return all(_is_loopback_host(host) for host in hosts)


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") <= 1 else address


def _is_loopback_host(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_channel(options: ConnectionOptions) -> grpc.aio.Channel:
    """A channel that connects with the first call. Call it on the event loop that will use it."""
    arguments = [*_BASE_OPTIONS, ("grpc.dns_ares_query_timeout", NAME_LOOKUP_MS_MAX)]
    if is_loopback(options.target):
        # An http_proxy in the environment would otherwise carry local calls, token included, off this machine.
        arguments.append(("grpc.enable_http_proxy", 0))
    arguments.extend(options.channel_options)
    interceptors: list[grpc.aio.ClientInterceptor] = []
    if options.token is not None or uses_opentelemetry():
        interceptors = [_UnaryHeaders(options.token), _StreamHeaders(options.token)]
    if options.tls is None:
        return grpc.aio.insecure_channel(options.target, options=arguments, interceptors=interceptors)
    credentials = grpc.ssl_channel_credentials(
        options.tls.root_certificates, options.tls.private_key, options.tls.certificate_chain
    )
    return grpc.aio.secure_channel(options.target, credentials, options=arguments, interceptors=interceptors)


def _with_headers(details: grpc.aio.ClientCallDetails, token: TokenSource | None) -> grpc.aio.ClientCallDetails:
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    if token is not None:
        metadata.set_all("authorization", [f"Bearer {token if isinstance(token, str) else token()}"])
    for name, value in current_headers().items():
        metadata.set_all(name, [value])
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )


class _UnaryHeaders(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds token and trace context to unary calls; grpc.aio wants one class per kind of call."""

    def __init__(self, token: TokenSource | None) -> None:
        self._token = token

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Request], Awaitable[Answer]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Request,
    ) -> Answer:
        """The call, with its headers."""
        return await continuation(_with_headers(client_call_details, self._token), request)


class _StreamHeaders(grpc.aio.UnaryStreamClientInterceptor):
    """Adds token and trace context to watches."""

    def __init__(self, token: TokenSource | None) -> None:
        self._token = token

    async def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Request], Awaitable[Answer]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Request,
    ) -> Answer:
        """The call, with its headers."""
        return await continuation(_with_headers(client_call_details, self._token), request)

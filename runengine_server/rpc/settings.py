"""What an operator can set about the gRPC surface, frozen; the configuration module fills it."""

from dataclasses import dataclass
from pathlib import Path

MESSAGE_BYTES_MAX = 3 * 1024 * 1024
"""API: no message exceeds 3 MiB; above the payload limit of 1 MiB, so that a too large payload gets a clear answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of the server's certificate chain and its private key."""

    certificate_chain: Path
    private_key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcSettings:
    """The gRPC surface's settings; times in seconds.

    Attributes:
        address: `host:port` (port 0: any free one) or `unix:/path`.
        has_auth: False when the authenticator lets callers in without a credential.
        tls: the server's certificate; None serves plaintext.
        insecure_plaintext: the operator accepts tokens in clear text beyond loopback.
        has_reflection: whether to serve gRPC reflection.
        watches_max: open watches of this server.
        watches_per_tenant_max: open watches of one tenant on this server.
        watch_write_timeout_s: how long a reader may block a write before its watch ends.
        keepalive_s: how often a silent connection is pinged.
        keepalive_timeout_s: how long an unanswered ping is waited for before the connection is closed.
        client_ping_interval_s_min: how often clients may ping a silent connection.
    """

    address: str = "127.0.0.1:50051"
    has_auth: bool = True
    tls: TlsFiles | None = None
    insecure_plaintext: bool = False
    has_reflection: bool = False
    watches_max: int = 2_000
    watches_per_tenant_max: int = 500
    watch_write_timeout_s: float = 10.0
    keepalive_s: float = 30.0
    keepalive_timeout_s: float = 10.0
    client_ping_interval_s_min: float = 5.0

    def channel_options(self) -> list[tuple[str, int]]:
        """The settings as gRPC channel arguments."""
        timeout_ms = round(self.keepalive_timeout_s * 1000)
        return [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            # Without it a second server on the same port silently gets half of the connections.
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", round(self.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", timeout_ms),
            # The one that decides (grpcio 1.85): without it a frozen client holds its streams for a minute.
            ("grpc.http2.ping_timeout_ms", timeout_ms),
            ("grpc.keepalive_permit_without_calls", 1),
            # The widely copied min_recv_ping_interval_without_data_ms is ignored.
            ("grpc.http2.min_ping_interval_without_data_ms", round(self.client_ping_interval_s_min * 1000)),
        ]

"""What an operator can set about the HTTP surface, frozen; the configuration module fills it."""

from collections.abc import Sequence
from dataclasses import dataclass

from runengine_server.rpc.settings import MESSAGE_BYTES_MAX, TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The HTTP surface's settings; times in seconds.

    Attributes:
        address: `host:port` (port 0: any free one).
        has_auth: False when the authenticator lets callers in without a credential.
        tls: the server's certificate; None serves plaintext.
        insecure_plaintext: the operator accepts tokens in clear text beyond loopback.
        cors_origins: origins whose pages may call; none by default.
        body_bytes_max: of a request; above the payload limit, so that a too large payload gets a clear answer.
    """

    address: str = "127.0.0.1:3001"
    has_auth: bool = True
    tls: TlsFiles | None = None
    insecure_plaintext: bool = False
    cors_origins: Sequence[str] = ()
    body_bytes_max: int = MESSAGE_BYTES_MAX

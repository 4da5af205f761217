"""Sends requests to one HTTP runner: bounded connections and bodies, no redirects, nothing from the environment."""

import logging
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import httpx

from runengine_server.adapters.skills.call_reader import MESSAGE_BYTES_MAX

CONNECTIONS_MAX: Final = 500
_CONNECT_S: Final = 5.0
# Below the 5 s after which Node's servers close idle connections: none is used while it is being closed.
_KEEPALIVE_S: Final = 2.0

logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request
logging.getLogger("httpcore").setLevel(logging.WARNING)


class AnswerTooLargeError(Exception):
    """The runner's answer is beyond 3 MiB; it was not read to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpTransport:
    """A pool of connections to one runner; use it inside `async with`."""

    def __init__(self, base_url: str, *, token: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        """Prepare; nothing is dialled yet.

        Args:
            base_url: without a trailing slash.
            token: a bearer token.
            tls: whom to trust; None means the authorities of this machine.
        """
        self._base_url = base_url
        self._headers = {
            "accept": "application/json",
            "accept-encoding": "identity",  # a few bytes must not become many
            "user-agent": "runengine",
            **({"authorization": f"Bearer {token}"} if token else {}),
        }
        self._tls = tls
        self._client: httpx.AsyncClient | None = None

    async def send(
        self, method: str, path: str, *, body: bytes | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """The answer to one request; how long it may take is the caller's affair.

        Raises:
            httpx.TransportError: there is none; `ConnectError` and `ConnectTimeout`: nothing was sent.
            AnswerTooLargeError: it is too long.
        """
        if self._client is None:
            raise RuntimeError("used outside `async with`")
        content_type = {"content-type": "application/json"} if body is not None else {}
        async with self._client.stream(
            method, self._base_url + path, content=body, headers={**content_type, **dict(headers)}
        ) as response:
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > MESSAGE_BYTES_MAX:
                    raise AnswerTooLargeError
            lowered = {name.lower(): value for name, value in response.headers.items()}
            return Answer(status=response.status_code, headers=lowered, body=bytes(content))

    async def __aenter__(self) -> Self:
        """Open the pool."""
        self._client = httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, keepalive_expiry=_KEEPALIVE_S),
            follow_redirects=False,
            trust_env=False,
            verify=self._tls or ssl.create_default_context(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; what is in flight ends."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

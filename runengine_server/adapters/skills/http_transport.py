"""Sends requests to one HTTP runner: bounded connections and bodies, no redirects, nothing from the environment."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp

from runengine_server.adapters.skills.call_reader import MESSAGE_BYTES_MAX

CONNECTIONS_MAX: Final = 500
_CONNECT_S: Final = 5.0
# Below the 5 s after which Node's servers close idle connections: none is used while it is being closed.
_KEEPALIVE_S: Final = 2.0


class NotConnectedError(Exception):
    """The runner cannot be reached: nothing was sent."""


class BrokenOffError(Exception):
    """The connection ended without a whole answer; the request may have been heard."""


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

    def __init__(self, base_url: str, *, token: str | None = None) -> None:
        """Prepare; nothing is dialled yet.

        Args:
            base_url: without a trailing slash.
            token: a bearer token.
        """
        self._base_url = base_url
        self._headers = {
            "accept": "application/json",
            "accept-encoding": "identity",  # a few bytes must not become many
            "user-agent": "runengine",
            **({"authorization": f"Bearer {token}"} if token else {}),
        }
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, method: str, path: str, *, body: bytes | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """The answer to one request; how long it may take is the caller's affair.

        Args:
            method: GET, POST or DELETE.
            path: below the base URL, percent-encoded.
            body: JSON.
            headers: further ones.

        Raises:
            NotConnectedError: the runner cannot be reached.
            BrokenOffError: it does not answer.
            AnswerTooLargeError: it answers at too great length.
        """
        if self._session is None:
            raise RuntimeError("used outside `async with`")
        all_headers = {**({"content-type": "application/json"} if body is not None else {}), **dict(headers)}
        try:
            async with self._session.request(
                method, self._base_url + path, data=body, headers=all_headers, allow_redirects=False
            ) as response:
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > MESSAGE_BYTES_MAX:
                        response.close()
                        raise AnswerTooLargeError
                lowered = {name.lower(): value for name, value in response.headers.items()}
                return Answer(status=response.status, headers=lowered, body=bytes(content))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as problem:
            raise NotConnectedError(str(problem)) from problem
        except (aiohttp.ClientError, OSError) as problem:
            raise BrokenOffError(f"{type(problem).__name__}: {problem}") from problem

    async def __aenter__(self) -> Self:
        """Open the pool."""
        connector = aiohttp.TCPConnector(
            limit=CONNECTIONS_MAX, keepalive_timeout=_KEEPALIVE_S, ssl=ssl.create_default_context()
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; what is in flight ends."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

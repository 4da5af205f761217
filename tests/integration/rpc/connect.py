"""The HTTP surface over a test's server, and calls of it by Connect and gRPC-Web."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_server.http.app import http_app
from runengine_server.http.server import HttpServer
from runengine_server.http.settings import HttpSettings

from ...support.connect_calls import CONTENT_TYPES, CallEnd, connect_end, envelope, read_stream

ORIGIN = "https://app.example"
ENGINE = "/runengine.v1.RunEngine"


class ConnectCaller:
    """A client that knows the wire formats."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Call by this client."""
        self.http = http

    async def unary(
        self, method: str, request: dict[str, Any] | bytes | None = None, *, token: str | None = "all", **headers: str
    ) -> tuple[int, Any]:
        """The status and the JSON of an answer to a Connect call with JSON."""
        answer = await self.http.post(
            method,
            headers={**_bearer(token), "content-type": "application/json", **_dashed(headers)},
            **({"content": request} if isinstance(request, bytes) else {"json": request or {}}),
        )
        return answer.status_code, answer.json() if answer.content else None

    async def refusal(self, method: str, request: Any = None, **options: Any) -> CallEnd:
        """How a Connect call with JSON was refused."""
        status, body = await self.unary(method, request, **options)
        assert status != 200, body
        return connect_end(body)

    @asynccontextmanager
    async def watching(
        self, protocol: str, *, token: str | None = "all", **fields: Any
    ) -> AsyncIterator[AsyncIterator[pb.WatchRunResponse | CallEnd]]:
        """The messages of a watch and how it ended; leaving the block closes the connection."""
        request = pb.WatchRunRequest(**fields)
        headers = {**_bearer(token), "content-type": CONTENT_TYPES[protocol]}
        body = envelope(protocol, request.SerializeToString())
        async with self.http.stream("POST", f"{ENGINE}/WatchRun", headers=headers, content=body) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"] == CONTENT_TYPES[protocol]
            yield _messages(protocol, answer)


async def connect_caller(served: Any) -> ConnectCaller:
    """The server's HTTP port is open, until the test ends, and this calls it."""
    settings = HttpSettings(cors_origins=[ORIGIN])
    server = HttpServer(http_app(served.services, served.server, settings), "127.0.0.1:0")
    await server.start()
    served.stack.push_async_callback(server.stop, 1)
    limits = httpx.Limits(max_keepalive_connections=0)
    client = httpx.AsyncClient(base_url=server.url, timeout=10, limits=limits)
    return ConnectCaller(await served.stack.enter_async_context(client))


async def _messages(protocol: str, answer: httpx.Response) -> AsyncIterator[pb.WatchRunResponse | CallEnd]:
    async for each in read_stream(protocol, answer):
        yield pb.WatchRunResponse.FromString(each) if isinstance(each, bytes) else each


def _bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}

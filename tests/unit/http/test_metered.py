"""What is told of HTTP requests: the route instead of the path, and an end for each, however it ends."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from runengine_server.http.metered import MeteredRequests

pytestmark = pytest.mark.anyio


class Told:
    """A RequestMeter that remembers."""

    def __init__(self) -> None:
        self.http: list[tuple[str, str, int]] = []
        self.durations_s: list[float] = []

    def rpc_answered(self, method: str, code: str, duration_s: float | None) -> None:
        raise AssertionError("there are no calls here")

    def http_answered(self, route: str, verb: str, status: int, duration_s: float) -> None:
        self.http.append((route, verb, status))
        self.durations_s.append(duration_s)


async def fine(request: Request) -> Response:
    return Response("fine", 201)


async def broken(request: Request) -> Response:
    raise ZeroDivisionError


async def endless(request: Request) -> Response:
    async def words():  # type: ignore[no-untyped-def]
        yield b"one"
        yield b"two"

    return StreamingResponse(words())


APP = Starlette(routes=[Route("/runs/{runId}", fine), Route("/broken", broken), Route("/events", endless)])


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def ignore(message: Message) -> None:
    pass


def request_for(path: str, verb: str = "GET") -> Scope:
    asgi = {"version": "3.0", "spec_version": "2.4"}
    return {"type": "http", "asgi": asgi, "method": verb, "path": path, "headers": [], "query_string": b""}


@pytest.mark.parametrize(
    ("path", "verb", "expected"),
    [
        ("/runs/a-secret", "GET", ("/runs/{runId}", "GET", 201)),
        ("/runs/a-secret", "DELETE", ("/runs/{runId}", "DELETE", 405)),
        ("/runs/a-secret", "A-SECRET", ("/runs/{runId}", "other", 405)),
        ("/nothing/a-secret", "GET", ("unknown", "GET", 404)),
        ("/events", "GET", ("/events", "GET", 200)),
    ],
)
async def test_each_request_is_told_once(path: str, verb: str, expected: tuple[str, str, int]) -> None:
    """A request is told with its route, verb and status, and with nothing that its sender made up."""
    told = Told()
    await MeteredRequests(APP, told)(request_for(path, verb), receive, ignore)
    assert told.http == [expected]
    assert told.durations_s[0] >= 0


async def test_a_broken_endpoint_is_told() -> None:
    """An endpoint that raises counts as the error that its caller got."""
    told = Told()
    with pytest.raises(ZeroDivisionError):
        await MeteredRequests(APP, told)(request_for("/broken"), receive, ignore)
    assert told.http == [("/broken", "GET", 500)]


async def test_who_leaves_before_the_answer() -> None:
    """A request whose answer never began counts as one that its sender gave up."""
    told = Told()

    async def gone(scope: Scope, receive: Receive, send: Send) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await MeteredRequests(gone, told)(request_for("/"), receive, ignore)
    assert told.http == [("unknown", "GET", 499)]

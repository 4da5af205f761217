"""A stream that breaks after it has begun says so, keeps the cause to the log, and can be gone on with."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import Message

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.events import RunEvent, RunStatusChanged, StepsSummary
from runengine_server.domain.ids import RunId, Tenant
from runengine_server.domain.states import RunStatus
from runengine_server.http.events import RunEvents
from runengine_server.http.server import HttpServer
from runengine_server.http.watch_tokens import RunReaders
from runengine_server.rpc.admission import Admission
from runengine_server.rpc.draining import Drain
from runengine_server.rpc.settings import RpcSettings
from runengine_server.rpc.watches import WatchRegistry
from runengine_server.service.messages import ToldEvent, WatchEvents, WatchMessage, WatchRequest
from runengine_server.service.services import Services

from ...support.server_sent_events import ServerSentEvent, read_events

pytestmark = pytest.mark.anyio

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/api/v1/runs/r/events",
    "query_string": b"",
    "headers": [],
}
SUMMARY = StepsSummary(total=1, pending=0, running=1, completed=0, skipped=0, failed=0, cancelled=0)

Watch = Callable[[WatchRequest], AsyncIterator[WatchMessage]]


class Everybody:
    """Lets everybody in."""

    async def authenticate(self, token: str | None) -> Caller:
        return Caller(principal="p", tenant=Tenant("t"), scopes=frozenset(Scope))


def message(sequence: int) -> WatchMessage:
    detail = RunStatusChanged(from_status=None, to_status=RunStatus.QUEUED, steps_summary=SUMMARY)
    event = RunEvent(sequence=sequence, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), detail=detail)
    return WatchMessage(run_id=RunId("r"), sequence=sequence, kind=WatchEvents(told=(ToldEvent(event),)))


def app(watch: Watch) -> Starlette:
    """The endpoint, of watches that say this."""

    class Scripted:
        def watch_run(self, caller: Caller, request: WatchRequest) -> AsyncIterator[WatchMessage]:
            return watch(request)

    services = cast("Services", Scripted())
    admission = Admission(Everybody(), Drain())
    events = RunEvents(services, WatchRegistry(RpcSettings()), admission, RunReaders(admission, services))
    return Starlette(routes=[events.endpoint()])


@asynccontextmanager
async def serving(watch: Watch) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server of it."""
    server = HttpServer(app(watch), "127.0.0.1:0")
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"{server.url}/api/v1", timeout=10) as http:
            yield http
    finally:
        await server.stop(1)


async def read(http: httpx.AsyncClient, last: str = "") -> list[ServerSentEvent]:
    """A stream up to its orderly end."""
    answer = await http.get("/runs/r/events", headers={"last-event-id": last} if last else {})
    assert answer.status_code == 200, answer.text
    return list(read_events(answer.text.splitlines()))


async def test_a_defect_in_a_stream_is_an_error_event(caplog: pytest.LogCaptureFixture) -> None:
    """What breaks a stream is told as INTERNAL with the id of the log; behind the last event the stream goes on."""

    async def watch(request: WatchRequest) -> AsyncIterator[WatchMessage]:
        after = request.after_sequence or 0
        yield message(after + 1)
        raise LookupError("secret")

    async with serving(watch) as http:
        told, error = await read(http)
        resumed, _ = await read(http, told.id)
    assert (told.id, resumed.id) == ("1", "2")
    assert (error.name, error.id) == ("error", "")
    refusal = error.data["error"]
    assert (refusal["code"], refusal["status"]) == ("INTERNAL", 500)
    assert "secret" not in str(error)
    logged = caplog.records[0]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2, caplog.text
    assert refusal["details"]["errorId"] in logged.getMessage()
    assert isinstance(logged.exc_info and logged.exc_info[1], LookupError)


async def test_a_stream_that_cannot_be_written_begins_no_second_answer() -> None:
    """When sending fails, nothing more is sent: the connection closes without an end, and the reader resumes."""

    async def watch(request: WatchRequest) -> AsyncIterator[WatchMessage]:
        yield message(1)

    begun: list[int] = []

    async def receive() -> Message:
        await anyio.sleep_forever()
        return {}

    async def send(part: Message) -> None:
        if part["type"] == "http.response.body":
            raise OSError("broken pipe")
        begun.append(part["status"])

    await app(watch)(SCOPE, receive, send)
    assert begun == [200]


async def test_a_defect_before_a_stream_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """What breaks before anything was sent has its status."""

    async def watch(request: WatchRequest) -> AsyncIterator[WatchMessage]:
        raise LookupError("secret")
        yield message(1)

    async with serving(watch) as http:
        answer = await http.get("/runs/r/events")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "INTERNAL")
    assert "secret" not in answer.text

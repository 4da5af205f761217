"""Downloads are bounded: in number, and in how long a reader may take nothing."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any, cast

import anyio
import anyio.lowlevel
import httpx
import pytest
from starlette.applications import Starlette

from runengine_server.domain.artifact import Artifact, ProducedArtifact
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import NotFoundError
from runengine_server.domain.ids import RunId, StepId, Tenant
from runengine_server.domain.states import OutputSource
from runengine_server.http import artifact_content, content_stream
from runengine_server.http.artifact_content import ArtifactContents
from runengine_server.http.watch_tokens import RunReaders
from runengine_server.rpc.admission import Admission
from runengine_server.rpc.draining import Drain
from runengine_server.service.messages import ArtifactContent
from runengine_server.service.services import Services

pytestmark = pytest.mark.anyio

ARTIFACT = Artifact(
    id="a",
    run_id=RunId("r"),
    step_id=StepId("s"),
    produced=ProducedArtifact(media_type="text/plain", uri="file:///x", content_hash="ab", size_bytes=4),
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    source=OutputSource.EXECUTED,
    source_run_id=RunId("r"),
    skill_id="k",
    skill_version="1",
)


class Bytes:
    """Four bytes; `gate` holds the last two back, `error` comes instead of the first."""

    size_bytes = 4

    def __init__(self, error: Exception | None = None) -> None:
        self.gate = anyio.Event()
        self.is_closed = False
        self._error = error

    async def chunks(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        try:
            if self._error is not None:
                raise self._error
            yield b"ab"
            await self.gate.wait()
            yield b"cd"
        finally:
            self.is_closed = True


class Everybody:
    """Lets everybody in."""

    async def authenticate(self, token: str | None) -> Caller:
        return Caller(principal="p", tenant=Tenant("t"), scopes=frozenset(Scope))


def app(found: Bytes) -> Starlette:
    class Scripted:
        async def open_artifact(self, caller: Caller, artifact_id: str) -> ArtifactContent:
            return ArtifactContent(artifact=ARTIFACT, found=found)

    services = cast("Services", Scripted())
    admission = Admission(Everybody(), Drain())
    return Starlette(routes=ArtifactContents(services, admission, RunReaders(admission, services)).endpoints())


SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/api/v1/artifacts/a/content",
    "query_string": b"",
    "headers": [],
}


async def test_more_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """While as many are sent as may be, another is told to come again; afterwards it gets its bytes."""
    monkeypatch.setattr(artifact_content, "DOWNLOADS_MAX", 1)
    found = Bytes()
    served = app(found)
    begun = anyio.Event()

    async def send(message: Any) -> None:
        begun.set()

    async with (
        anyio.create_task_group() as tasks,
        httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://engine/api/v1") as http,
    ):
        tasks.start_soon(served, SCOPE, anyio.sleep_forever, send)
        await begun.wait()
        refused = await http.get("/artifacts/a/content")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "TOO_MANY_DOWNLOADS")
        assert refused.headers["retry-after"] == "1"
        found.gate.set()
        while not found.is_closed:
            await anyio.lowlevel.checkpoint()
        assert (await http.get("/artifacts/a/content")).content == b"abcd"


async def test_a_reader_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending that does not go on ends the answer, closes the bytes and makes room."""
    monkeypatch.setattr(content_stream, "READER_S_MAX", 0.01)
    found = Bytes()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await anyio.sleep_forever()

    with anyio.fail_after(5):
        await app(found)(SCOPE, anyio.sleep_forever, send)
    assert found.is_closed


async def test_a_reader_that_is_gone_is_sent_nothing_more() -> None:
    """When the connection closes, nothing further is read from the store."""
    found = Bytes()

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        """Like a server whose reader is gone: takes everything."""

    with anyio.fail_after(5):
        await app(found)(SCOPE, receive, send)
    assert found.is_closed


async def test_bytes_that_go_before_the_first_are_an_answer() -> None:
    """What is wrong before anything was sent has its status."""
    found = Bytes(NotFoundError("ARTIFACT_GONE", "went"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app(found)), base_url="http://engine/api/v1") as http:
        answer = await http.get("/artifacts/a/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ARTIFACT_GONE")

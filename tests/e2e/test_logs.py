"""What a real server logs: the quickstart's lines on a terminal and as JSON, and never a token or a payload."""

import re
import socket
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import orjson
import pytest
import redis

from runengine_client import RunEngineClient

from ..support.documents import blocks
from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from .workflows import DEMO, demo, single

pytestmark = pytest.mark.anyio

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
SEED_LINES = (
    rf"Run started: runId={UUID}, workflow=demo",
    rf"Step started: runId={UUID}, stepId=music",
    rf"Step completed: runId={UUID}, stepId=music, durationMs=\d+",
    rf"Step skipped \(cache hit\): runId={UUID}, stepId=music",
    rf"Step failed: runId={UUID}, stepId=only, error=FLAKY, attempt=2",
    rf"Run completed: runId={UUID}, totalDurationMs=\d+",
    rf"Run failed: runId={UUID}, failedStep=only, error=MAX_RETRIES_EXCEEDED",
    r"Cache hit \(Redis\): demo:music:[0-9a-f]{6}\.\.\.",
    r"Cache hit \(DB\): demo:music:[0-9a-f]{6}\.\.\.",
    r"Cache miss: demo:music:[0-9a-f]{6}\.\.\.",
)

PAYLOAD = f"payload-{uuid4().hex}"
STRANGE = f"strange-token-{uuid4().hex}"


@pytest.fixture(params=["console", "json"])
def logging_engine(engine_settings: EngineSettings, request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    """A server that logs everything there is, in one of the formats."""
    log_format: str = request.param
    with EngineProcess(
        engine_settings, f"logs-{log_format}", RUNENGINE_LOG_FORMAT=log_format, RUNENGINE_LOG_LEVEL="debug"
    ) as process:
        yield process


def said(engine: EngineProcess) -> Sequence[str]:
    """The lines of the log, out of their JSON where they are in it; what is printed at the start stays outside."""
    lines = engine.log.splitlines()
    if not any(line.startswith("{") for line in lines):
        return lines
    first = next(at for at, line in enumerate(lines) if "listening" in line) + 1
    parsed: list[dict[str, Any]] = [orjson.loads(line) for line in lines[first:]]
    assert all({"timestamp", "level", "message"} <= set(line) for line in parsed)
    return [line["message"] for line in parsed]


async def test_the_lines_of_the_quickstart(logging_engine: EngineProcess, stack: Any) -> None:
    """Runs that complete, are answered by either tier of the cache, and fail leave all ten lines, in both formats."""
    async with logging_engine.client() as client:
        await client.register_workflow(demo())
        payload = {"brief": uuid4().hex}
        await run(client, DEMO, payload)
        await run(client, DEMO, payload)
        with redis.from_url(stack.redis_url) as hot:
            hot.flushall()
        await run(client, DEMO, payload)
        retried = {"max_attempts": 2, "backoff_ms": 1}
        await client.register_workflow(single("logs.flaky", skill="t.flaky", input={"failures": 9}, **retried))
        await run(client, "logs.flaky", {"given": None})
    logging_engine.wait_for_text("Run failed: ")
    lines = said(logging_engine)
    for expected in SEED_LINES:
        assert [line for line in lines if re.fullmatch(rf"\[RunEngine\] {expected}", line)], expected


def test_the_quickstart_shows_them() -> None:
    """docs/quickstart.md shows each of the ten, and nothing that no server says."""
    (shown,) = [block for block in blocks("docs/quickstart.md", "text") if "[RunEngine]" in block]
    general = [re.sub("demo|music|only|FLAKY", lambda _: r"[\w.]+", line) for line in SEED_LINES]
    for line, expected in zip(shown.splitlines(), general, strict=True):
        assert re.fullmatch(rf"\[RunEngine\] {expected}", line), line


async def run(client: RunEngineClient, workflow: str, payload: dict[str, object]) -> None:
    await (await client.start(workflow, payload)).wait()


async def test_no_token_and_no_payload(logging_engine: EngineProcess) -> None:
    """Whatever is sent, in a header, a query, a path or a body, well-formed or not: none of it is in the log."""
    async with logging_engine.client() as client:
        await client.register_workflow(demo())
        handle = await client.start(DEMO, {"brief": PAYLOAD})
        await handle.wait()
        watching = (await client.create_watch_token(handle.id)).token
        with pytest.raises(Exception, match="brief"):
            await client.start(DEMO, {"other": PAYLOAD})
    bearers = (TOKENS.admin, STRANGE, watching)
    async with httpx.AsyncClient(base_url=logging_engine.http_url) as http:
        for path in ("/api/v1/runs", f"/api/v1/runs/{handle.id}", f"/api/v1/runs/{handle.id}/events", "/nowhere"):
            for token in bearers:
                await http.get(path, headers={"authorization": f"Bearer {token}"})
                await http.get(path, params={"access_token": token, "token": token})
        start = {"workflowName": DEMO, "triggerPayload": {"brief": PAYLOAD}}
        header = {"authorization": f"Bearer {TOKENS.admin}"}
        assert (await http.post("/api/v1/runs", json=start, headers=header)).status_code == 202
        await http.post(
            "/api/v1/runs", content=f'{{"a": "{PAYLOAD}', headers=header | {"content-type": "application/json"}
        )
        await http.post(f"/api/v1/runs?access_token={STRANGE}", content=PAYLOAD, headers=header)
    async with httpx.AsyncClient(base_url=logging_engine.ops_url) as ops:
        await ops.get("/metrics", params={"access_token": TOKENS.admin}, headers=header)
    for port_of in (logging_engine.http_url, logging_engine.ops_url):
        for request in (
            f"GET /api/v1/runs?access_token={STRANGE} NONSENSE\r\n{PAYLOAD}\r\n\r\n",
            f"GET /api/v1/runs?access_token={STRANGE} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n"
            f"connection: upgrade\r\nauthorization: Bearer {TOKENS.admin}\r\n\r\n",
            f"POST /api/v1/runs HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n"
            f"authorization: {STRANGE}\r\n\r\n{PAYLOAD}",
        ):
            send_raw(port_of, request)
    said(logging_engine)
    secrets = [*bearers, TOKENS.stranger, PAYLOAD]
    assert [secret for secret in secrets if secret in logging_engine.log] == []


def send_raw(url: str, request: str) -> None:
    """Bytes that no client library would send; the connection is given up after the first words of an answer."""
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        connection.recv(100)

"""A runner that speaks HTTP/JSON only, around functions of this process: answers at once, or accepts and calls back.

It does what the contract asks of a runner: one execution for an idempotency key, successes remembered, the newest
fencing token used. `Traffic` is what the test sees and decides.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runengine_server.adapters.memory.skill_calls import MemorySkillCalls
from runengine_server.adapters.skills.http_callbacks import HttpCallbacks
from runengine_server.adapters.skills.http_runner import HttpSkillRunner
from runengine_server.adapters.skills.local_runner import LocalSkillRunner
from runengine_server.adapters.skills.targets import parse_endpoint
from runengine_server.adapters.tokens.anonymous import AnonymousAuthenticator
from runengine_server.domain.ids import RunId, SkillId, StepId, Tenant
from runengine_server.domain.trace_context import TraceContext
from runengine_server.http.server import HttpServer
from runengine_server.http.skill_callbacks import skill_callback_endpoint
from runengine_server.ports.skill_calls import SkillCalls
from runengine_server.ports.skill_runner import Failed, Outcome, SkillCall
from runengine_server.rpc.admission import Admission
from runengine_server.rpc.draining import Drain

JSON_TYPE = {"content-type": "application/json"}

Say = Callable[[str, dict[str, Any]], Awaitable[None]]


@dataclass
class HttpRunner:
    """The runner's application; `is_async` decides how calls are answered."""

    skills: LocalSkillRunner
    is_async: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    running: dict[str, anyio.CancelScope] = field(default_factory=dict)
    tasks: Any = None

    def app(self) -> Starlette:
        """Its routes."""
        return Starlette(
            routes=[
                Route("/execute", self._execute, methods=["POST"]),
                Route("/skills", self._list),
                Route("/calls/{key:path}", self._cancel, methods=["DELETE"]),
            ]
        )

    async def _execute(self, request: Request) -> Response:
        body = await request.body()
        order = orjson.loads(body)
        assert hashlib.sha256(_input_of(body)).hexdigest() == order["inputHash"]
        self.requests.append(order)
        self.headers.append(dict(request.headers))
        order["traceparent"] = request.headers.get("traceparent")
        if self.is_async:
            self.tasks.start_soon(self._work, order)
            return JSONResponse({"workerId": "http-1"}, status_code=202)
        told: list[dict[str, Any]] = []
        outcome = await self._outcome(order, told)
        if outcome is None:
            return Response(status_code=499)
        async with _callback(order, self.statuses) as say:
            for progress in told:
                await say("progress", progress)
        document = _document(outcome)
        return JSONResponse(document, status_code=200 if "output" in document else 422)

    async def _work(self, order: dict[str, Any]) -> None:
        told: list[dict[str, Any]] = []
        outcome: Outcome | None = None
        async with _callback(order, self.statuses) as say:
            async with anyio.create_task_group() as beats:
                beats.start_soon(_beat, say, order["heartbeatIntervalMs"] / 1000)
                outcome = await self._outcome(order, told)
                beats.cancel_scope.cancel()
            if outcome is None:
                return
            for progress in told:
                await say("progress", progress)
            document = _document(outcome)
            await say("complete" if "output" in document else "fail", document)

    async def _outcome(self, order: dict[str, Any], told: list[dict[str, Any]]) -> Outcome | None:
        """The skill's outcome, and what it told of its progress; None when the call was cancelled meanwhile."""
        with anyio.CancelScope() as scope:
            self.running[order["idempotencyKey"]] = scope
            return await self.skills.execute(
                _call(order), lambda fraction, message, _: told.append({"fraction": fraction, "message": message})
            )
        return None

    async def _list(self, request: Request) -> Response:
        skills = [
            {
                "skillId": info.skill_id,
                "version": info.version,
                "cacheVersion": info.cache_version,
                "description": info.description,
                "maxConcurrency": info.max_concurrency,
                "defaultTimeoutMs": round((info.default_timeout_s or 0) * 1000),
            }
            for info in self.skills.catalogue().values()
        ]
        return JSONResponse({"skills": skills})

    async def _cancel(self, request: Request) -> Response:
        key = request.path_params["key"]
        self.cancelled.append(key)
        if key in self.running:
            self.running[key].cancel()
        return Response(status_code=204)


@asynccontextmanager
async def serving(app: Any, port: int = 0) -> AsyncIterator[str]:
    """The application, answering at this URL."""
    server = HttpServer(app, f"127.0.0.1:{port}")
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop(0.1)


@asynccontextmanager
async def http_runner(
    runner: HttpRunner, *, calls: SkillCalls | None = None, heartbeat_interval_s: float = 0.2
) -> AsyncIterator[HttpSkillRunner]:
    """An engine's runner for it, with a surface that takes its callbacks."""
    callbacks = HttpCallbacks(calls or MemorySkillCalls(), read_s=0.02)
    async with AsyncExitStack() as stack:
        runner.tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(runner.tasks.cancel_scope.cancel)
        runner_url = await stack.enter_async_context(serving(runner.app()))
        callbacks.base_url = await stack.enter_async_context(callback_surface(callbacks))
        runner.tasks.start_soon(callbacks.run)
        engine = HttpSkillRunner(
            parse_endpoint(runner_url), callbacks=callbacks, heartbeat_interval_s=heartbeat_interval_s
        )
        await stack.enter_async_context(engine)
        await engine.wait_until_asked()
        yield engine


@asynccontextmanager
async def callback_surface(callbacks: HttpCallbacks) -> AsyncIterator[str]:
    """Where these callbacks are taken."""
    admission = Admission(AnonymousAuthenticator(), Drain())
    async with serving(Starlette(routes=[skill_callback_endpoint(callbacks, admission, 3 << 20)])) as url:
        yield url


@asynccontextmanager
async def _callback(order: dict[str, Any], statuses: list[int]) -> AsyncIterator[Say]:
    """Says something of this call to whichever engine answers."""
    callback = order["callback"]
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {callback['token']}"}) as client:

        async def say(kind: str, document: dict[str, Any]) -> None:
            content = orjson.dumps({**document, "fencingToken": order["fencingToken"]})
            answer = await client.post(f"{callback['url']}/{kind}", content=content, headers=JSON_TYPE)
            statuses.append(answer.status_code)

        yield say


async def _beat(say: Say, interval_s: float) -> None:
    while True:
        await say("heartbeat", {})
        await anyio.sleep(interval_s)


def _input_of(body: bytes) -> bytes:
    """The input as it stands in the body, byte for byte."""
    return body.partition(b'"input":')[2].partition(b',"inputHash":')[0]


def _call(order: dict[str, Any]) -> SkillCall:
    return SkillCall(
        skill_id=SkillId(order["skillId"]),
        idempotency_key=order["idempotencyKey"],
        run_id=RunId(order["runId"]),
        step_id=StepId(order["stepId"]),
        attempt=order["attempt"],
        fencing_token=order["fencingToken"],
        input_json=orjson.dumps(order["input"]),
        input_hash=order["inputHash"],
        workflow_name=order["workflowName"],
        tenant=Tenant(order["tenant"]),
        timeout_s=order["timeoutMs"] / 1000,
        trace=TraceContext(traceparent=order["traceparent"]) if order["traceparent"] else None,
    )


def _document(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Failed):
        failure = outcome.failure
        error: dict[str, Any] = {"code": failure.code, "message": failure.message, "retryable": failure.retryable}
        if outcome.retry_after_s is not None:
            error["retryAfterMs"] = outcome.retry_after_s * 1000
        if failure.details is not None:
            error["details"] = failure.details
        return {"error": error}
    return {
        "output": orjson.loads(outcome.output_json),
        "artifacts": [
            {
                "type": artifact.media_type,
                "uri": artifact.uri,
                "contentHash": artifact.content_hash,
                "sizeBytes": artifact.size_bytes,
                "filename": artifact.filename,
                "metadata": artifact.metadata,
                "madeFrom": list(artifact.made_from),
            }
            for artifact in outcome.artifacts
        ],
        "doNotCache": outcome.do_not_cache,
        "skillVersion": outcome.skill_version,
        "cacheVersion": outcome.cache_version,
        "workerId": "http-1",
    }

"""Calling skills over HTTP: what is sent, what every answer means, who may end a call by callback, when and where."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runengine_server.adapters.embedded.port import free_port
from runengine_server.adapters.memory.skill_calls import MemorySkillCalls
from runengine_server.adapters.skills.http_callbacks import HttpCallbacks
from runengine_server.adapters.skills.http_runner import HttpSkillRunner
from runengine_server.adapters.skills.targets import parse_endpoint
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import SkillId
from runengine_server.ports.skill_runner import Failed, Outcome, SkillCall, Succeeded

from ...support.http_runner import callback_surface, serving
from .conftest import CallFactory

pytestmark = pytest.mark.anyio

HEARTBEAT_S = 0.2
OUTPUT = {"output": {"x": 1}}


@dataclass
class Script:
    """A runner that answers what the test says, and keeps what it is sent."""

    answer: Callable[[dict[str, Any]], Awaitable[Response]]
    listed: Response = field(default_factory=lambda: Response(status_code=404))
    orders: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    deleted: list[tuple[str, str]] = field(default_factory=list)
    accepted: anyio.Event = field(default_factory=anyio.Event)

    def app(self) -> Starlette:
        """Below `/skills-of`, to see that a path in the base URL is kept."""
        return Starlette(
            routes=[
                Route("/skills-of/execute", self._execute, methods=["POST"]),
                Route("/skills-of/skills", self._list),
                Route("/skills-of/calls/{key:path}", self._delete, methods=["DELETE"]),
            ]
        )

    async def _execute(self, request: Request) -> Response:
        self.orders.append(json.loads(await request.body()))
        self.headers.append(dict(request.headers))
        answer = await self.answer(self.orders[-1])
        if answer.status_code == 202:
            self.accepted.set()
        return answer

    async def _list(self, request: Request) -> Response:
        return self.listed

    async def _delete(self, request: Request) -> Response:
        self.deleted.append((request.path_params["key"], request.headers["runengine-fencing-token"]))
        return Response(status_code=204)


def says(status: int, document: object = b"", **headers: str) -> Script:
    """A runner that always answers this."""

    async def answer(order: dict[str, Any]) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        return Response(content, status_code=status, headers=named)

    return Script(answer)


@asynccontextmanager
async def engine_for(
    script: Script, *, calls: MemorySkillCalls | None = None, **options: Any
) -> AsyncIterator[HttpSkillRunner]:
    """An engine with this runner, and a surface of its own for callbacks."""
    async with AsyncExitStack() as stack:
        callbacks = HttpCallbacks(calls or MemorySkillCalls(), read_s=0.02)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(callbacks.run)
        callbacks.base_url = await stack.enter_async_context(callback_surface(callbacks))
        url = await stack.enter_async_context(serving(script.app()))
        endpoint = parse_endpoint(f"{url}/skills-of/")
        options = {"heartbeat_interval_s": HEARTBEAT_S, **options}
        runner = await stack.enter_async_context(HttpSkillRunner(endpoint, callbacks=callbacks, **options))
        await runner.wait_until_asked()
        yield runner


async def run(runner: HttpSkillRunner, call: SkillCall, progress: list[tuple[float, str]] | None = None) -> Outcome:
    """The attempt's outcome, within 10 s."""
    heard = progress if progress is not None else []
    with anyio.fail_after(10):
        return await runner.execute(call, lambda fraction, message, _: heard.append((fraction, message)))


async def call_back(order: dict[str, Any], kind: str, *, at: str | None = None, **members: Any) -> httpx.Response:
    """The answer to a callback of this order; `at` another engine, `secret` another secret."""
    callback = order["callback"]
    url = (
        callback["url"] if at is None else at + callback["url"].partition("/api")[1] + callback["url"].split("/api")[1]
    )
    secret = members.pop("secret", callback["token"])
    content = members.pop("content", None) or json.dumps({"fencingToken": order["fencingToken"], **members}).encode()
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    async with httpx.AsyncClient(timeout=5) as client:
        return await client.post(f"{url}/{kind}", content=content, headers=headers)


@dataclass
class Attempt:
    """An attempt in flight."""

    outcome: Outcome | None = None
    ended: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    progress: list[tuple[float, str]] = field(default_factory=list)

    async def execute(self, runner: HttpSkillRunner, call: SkillCall) -> None:
        """Run it."""
        with self.scope:
            self.outcome = await run(runner, call, self.progress)
        self.ended.set()

    async def result(self) -> Outcome:
        """Its outcome."""
        with anyio.fail_after(5):
            await self.ended.wait()
        assert self.outcome is not None
        return self.outcome


@asynccontextmanager
async def attempt_of(runner: HttpSkillRunner, call: SkillCall, script: Script) -> AsyncIterator[Attempt]:
    """An attempt that its runner has accepted."""
    async with anyio.create_task_group() as tasks:
        attempt = Attempt()
        tasks.start_soon(attempt.execute, runner, call)
        with anyio.fail_after(5):
            await script.accepted.wait()
        yield attempt
        tasks.cancel_scope.cancel()


async def until_forgotten(order: dict[str, Any]) -> None:
    """Nobody waits for the call any more; whoever did forgets it at its next look."""
    with anyio.fail_after(5):
        while (await call_back(order, "heartbeat")).status_code != 404:  # noqa: ASYNC110 - it says nothing by itself
            await anyio.sleep(0.01)


def failure(outcome: Outcome) -> Failure:
    """The failure it must be."""
    assert isinstance(outcome, Failed), outcome
    return outcome.failure


async def test_the_request_carries_the_attempt(make_call: CallFactory) -> None:
    """Body and headers are what the contract says; the token is in the header only."""
    script = says(200, OUTPUT)
    call = make_call({"é": 1.5}, attempt=2, fencing_token=7)
    async with engine_for(script, token="s3cret", call_metadata=lambda _: [("traceparent", "00-ab-cd-01")]) as runner:
        assert isinstance(await run(runner, call), Succeeded)
    (order,), (headers,) = script.orders, script.headers
    deadline, timeout_ms, callback = order.pop("deadline"), order.pop("timeoutMs"), order.pop("callback")
    assert order == {
        "skillId": "t.work",
        "idempotencyKey": call.idempotency_key,
        "runId": "run",
        "stepId": "step",
        "attempt": 2,
        "fencingToken": 7,
        "input": {"é": 1.5},
        "inputHash": call.input_hash,
        "heartbeatIntervalMs": 200,
        "workflowName": "w.v1",
        "tenant": "acme",
    }
    assert deadline.endswith("Z") and 19_000 < timeout_ms <= 20_000
    assert callback["url"].startswith("http://127.0.0.1:") and len(callback["token"]) >= 40
    assert headers["authorization"] == "Bearer s3cret"
    assert headers["idempotency-key"] == call.idempotency_key
    assert headers["traceparent"] == "00-ab-cd-01"
    assert "s3cret" not in json.dumps(script.orders)


@pytest.mark.parametrize(
    ("status", "document", "headers", "code", "is_retryable", "retry_after_s"),
    [
        (422, {"error": {"code": "QUOTA", "message": "m"}}, {}, "QUOTA", False, None),
        (422, {"error": {"code": "QUOTA", "retryable": True, "retryAfterMs": 1500}}, {}, "QUOTA", True, 1.5),
        (500, {"error": {"code": "BROKEN", "message": "m"}}, {}, "BROKEN", True, None),
        (500, {"error": {"code": "BROKEN", "retryable": False}}, {}, "BROKEN", False, None),
        (500, {"error": {"code": "not a code"}}, {}, "SKILL_FAILED", True, None),
        (200, {"error": {"code": "QUOTA", "message": "m"}}, {}, "QUOTA", False, None),
        (429, b"slow down", {"retry_after": "7"}, "SKILL_UNAVAILABLE", True, 7.0),
        (503, b"", {"retry_after": "3"}, "SKILL_UNAVAILABLE", True, 3.0),
        (503, {"error": {"code": "FULL", "retryAfterMs": 250}}, {"retry_after": "3"}, "FULL", True, 0.25),
        (502, b"<html>", {}, "SKILL_UNAVAILABLE", True, None),
        (500, {"statusCode": 500, "message": "Internal server error"}, {}, "SKILL_FAILED", True, None),
        (404, {"statusCode": 404, "error": "Not Found"}, {}, "SKILL_UNAVAILABLE", False, None),
        (401, b"", {}, "SKILL_UNAVAILABLE", False, None),
        (400, b"", {}, "SKILL_FAILED", False, None),
        (200, b"{not json", {}, "SKILL_PROTOCOL_ERROR", True, None),
        (200, [], {}, "SKILL_PROTOCOL_ERROR", True, None),
        (200, {"result": {}}, {}, "SKILL_PROTOCOL_ERROR", True, None),
        (200, b'{"output": {}, "output": {}}', {}, "OUTPUT_INVALID", False, None),
        (200, b'{"output": {"x": NaN}}', {}, "OUTPUT_INVALID", False, None),
        (200, b'{"output": {"x": 1e400}}', {}, "OUTPUT_INVALID", False, None),
        (200, {"output": {}, "artifacts": [{"type": "text/plain"}]}, {}, "SKILL_PROTOCOL_ERROR", True, None),
        (200, {"output": {}, "artifacts": {}}, {}, "SKILL_PROTOCOL_ERROR", True, None),
        (200, {"output": {}, "skillVersion": 3}, {}, "SKILL_PROTOCOL_ERROR", True, None),
        (200, {"output": {"x": "y" * (1 << 20)}}, {}, "OUTPUT_TOO_LARGE", False, None),
        (200, {"output": {"x": "y" * (4 << 20)}}, {}, "OUTPUT_TOO_LARGE", False, None),
        (202, {"workerId": 3}, {}, "SKILL_PROTOCOL_ERROR", True, None),
        (204, b"", {}, "SKILL_PROTOCOL_ERROR", True, None),
        (307, b"", {"location": "http://127.0.0.1:1/elsewhere"}, "SKILL_PROTOCOL_ERROR", True, None),
    ],
)
async def test_what_answers_mean(
    make_call: CallFactory, status: int, document: object, headers: dict[str, str], code: str, is_retryable: bool,
    retry_after_s: float | None,
) -> None:  # fmt: skip
    """Every status and body becomes the outcome that the contract says; nobody follows a redirect."""
    script = says(status, document, **headers)
    async with engine_for(script) as runner:
        outcome = await run(runner, make_call())
    told = failure(outcome)
    assert (told.code, told.retryable) == (code, is_retryable), told
    assert isinstance(outcome, Failed) and outcome.retry_after_s == retry_after_s
    assert len(script.orders) == 1


async def test_an_answer_may_name_artifacts_and_versions(make_call: CallFactory) -> None:
    """What a 200 says beside the output arrives."""
    artifact = {"type": "text/plain", "uri": "s3://b/1", "contentHash": "a" * 64, "sizeBytes": 3, "unknown": 1}
    script = says(
        200, {**OUTPUT, "artifacts": [artifact], "doNotCache": True, "skillVersion": "2", "cacheVersion": "c"}
    )
    script.listed = JSONResponse({"skills": [{"skillId": "t.work", "version": "2", "cacheVersion": "c"}]})
    async with engine_for(script) as runner:
        outcome = await run(runner, make_call())
    assert isinstance(outcome, Succeeded)
    assert json.loads(outcome.output_json) == {"x": 1}
    assert (outcome.do_not_cache, outcome.skill_version, outcome.cache_version) == (True, "2", "c")
    assert [(each.uri, each.size_bytes) for each in outcome.artifacts] == [("s3://b/1", 3)]


async def test_a_service_without_a_list_has_any_skill(make_call: CallFactory) -> None:
    """Where nothing lists skills each is taken to exist in one version, whatever answers say of versions."""
    async with engine_for(says(200, {**OUTPUT, "cacheVersion": "7"})) as runner:
        known = runner.availability(SkillId("t.anything"))
        outcome = await run(runner, make_call())
    assert known.is_catalogue_known and known.cache_version == ""
    assert isinstance(outcome, Succeeded) and outcome.cache_version == ""


async def test_a_list_that_cannot_be_read_is_no_list(make_call: CallFactory) -> None:
    """A runner whose list is broken is not known, as one that is away; its calls are made."""
    script = says(200, OUTPUT)
    script.listed = JSONResponse({"skills": [{"skillId": 5}]})
    async with engine_for(script) as runner:
        assert not runner.availability(SkillId("t.work")).is_catalogue_known
        assert isinstance(await run(runner, make_call()), Succeeded)


async def test_a_runner_that_starts_late_is_waited_for(make_call: CallFactory) -> None:
    """A connection that is refused is tried again for a while; nothing was sent, so nothing runs twice."""
    script, port = says(200, OUTPUT), free_port()
    async with AsyncExitStack() as stack:
        callbacks = HttpCallbacks(MemorySkillCalls(), base_url="http://127.0.0.1:1")
        endpoint = parse_endpoint(f"http://127.0.0.1:{port}/skills-of")
        runner = await stack.enter_async_context(HttpSkillRunner(endpoint, callbacks=callbacks))
        attempt = Attempt()
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(attempt.execute, runner, make_call())
        await runner.wait_until_asked()
        await stack.enter_async_context(serving(script.app(), port))
        assert isinstance(await attempt.result(), Succeeded)
    assert len(script.orders) == 1


async def test_a_runner_that_is_away_is_not_available(make_call: CallFactory) -> None:
    """After its time the attempt fails, to be tried again."""
    callbacks = HttpCallbacks(MemorySkillCalls(), base_url="http://127.0.0.1:1")
    endpoint = parse_endpoint(f"http://127.0.0.1:{free_port()}")
    async with HttpSkillRunner(endpoint, callbacks=callbacks, connected_within_s=0.3) as runner:
        told = failure(await run(runner, make_call()))
    assert (told.code, told.retryable) == ("SKILL_UNAVAILABLE", True)


async def test_a_runner_that_breaks_off_is_not_available(make_call: CallFactory) -> None:
    """A connection that ends without an answer fails the attempt, to be tried again."""

    async def hang_up(order: dict[str, Any]) -> Response:
        raise ConnectionAbortedError  # the server answers nothing after the headers of a broken stream

    script = Script(hang_up)

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()

    callbacks = HttpCallbacks(MemorySkillCalls(), base_url="http://127.0.0.1:1")
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        async with HttpSkillRunner(parse_endpoint(f"http://127.0.0.1:{port}"), callbacks=callbacks) as runner:
            told = failure(await run(runner, make_call()))
        tasks.cancel_scope.cancel()
    assert (told.code, told.retryable) == ("SKILL_UNAVAILABLE", True)
    assert script.orders == []


async def test_a_callback_ends_the_call_once(make_call: CallFactory) -> None:
    """The first answer counts and is acknowledged, the same again too; another one, or a heartbeat, is refused."""
    script = says(202, {"workerId": "w9"})
    async with engine_for(script) as runner, attempt_of(runner, make_call(), script) as attempt:
        (order,) = script.orders
        assert (await call_back(order, "heartbeat")).json() == {"status": "taken"}
        assert (await call_back(order, "progress", fraction=0.5, message="half")).status_code == 200
        assert (await call_back(order, "complete", **OUTPUT)).json() == {"status": "taken"}
        outcome = await attempt.result()
        assert (await call_back(order, "complete", **OUTPUT)).json() == {"status": "repeated"}
        other = await call_back(order, "complete", output={"x": 2})
        assert (other.status_code, other.json()["error"]["code"]) == (409, "SKILL_CALL_ENDED")
        assert (await call_back(order, "fail", error={"code": "NO"})).status_code == 409
        assert (await call_back(order, "heartbeat")).status_code == 409
    assert isinstance(outcome, Succeeded)
    assert (json.loads(outcome.output_json), outcome.worker_id) == ({"x": 1}, "w9")
    assert attempt.progress == [(0.5, "half")]


async def test_a_failure_may_come_by_callback(make_call: CallFactory) -> None:
    """A failed call has the runner's words."""
    script = says(202)
    async with engine_for(script) as runner, attempt_of(runner, make_call(), script) as attempt:
        error = {"code": "QUOTA", "message": "no", "retryable": True, "retryAfterMs": 1500}
        assert (await call_back(script.orders[0], "fail", error=error)).status_code == 200
        outcome = await attempt.result()
    assert failure(outcome) == Failure(code="QUOTA", message="no", retryable=True)
    assert isinstance(outcome, Failed) and outcome.retry_after_s == 1.5


async def test_a_callback_may_come_before_the_202(make_call: CallFactory) -> None:
    """The call is known before its runner is asked, so that the quickest runner is heard."""
    statuses = []

    async def answer(order: dict[str, Any]) -> Response:
        statuses.append((await call_back(order, "complete", **OUTPUT)).status_code)
        return JSONResponse({}, status_code=202)

    async with engine_for(Script(answer)) as runner:
        assert isinstance(await run(runner, make_call()), Succeeded)
    assert statuses == [200]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"fencingToken": 0}, 409, "FENCING_TOKEN_STALE"),
        ({"fencingToken": 2}, 409, "FENCING_TOKEN_STALE"),
        ({"secret": "guess"}, 404, "SKILL_CALL_NOT_FOUND"),
        ({"fencingToken": "1"}, 400, "VALIDATION_FAILED"),
        ({"content": b"{}"}, 400, "VALIDATION_FAILED"),
        ({"content": b"[1"}, 400, "VALIDATION_FAILED"),
        ({"content": b'{"fencingToken": 1, "output": ' + b'"x"' * (1 << 20) + b"}"}, 429, "PAYLOAD_TOO_LARGE"),
        ({"secret": ""}, 401, "TOKEN_MISSING"),
    ],
)
async def test_refused_callbacks_change_nothing(
    make_call: CallFactory, changes: dict[str, Any], status: int, code: str
) -> None:
    """A wrong token or secret, or a body nobody can read, is refused; the call goes on to its real end."""
    script = says(202)
    async with engine_for(script) as runner, attempt_of(runner, make_call(), script) as attempt:
        (order,) = script.orders
        refused = await call_back(order, "complete", **{**OUTPUT, **changes})
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        assert attempt.outcome is None
        assert (await call_back(order, "complete", **OUTPUT)).status_code == 200
        assert isinstance(await attempt.result(), Succeeded)


async def test_a_callback_that_breaks_the_contract_ends_the_call(make_call: CallFactory) -> None:
    """A runner that sends no output is told so, and its attempt fails as over gRPC."""
    script = says(202)
    async with engine_for(script) as runner, attempt_of(runner, make_call(), script) as attempt:
        refused = await call_back(script.orders[0], "complete", result={})
        told = failure(await attempt.result())
    assert refused.status_code == 400 and "output" in refused.json()["error"]["message"]
    assert (told.code, told.retryable) == ("SKILL_PROTOCOL_ERROR", True)


async def test_a_silent_runner_is_given_up(make_call: CallFactory) -> None:
    """Three heartbeat intervals after it accepted the attempt fails; the runner may still finish for the next one."""
    script = says(202, {"workerId": "w1"})
    async with engine_for(script) as runner:
        outcome = await run(runner, make_call())
        assert failure(outcome).code == "HEARTBEAT_TIMEOUT" and failure(outcome).retryable
        assert (await call_back(script.orders[0], "complete", **OUTPUT)).json() == {"status": "taken"}
        assert isinstance(await run(runner, make_call(attempt=2, fencing_token=2)), Succeeded)
    assert len(script.orders) == 1
    assert script.deleted == []


async def test_heartbeats_keep_a_call_alive(make_call: CallFactory) -> None:
    """A runner that is heard is waited for, however long it takes."""
    script = says(202)
    async with engine_for(script) as runner, attempt_of(runner, make_call(), script) as attempt:
        for _ in range(8):
            assert (await call_back(script.orders[0], "heartbeat")).status_code == 200
            await anyio.sleep(HEARTBEAT_S / 2)
        assert attempt.outcome is None
        assert (await call_back(script.orders[0], "complete", **OUTPUT)).status_code == 200
        assert isinstance(await attempt.result(), Succeeded)


async def test_a_runner_may_do_without_heartbeats(make_call: CallFactory) -> None:
    """One that says so has until the deadline, and is told to stop at it; what it says later is refused."""
    script = says(202, {"heartbeats": False})
    call = make_call(timeout_s=1.0)
    async with engine_for(script) as runner:
        told = failure(await run(runner, call))
        assert (told.code, told.retryable) == ("SKILL_TIMEOUT", True)
        assert script.deleted == [(call.idempotency_key, "1")]
        await until_forgotten(script.orders[0])


async def test_any_engine_takes_a_callback(make_call: CallFactory) -> None:
    """What another engine is told, progress and heartbeats included, reaches the one that waits."""
    script, calls = says(202), MemorySkillCalls()
    async with (
        engine_for(script, calls=calls) as runner,
        callback_surface(HttpCallbacks(calls)) as other,
        attempt_of(runner, make_call(), script) as attempt,
    ):
        (order,) = script.orders
        assert (await call_back(order, "progress", at=other, fraction=0.25, message="a quarter")).status_code == 200
        for _ in range(8):
            assert (await call_back(order, "heartbeat", at=other)).status_code == 200
            await anyio.sleep(HEARTBEAT_S / 2)
        assert attempt.progress == [(0.25, "a quarter")]
        assert (await call_back(order, "complete", at=other, **OUTPUT)).json() == {"status": "taken"}
        assert (await call_back(order, "complete", **OUTPUT)).json() == {"status": "repeated"}
        assert isinstance(await attempt.result(), Succeeded)


async def test_an_answer_outlives_the_engine_that_asked(make_call: CallFactory) -> None:
    """A success that comes while nobody waits is kept for the next attempt, which asks nobody."""
    script, calls = says(202), MemorySkillCalls()
    async with engine_for(script, calls=calls) as lost, attempt_of(lost, make_call(), script) as attempt:
        attempt.scope.cancel()
        await attempt.ended.wait()
        async with callback_surface(HttpCallbacks(calls)) as other:
            assert (await call_back(script.orders[0], "complete", at=other, **OUTPUT)).json() == {"status": "taken"}
    assert script.deleted == []  # a lost engine is no reason to stop
    async with engine_for(script, calls=calls) as runner:
        outcome = await run(runner, make_call(attempt=1, fencing_token=2))
    assert isinstance(outcome, Succeeded) and json.loads(outcome.output_json) == {"x": 1}
    assert len(script.orders) == 1


async def test_the_newest_attempt_alone_is_answered(make_call: CallFactory) -> None:
    """After another engine has asked, the first one's token is late: the runner answers with the newer one."""
    script, calls = says(202), MemorySkillCalls()
    async with engine_for(script, calls=calls) as first, engine_for(script, calls=calls) as second:
        async with attempt_of(first, make_call(), script) as lost:
            script.accepted = anyio.Event()
            async with attempt_of(second, make_call(fencing_token=2), script) as attempt:
                late = await call_back(script.orders[0], "complete", **OUTPUT)
                assert (late.status_code, late.json()["error"]["code"]) == (409, "FENCING_TOKEN_STALE")
                assert (await call_back(script.orders[1], "complete", **OUTPUT)).status_code == 200
                assert isinstance(await attempt.result(), Succeeded)
            assert lost.outcome is None
        told = failure(await run(first, make_call(fencing_token=1)))
    assert (told.code, told.retryable) == ("SKILL_UNAVAILABLE", True)
    assert len(script.orders) == 2


async def test_a_cancelled_call_is_told_and_refused(make_call: CallFactory) -> None:
    """Who is abandoned hears DELETE with the attempt's token, and has nobody left to answer."""
    script = says(202)
    call = make_call()
    async with engine_for(script) as runner:
        async with attempt_of(runner, call, script) as attempt:
            attempt.scope.cancel()
            await attempt.ended.wait()
        await runner.abandon(call)
        assert script.deleted == [(call.idempotency_key, "1")]
        await until_forgotten(script.orders[0])


async def test_a_database_that_is_away_is_waited_for(make_call: CallFactory) -> None:
    """The runner is not asked before the call is written; the runner that calls back meanwhile is told to try again."""

    class Away(MemorySkillCalls):
        failures = 1

        def fail_once(self) -> None:
            if self.failures:
                self.failures -= 1
                raise UnavailableError("DATABASE_UNAVAILABLE", "away", retry_after_s=1.0)

        async def register(self, *arguments: Any, **members: Any) -> Any:
            self.fail_once()
            return await super().register(*arguments, **members)

        async def hear(self, *arguments: Any, **members: Any) -> Any:
            self.fail_once()
            return await super().hear(*arguments, **members)

    script, calls = says(202), Away()
    async with engine_for(script, calls=calls) as runner, attempt_of(runner, make_call(), script) as attempt:
        calls.failures = 1
        refused = await call_back(script.orders[0], "complete", **OUTPUT)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert attempt.outcome is None
        assert (await call_back(script.orders[0], "complete", **OUTPUT)).status_code == 200
        assert isinstance(await attempt.result(), Succeeded)


def test_a_token_never_travels_in_plaintext() -> None:
    """A token for http:// beyond this machine is refused."""
    endpoint = parse_endpoint("http://10.0.0.1:7005/skills")
    with pytest.raises(ValueError, match="plaintext"):
        HttpSkillRunner(endpoint, callbacks=HttpCallbacks(MemorySkillCalls()), token="s3cret")
    local = replace(endpoint, address="http://127.0.0.1:7005/skills")
    HttpSkillRunner(local, callbacks=HttpCallbacks(MemorySkillCalls()), token="s3cret")

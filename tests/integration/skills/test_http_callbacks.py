"""Skills over HTTP that answer later: who may end a call by callback, when, and at which engine."""

import json
from typing import Any

import anyio
import pytest
from starlette.responses import JSONResponse, Response

from runengine_server.adapters.memory.skill_calls import MemorySkillCalls
from runengine_server.adapters.skills.http_callbacks import HttpCallbacks
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.failure import Failure
from runengine_server.ports.skill_runner import Failed, Succeeded

from ...support.http_runner import callback_surface
from ...support.http_script import (
    OUTPUT,
    Script,
    attempt_of,
    beat,
    call_back,
    engine_for,
    failure,
    run,
    says,
    until_forgotten,
)
from .conftest import CallFactory

pytestmark = pytest.mark.anyio


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
        ({"fencingToken": -1}, 400, "VALIDATION_FAILED"),
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
        if status in (404, 409):
            assert (await call_back(order, "heartbeat", **changes)).status_code == status
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
        await beat(script.orders[0])
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
        await beat(order, at=other)
        assert attempt.progress == [(0.25, "a quarter")]
        assert (await call_back(order, "progress", fraction=0.5, message="half")).status_code == 200
        await beat(order, at=other)
        assert attempt.progress[1:] == [(0.5, "half")]  # what another engine was told before is no news
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
                at_first = script.orders[0]["callback"]["url"].partition("/api")[0]
                assert (await call_back(script.orders[1], "complete", at=at_first, **OUTPUT)).status_code == 200
                assert isinstance(await attempt.result(), Succeeded)
            assert failure(await lost.result()).code == "HEARTBEAT_TIMEOUT"
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

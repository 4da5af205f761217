"""A call runs once for its key: joined while in flight, repeated when it succeeded, and it outlives its engine."""

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from runengine_client.skills import LedgerEvent, SkillServer, SkillServerLimits, doubly_started, read_ledger
from runengine_server.adapters.skills.grpc_runner import GrpcSkillRunner
from runengine_server.ports.skill_runner import Failed, Outcome, SkillCall, Succeeded

pytestmark = pytest.mark.anyio
CallFactory = Callable[..., SkillCall]


def _ignore(fraction: float, message: str, reported_at: datetime) -> None:
    return


class Attempt:
    """An attempt that runs beside the test."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.progress: list[float] = []
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()

    async def run(self, engine: GrpcSkillRunner, call: SkillCall) -> None:
        with self.scope:
            self.outcome = await engine.execute(call, lambda fraction, *_: self.progress.append(fraction))
        self.done.set()


def _execution(outcome: Outcome | None) -> int:
    assert isinstance(outcome, Succeeded), outcome
    return int(json.loads(outcome.output_json)["execution"])


async def test_second_call_attaches(
    server: SkillServer, engine: GrpcSkillRunner, workshop: Any, make_call: CallFactory, until: Any
) -> None:
    """A key in flight is joined: one execution, and the newcomer gets progress, all artifacts and the result."""
    first, second = Attempt(), Attempt()
    async with anyio.create_task_group() as group:
        group.start_soon(first.run, engine, make_call())
        await workshop.started.wait()
        group.start_soon(second.run, engine, make_call(attempt=2, fencing_token=2))
        await until(lambda: server.ledger.count(LedgerEvent.ATTACHED) == 1 and second.progress == [0.5])
        workshop.release.set()
    assert _execution(first.outcome) == _execution(second.outcome) == 1
    assert isinstance(first.outcome, Succeeded) and isinstance(second.outcome, Succeeded)
    assert [artifact.filename for artifact in second.outcome.artifacts] == ["draft.txt"]
    assert first.outcome.artifacts == second.outcome.artifacts
    assert server.ledger.count(LedgerEvent.STARTED) == 1


async def test_success_is_replayed(
    server: SkillServer, engine: GrpcSkillRunner, workshop: Any, make_call: CallFactory
) -> None:
    """A key that succeeded is answered again without running, artifacts and build included."""
    workshop.release.set()
    first = await engine.execute(make_call(), _ignore)
    again = await engine.execute(make_call(attempt=2, fencing_token=2), _ignore)
    assert first == again
    assert workshop.executions == 1
    assert server.ledger.count(LedgerEvent.REPLAYED) == 1


async def test_other_tenant_is_another_call(engine: GrpcSkillRunner, workshop: Any, make_call: CallFactory) -> None:
    """The same key of another tenant is never answered from this one's."""
    workshop.release.set()
    await engine.execute(make_call(), _ignore)
    other = await engine.execute(make_call(tenant="other"), _ignore)
    assert _execution(other) == 2


async def test_failure_runs_again(engine: GrpcSkillRunner, workshop: Any, make_call: CallFactory) -> None:
    """A key that failed is executed again."""
    workshop.release.set()
    workshop.failures_left = 1
    first = await engine.execute(make_call(), _ignore)
    assert isinstance(first, Failed) and first.failure.code == "BUSY"
    assert _execution(await engine.execute(make_call(attempt=2), _ignore)) == 2


async def test_call_outlives_its_engine(
    server: SkillServer, workshop: Any, make_call: CallFactory, make_engine: Any, until: Any
) -> None:
    """The engine's connection is lost, another engine attaches within the grace period, and nothing ran twice."""
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(anyio.create_task_group())
        lost, taker = Attempt(), Attempt()
        async with make_engine(server) as engine:
            group.start_soon(lost.run, engine, make_call())
            await workshop.started.wait()
            lost.scope.cancel()
            await lost.done.wait()
        async with make_engine(server) as engine:
            group.start_soon(taker.run, engine, make_call(fencing_token=2))
            await until(lambda: server.ledger.count(LedgerEvent.ATTACHED) == 1)
            workshop.release.set()
            await taker.done.wait()
    assert lost.outcome is None
    assert _execution(taker.outcome) == 1
    assert not workshop.cancelled.is_set()


async def test_success_within_grace_is_replayed(
    server: SkillServer, engine: GrpcSkillRunner, workshop: Any, make_call: CallFactory, until: Any
) -> None:
    """A call that finishes while nobody listens keeps its success for the next engine."""
    lost = Attempt()
    async with anyio.create_task_group() as group:
        group.start_soon(lost.run, engine, make_call())
        await workshop.started.wait()
        lost.scope.cancel()
    workshop.release.set()
    await until(lambda: server.ledger.count(LedgerEvent.SUCCEEDED) == 1)
    assert _execution(await engine.execute(make_call(fencing_token=2), _ignore)) == 1
    assert server.ledger.count(LedgerEvent.REPLAYED) == 1


async def test_abandoned_call_is_cancelled(
    make_server: Any, make_engine: Any, workshop: Any, make_call: CallFactory
) -> None:
    """Nobody attaches within the grace period: the call is cancelled, and a later attempt runs again."""
    limits = SkillServerLimits(grace_s=0.1, drain_s=0.05)
    async with make_server(limits=limits) as server, make_engine(server) as engine:
        lost = Attempt()
        async with anyio.create_task_group() as group:
            group.start_soon(lost.run, engine, make_call())
            await workshop.started.wait()
            lost.scope.cancel()
        with anyio.fail_after(5):
            await workshop.cancelled.wait()
        workshop.release.set()
        assert _execution(await engine.execute(make_call(fencing_token=2), _ignore)) == 2
        assert not doubly_started(server.ledger.records)


async def test_older_fencing_token_is_refused(
    server: SkillServer, engine: GrpcSkillRunner, workshop: Any, make_call: CallFactory
) -> None:
    """An engine that lost its lease neither joins, repeats nor restarts a call that a later lease has seen."""
    attempt = Attempt()
    async with anyio.create_task_group() as group:
        group.start_soon(attempt.run, engine, make_call(fencing_token=7))
        await workshop.started.wait()
        while_running = await engine.execute(make_call(fencing_token=6), _ignore)
        workshop.release.set()
    afterwards = await engine.execute(make_call(fencing_token=6), _ignore)
    for refused in (while_running, afterwards):
        assert isinstance(refused, Failed)
        assert refused.failure.details == {"grpcStatus": "ABORTED"}
    assert workshop.executions == 1
    assert _execution(attempt.outcome) == 1


async def test_key_of_other_content_is_refused(engine: GrpcSkillRunner, workshop: Any, make_call: CallFactory) -> None:
    """A key that comes back with another input is an error, never somebody else's output."""
    workshop.release.set()
    first = make_call({"a": 1})
    await engine.execute(first, _ignore)
    refused = await engine.execute(make_call({"a": 2}, idempotency_key=first.idempotency_key), _ignore)
    assert isinstance(refused, Failed)
    assert not refused.failure.retryable
    assert refused.failure.details == {"grpcStatus": "INVALID_ARGUMENT"}


async def test_ledger_file_tells_other_processes(
    make_server: Any, make_engine: Any, workshop: Any, make_call: CallFactory, tmp_path: Path
) -> None:
    """The ledger's file holds every start, replay and end, with the output's digest."""
    workshop.release.set()
    path = tmp_path / "ledger.jsonl"
    async with make_server(ledger_path=path) as server, make_engine(server) as engine:
        await engine.execute(make_call(), _ignore)
        await engine.execute(make_call(), _ignore)
    records = read_ledger(path)
    assert [record.event for record in records] == [LedgerEvent.STARTED, LedgerEvent.SUCCEEDED, LedgerEvent.REPLAYED]
    assert len(records[1].digest) == 64
    assert not doubly_started(records)
    assert doubly_started([*records[:1], records[0]]) == (records[0],)


async def test_abandoned_call_stops_at_once(
    server: SkillServer, engine: GrpcSkillRunner, workshop: Any, make_call: CallFactory, until: Any
) -> None:
    """A call that nobody wants any more is cancelled without waiting for its grace period."""
    attempt = Attempt()
    async with anyio.create_task_group() as group:
        group.start_soon(attempt.run, engine, make_call())
        await until(lambda: attempt.progress == [0.5])
        attempt.scope.cancel()
        await attempt.done.wait()
        assert not workshop.cancelled.is_set(), "a cancelled RPC alone keeps the call for the next engine"
        await engine.abandon(make_call())
        with anyio.fail_after(5):
            await workshop.cancelled.wait()


async def test_abandoning_spares_a_later_lease(
    server: SkillServer, engine: GrpcSkillRunner, workshop: Any, make_call: CallFactory, until: Any
) -> None:
    """An engine that lost its lease cannot cancel what the next one has attached to."""
    first, second = Attempt(), Attempt()
    async with anyio.create_task_group() as group:
        group.start_soon(first.run, engine, make_call())
        await until(lambda: first.progress == [0.5])
        group.start_soon(second.run, engine, make_call(attempt=1, fencing_token=2))
        await until(lambda: server.ledger.count(LedgerEvent.ATTACHED) == 1)
        await engine.abandon(make_call(fencing_token=1))
        workshop.release.set()
    assert _execution(second.outcome) == 1

"""A server that is told to stop, or is killed, hands its work to another one, and nothing is paid for twice."""

import signal
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from runengine_client import RunEnded, RunEngineClient, RunEvent, RunSnapshot, WatchOptions
from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_client.skills import LedgerEvent, doubly_started
from runengine_client.states import OutputSource, RunStatus
from runengine_client.watch import Interruption
from runengine_client.watch_items import WatchItem
from runengine_client.workflow import WorkflowBuilder, expression

from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.processes import wait_until
from ..support.refusals import bearer, raw_api, refusal_of
from ..support.skill_server_process import SkillServerProcess

pytestmark = pytest.mark.anyio

WIDTH = 8
WATCHERS = 5
WORKFLOW = WorkflowBuilder("wide", version="1.0.0")
for _number in range(WIDTH):
    WORKFLOW.step(f"s{_number}", skill="t.gated", input={"gate": expression("trigger.gate"), "number": _number})
WORKFLOW.step(
    "end",
    skill="t.echo",
    needs=[f"s{number}" for number in range(WIDTH)],
    input={
        "gate": expression("trigger.gate"),
        "numbers": [expression(f"steps.s{number}.output.number") for number in range(WIDTH)],
    },
)


@pytest.fixture
def first(engine_settings: EngineSettings) -> Iterator[EngineProcess]:
    """The server that will go away."""
    with EngineProcess(engine_settings, "first", RUNENGINE_LEASE_S="1.5") as process:
        yield process


@pytest.fixture
def second(engine_settings: EngineSettings, first: EngineProcess) -> Iterator[EngineProcess]:
    """The server that stays."""
    with EngineProcess(engine_settings, "second", RUNENGINE_LEASE_S="1.5") as process:
        yield process


async def start_on(engine: EngineProcess, skills: SkillServerProcess, gate: str) -> str:
    """A run whose eight gated steps are all being executed."""
    async with engine.client() as client:
        await client.register_workflow(WORKFLOW.build())
        handle = await client.start("wide", {"gate": gate})
    wait_until(lambda: skills.calls(run_id=handle.id) == WIDTH, "all skills called")
    return handle.id


def wait_for_attached(skills: SkillServerProcess, run_id: str) -> None:
    """Another engine listens to every call that the first one made; the target is the lease + 2 s = 3.5 s."""
    wait_until(
        lambda: skills.calls(LedgerEvent.ATTACHED, run_id=run_id) == WIDTH, "all calls attached to", timeout_s=35
    )


async def check_nothing_ran_twice(engine: EngineProcess, skills: SkillServerProcess, run_id: str) -> None:
    """The run is complete; each step was executed once."""
    async with engine.client() as client:
        run = await client.get_run(run_id)
        steps = [step async for step in client.list_steps(run_id, full=True)]
    assert run.status is RunStatus.COMPLETED
    assert steps[-1].output is not None
    assert steps[-1].output["numbers"] == list(range(WIDTH))
    assert {step.output_source for step in steps} == {OutputSource.EXECUTED}
    assert {step.attempt for step in steps} == {1}
    assert skills.calls(run_id=run_id) == WIDTH + 1
    assert doubly_started(skills.records(run_id=run_id)) == ()


def follower(engine: EngineProcess, other: EngineProcess) -> RunEngineClient:
    """A client that knows both servers, in this order."""
    return RunEngineClient(f"ipv4:{engine.target},{other.target}", token=TOKENS.admin)


async def test_sigterm_hands_over(first: EngineProcess, second: EngineProcess, skills: SkillServerProcess) -> None:
    """After SIGTERM watchers resume on the other server without a gap and the steps in flight finish there, once."""
    second.stop()  # so that the first one leases everything
    try:
        run_id = await start_on(first, skills, "drain")
    finally:
        second.cont()
    histories: list[list[WatchItem]] = [[] for _ in range(WATCHERS)]
    interruptions: list[Interruption] = []

    async def watch(history: list[WatchItem]) -> None:
        async with follower(first, second) as client:
            options = WatchOptions(on_interrupted=interruptions.append)
            async for item in client.watch(run_id, options=options):
                history.append(item)

    async with anyio.create_task_group() as tasks:
        for history in histories:
            tasks.start_soon(watch, history)
        with anyio.fail_after(10):
            while not all(histories):
                await anyio.lowlevel.checkpoint()
        first.terminate()
        assert await anyio.to_thread.run_sync(first.wait) == 0
        await anyio.to_thread.run_sync(wait_for_attached, skills, run_id)
        skills.open_gate("drain")

    for history in histories:
        begin, end = history[0], history[-1]
        assert isinstance(begin, RunSnapshot) and isinstance(end, RunEnded)
        sequences = [item.sequence for item in history if isinstance(item, RunEvent) and item.sequence]
        assert sequences == list(range(begin.sequence + 1, end.sequence + 1))
    assert [each.error.reason for each in interruptions] == ["DRAINING"] * WATCHERS
    await check_nothing_ran_twice(second, skills, run_id)


async def test_streams_end_with_draining(first: EngineProcess, skills: SkillServerProcess) -> None:
    """A raw watch ends UNAVAILABLE DRAINING with its last sequence and a delay; health says NOT_SERVING before."""
    run_id = await start_on(first, skills, "raw")
    with grpc.insecure_channel(first.target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        health = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(health).status == health_pb2.HealthCheckResponse.SERVING
        with raw_api(first.target) as api:
            request = pb.WatchRunRequest(run_id=run_id, after_sequence=0)
            stream = api.engine.WatchRun(request, metadata=bearer(TOKENS.admin), timeout=30)
            assert next(stream).WhichOneof("kind") == "bookmark"
            last = next(stream).sequence
            first.terminate()
            with pytest.raises(grpc.RpcError) as caught:
                for message in stream:
                    last = message.sequence or last
        refused = refusal_of(caught.value)
        refused.expect(StatusCode.UNAVAILABLE, "DRAINING", "try again")
        assert refused.metadata["lastSequence"] == str(last)
        assert refused.retry_after_s is not None and refused.retry_after_s > 0
        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        health.cancel()
    assert first.wait() == 0
    assert "Traceback" not in first.log
    skills.open_gate("raw")


async def test_killed_server(first: EngineProcess, second: EngineProcess, skills: SkillServerProcess) -> None:
    """After SIGKILL the other server takes over within the lease, attaches to the calls and finishes the run."""
    second.stop()
    try:
        run_id = await start_on(first, skills, "kill")
    finally:
        second.cont()
    first.kill()
    wait_for_attached(skills, run_id)
    skills.open_gate("kill")
    async with second.client() as client:
        await client.run(run_id).result()
        assert all([step.lease_losses == 1 async for step in client.list_steps(run_id) if step.step_id != "end"])
    await check_nothing_ran_twice(second, skills, run_id)


async def test_interrupt_key(engine_settings: EngineSettings) -> None:
    """Ctrl-C drains too, and an idle server ends at once with status 0."""
    with EngineProcess(engine_settings, "interrupted") as engine:
        engine.process.send_signal(signal.SIGINT)
        assert engine.wait(timeout_s=5) == 0
        assert "Traceback" not in engine.log

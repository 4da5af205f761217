"""Engines that share a skill's limit are killed and frozen: the limit holds all the same, and their permits return."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from time import monotonic

import anyio
import grpc.aio
import pytest

from runengine_client.pb.runengine.v1 import skill_runner_pb2, skill_runner_pb2_grpc
from runengine_client.workflow import WorkflowBuilder, expression
from runengine_server.domain.states import RunStatus

from ..support.invariants import Acknowledged
from .fleet import LEASE_S, Engine, Fleet, until

pytestmark = pytest.mark.anyio

LIMIT = 3
STEPS = 24
WORK_S = 0.3


class _Counting(skill_runner_pb2_grpc.SkillRunnerServiceServicer):
    """A runner that names a limit and takes whatever comes; it counts the calls that run, and for how many keys."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.running_max = 0
        self.started = 0

    async def Execute(  # noqa: N802
        self, request: skill_runner_pb2.ExecuteRequest, context: object
    ) -> AsyncIterator[skill_runner_pb2.ExecuteResponse]:
        accepted = skill_runner_pb2.ExecuteAccepted(worker_id="counting", skill_version="1", cache_version="1")
        key = request.idempotency_key
        self.running[key] += 1
        self.running_max = max(self.running_max, self.running.total())
        self.started += 1
        try:
            yield skill_runner_pb2.ExecuteResponse(accepted=accepted)
            await anyio.sleep(WORK_S)
        finally:
            self.running[key] -= 1
        yield skill_runner_pb2.ExecuteResponse(result=skill_runner_pb2.ExecuteResult(output_json=b"{}"))

    async def ListSkills(  # noqa: N802
        self, request: object, context: object
    ) -> skill_runner_pb2.ListSkillsResponse:
        skill = skill_runner_pb2.Skill(skill_id="limited.work", version="1", cache_version="1", max_concurrency=LIMIT)
        return skill_runner_pb2.ListSkillsResponse(skills=[skill])


@pytest.fixture
async def runner() -> AsyncIterator[tuple[_Counting, str]]:
    """A counting runner and its address."""
    counting = _Counting()
    server = grpc.aio.server()
    skill_runner_pb2_grpc.add_SkillRunnerServiceServicer_to_server(counting, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield counting, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def _two_busy_engines(fleet: Fleet, runner: tuple[_Counting, str]) -> tuple[Engine, Engine, list[str]]:
    """Both engines hold permits and have attempts that wait for more; returns the ids of their runs too."""
    _, address = runner
    fleet.settings = replace(fleet.settings, skills=f"limited.*=grpc://{address}")
    builder = WorkflowBuilder("limited", version="1.0.0")
    for n in range(STEPS):
        builder.step(f"s{n}", skill="limited.work", input={"salt": expression("trigger.salt")}, cache=False)
    engines = fleet.start(), fleet.start()
    ids = []
    for salt, engine in enumerate(engines):
        async with engine.process.client() as client:
            await client.register_workflow(builder.build())
            handle = await client.start("limited", {"salt": salt})
            fleet.acknowledged.append(Acknowledged(run_id=handle.id))
            ids.append(handle.id)

    async def are_both_busy() -> bool:
        return len(await fleet.fetch("SELECT FROM skill_permits WHERE held > 0 AND wanted > held")) == 2

    await until(are_both_busy, "both engines hold permits and want more")
    return *engines, ids


async def _completed(fleet: Fleet, engine: Engine, ids: list[str]) -> None:
    async with engine.process.client() as client:
        for run_id in ids:
            assert await fleet.watch(client.run(run_id)) is RunStatus.COMPLETED


async def _permits(fleet: Fleet) -> int:
    rows = await fleet.fetch("SELECT sum(held) AS held FROM skill_permits JOIN engines USING (engine)")
    return int(rows[0]["held"] or 0)


async def test_permits_of_a_killed_engine_return(fleet: Fleet, runner: tuple[_Counting, str], recorded) -> None:
    """kill -9 of one of two engines: the other one uses the whole limit within lease and 2 s, and never more."""
    counting, _ = runner
    dead, survivor, ids = await _two_busy_engines(fleet, runner)
    assert counting.running_max == LIMIT
    dead.process.kill()
    killed_at = monotonic()

    async def is_below() -> bool:
        return counting.running.total() < LIMIT

    async def is_full() -> bool:
        return counting.running.total() == LIMIT and await _permits(fleet) == LIMIT and await _engines(fleet) == 1

    await until(is_below, "the calls of the dead engine are gone")
    await until(is_full, "the permits have returned")
    returned_s = monotonic() - killed_at
    recorded("permits_returned_s", round(returned_s, 2))
    await _completed(fleet, survivor, ids)
    assert counting.running_max == LIMIT
    assert returned_s < (LEASE_S + 2) * 10
    await fleet.check(has_ledger=False)


async def test_a_thawed_engine_starts_nothing_on_lost_permits(
    fleet: Fleet, runner: tuple[_Counting, str], recorded
) -> None:
    """An engine frozen beyond its lease loses its permits; thawed, it starts nothing on them although it has room."""
    counting, _ = runner
    frozen, other, ids = await _two_busy_engines(fleet, runner)
    frozen.process.stop()
    stopped_at = monotonic()

    async def is_replaced() -> bool:
        return counting.running.total() == LIMIT and await _engines(fleet) == 1

    await until(is_replaced, "the other engine uses the whole limit")
    recorded("permits_returned_s", round(monotonic() - stopped_at, 2))
    frozen.process.cont()
    await _completed(fleet, other, ids)
    assert counting.running_max == LIMIT
    frozen.process.wait_for_text("Engine lease lost")
    await fleet.check(has_ledger=False)


async def _engines(fleet: Fleet) -> int:
    return len(await fleet.fetch("SELECT FROM engines"))

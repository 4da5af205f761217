"""Runs fail on several engines: what runs of them stops on whichever engine holds it, and each end is told once."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import anyio.to_thread
import pytest

from runengine_client import RunEngineClient, RunHandle
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.skills import LedgerEvent
from runengine_client.workflow import WorkflowBuilder, expression
from runengine_server.domain.states import RunStatus

from ..support.databases import cloned_database
from ..support.invariants import Acknowledged
from .fleet import LEASE_S, Engine, Fleet, until

pytestmark = pytest.mark.anyio

LONG_MS = 600_000


def torn(name: str) -> workflow_pb2.Workflow:
    """A step that takes long, and one that fails when its skill is given no number."""
    builder = WorkflowBuilder(name, version="1.0.0", failure_policy="fail_fast")
    for step_id in ("long", "bad"):
        given = {"ms": expression(f"trigger.{step_id}"), "salt": expression("run.id")}
        builder.step(step_id, skill="f.sleep", input=given, cache=False, max_attempts=1, timeout="900s")
    return builder.build()


def narrow(fleet: Fleet, lease_s: float, **environment: str) -> None:
    """Each engine runs one step at a time, so that a run of two steps needs two."""
    more = {"RUNENGINE_ATTEMPTS_MAX": "1", "RUNENGINE_LEASE_S": str(lease_s), **environment}
    fleet.settings = replace(fleet.settings, environment={**fleet.settings.environment, **more})


async def another(fleet: Fleet) -> Engine:
    return await anyio.to_thread.run_sync(fleet.start)


async def begun(fleet: Fleet, client: RunEngineClient, name: str, bad: Any, **options: Any) -> RunHandle:
    """A run whose long step runs on the only engine."""
    await client.register_workflow(torn(name))
    handle = await client.start(name, {"long": LONG_MS, "bad": bad}, **options)
    fleet.acknowledged.append(Acknowledged(run_id=handle.id))
    await until(lambda: _has(fleet, handle, "long", LedgerEvent.STARTED), "the long step runs")
    return handle


def _has(fleet: Fleet, handle: RunHandle, step_id: str, event: LedgerEvent) -> Awaitable[bool]:
    async def look() -> bool:
        return any(f"{handle.id}/{step_id}/" in r.key and r.event is event for r in fleet.skills.ledger())

    return look()


async def _told(fleet: Fleet, handle: RunHandle, code: str) -> None:
    """One engine says once that the run has failed."""

    async def is_told() -> bool:
        return bool(_lines(fleet, f"Run failed: runId={handle.id}"))

    await until(is_told, "an engine says that the run has failed")
    (line,) = _lines(fleet, f"Run failed: runId={handle.id}")
    assert f"error={code}" in line


def _lines(fleet: Fleet, text: str) -> list[str]:
    return [line for engine in fleet.engines for line in engine.process.log.splitlines() if text in line]


@pytest.fixture
def silent_database_url(stack, template: str) -> Iterator[str]:
    """A database that nobody works on."""
    with cloned_database(stack.database_url, template) as url:
        yield url


@pytest.mark.parametrize("hinted", [True, False], ids=["by hint", "by lease"])
async def test_fail_fast_reaches_every_engine(
    fleet: Fleet, silent_database_url: str, recorded: Callable[[str, object], None], *, hinted: bool
) -> None:
    """A step's failure on one engine cancels what another runs: at once, or with its next look at its leases."""
    settings = fleet.settings
    deaf = {} if hinted else {"RUNENGINE_LISTEN_DATABASE_URL": silent_database_url}
    narrow(fleet, 60.0 if hinted else LEASE_S, **deaf)
    one = await another(fleet)
    async with one.process.client() as client:
        handle = await begun(fleet, client, "torn", "no number")
        fleet.settings = settings
        narrow(fleet, 60.0 if hinted else LEASE_S)
        await another(fleet)
        assert await fleet.watch(handle) is RunStatus.FAILED
        stopped = await until(lambda: _has(fleet, handle, "long", LedgerEvent.FAILED), "the long step is cancelled")
        recorded("cancelled_after_s", round(stopped, 2))
        run = await handle.get()
        assert run.error is not None and (run.failed_step, run.error.code) == ("bad", "SKILL_FAILED")
    engines = await fleet.fetch("SELECT engine FROM step_attempts")
    assert len(engines) == 1, "only the step that failed was tried and recorded"
    await _told(fleet, handle, "SKILL_FAILED")
    await fleet.check()


async def test_a_deadline_reaches_every_engine(fleet: Fleet) -> None:
    """A run past its deadline is failed by one of the engines, and what all of them run of it is cancelled."""
    narrow(fleet, LEASE_S)
    one = await another(fleet)
    async with one.process.client() as client:
        handle = await begun(fleet, client, "late", LONG_MS, deadline=6.0)
        await another(fleet)
        await until(lambda: _has(fleet, handle, "bad", LedgerEvent.STARTED), "both steps run")
        assert await fleet.watch(handle) is RunStatus.FAILED
        for step_id in ("long", "bad"):
            await until(
                lambda step_id=step_id: _has(fleet, handle, step_id, LedgerEvent.FAILED), f"{step_id} is cancelled"
            )
        assert {step.error.code for step in await handle.steps(full=True) if step.error} == {"RUN_CANCELLED"}
    await _told(fleet, handle, "RUN_DEADLINE_EXCEEDED")
    await fleet.check()

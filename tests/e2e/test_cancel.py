"""Cancelling a run that is at work: it ends at once, its skill is told, and nothing that comes late changes it."""

import pytest

from runengine_client import RunEnded, RunEngineClient, RunEvent, RunNotCompletedError, RunSnapshot
from runengine_client.skills import LedgerEvent
from runengine_client.states import RunStatus, StepStatus
from runengine_client.watch_items import RunStatusChanged

from ..support.engine_process import EngineProcess, EngineSettings
from ..support.skill_server_process import SkillServerProcess
from .workflows import gated, single

pytestmark = pytest.mark.anyio


async def test_cancel_of_a_running_run(client: RunEngineClient, skills: SkillServerProcess) -> None:
    """Cancel returns a cancelled run with its reason; its skill is cancelled, and a late result changes nothing."""
    await client.register_workflow(gated())
    handle = await client.start("gated", {"gate": "late"})
    skills.wait_for_call(handle.id, "wait")

    answer = await handle.cancel("wrong brief")

    assert answer.run.status is RunStatus.CANCELLED
    assert (answer.message, answer.run.cancel_reason) == ("Run cancelled", "wrong brief")
    assert [step.status for step in await handle.steps()] == [StepStatus.CANCELLED, StepStatus.CANCELLED]
    assert {step.error.code for step in await handle.steps() if step.error} == {"RUN_CANCELLED"}
    skills.wait_for_call(handle.id, "wait", LedgerEvent.FAILED)
    assert [record.code for record in skills.records(run_id=handle.id)][-1] == "RUN_CANCELLED"
    ended = await handle.get()
    skills.open_gate("late")
    again = await handle.cancel("other")
    assert again.message == "Run is already cancelled; nothing was changed"
    assert again.run == ended
    assert skills.calls(run_id=handle.id) == 1


async def test_watch_of_a_cancelled_run_ends(client: RunEngineClient, skills: SkillServerProcess) -> None:
    """A watcher sees the run cancelled as the last event, without gaps, and then the end."""
    await client.register_workflow(gated())
    handle = await client.start("gated", {"gate": "never"})
    skills.wait_for_call(handle.id, "wait")
    items = []
    async for item in client.watch(handle.id):
        items.append(item)
        if isinstance(item, RunSnapshot):
            await handle.cancel()
    events = [item for item in items if isinstance(item, RunEvent) and item.sequence]
    snapshot, end = items[0], items[-1]
    assert isinstance(snapshot, RunSnapshot) and isinstance(end, RunEnded)
    assert [event.sequence for event in events] == list(range(snapshot.sequence + 1, end.sequence + 1))
    last = events[-1].detail
    assert isinstance(last, RunStatusChanged) and last.to_status is RunStatus.CANCELLED
    assert end.run.status is RunStatus.CANCELLED
    with pytest.raises(RunNotCompletedError, match="cancelled"):
        await handle.result()


async def test_cancel_through_another_server(
    client: RunEngineClient, engine_settings: EngineSettings, engine: EngineProcess, skills: SkillServerProcess
) -> None:
    """A run that one server executes can be cancelled through another; the skill's call is cancelled all the same."""
    await client.register_workflow(gated())
    handle = await client.start("gated", {"gate": "never"})
    skills.wait_for_call(handle.id, "wait")
    with EngineProcess(engine_settings, "second", RUNENGINE_ATTEMPTS_MAX="2") as second:
        async with second.client() as other:
            answer = await other.cancel(handle.id)
            assert answer.run.status is RunStatus.CANCELLED
        skills.wait_for_call(handle.id, "wait", LedgerEvent.FAILED)
        second.wait_for_text(f"[RunEngine] Run cancelled: runId={handle.id}")
    assert engine.is_running


@pytest.mark.parametrize("attempts", [1, 3])
async def test_deadline(client: RunEngineClient, skills: SkillServerProcess, attempts: int) -> None:
    """A run past its deadline fails with RUN_DEADLINE_EXCEEDED and its skill is cancelled, whatever tries are left."""
    workflow = single(f"late.{attempts}", skill="t.gated", input={"gate": "never"}, max_attempts=attempts, backoff_ms=1)
    await client.register_workflow(workflow)
    handle = await client.start(workflow.name, {}, deadline=1.0)
    run = await handle.wait()
    assert run.status is RunStatus.FAILED
    assert run.error is not None and run.error.code == "RUN_DEADLINE_EXCEEDED"
    (step,) = await handle.steps(full=True)
    assert step.error is not None
    assert (step.status, step.error.code, step.attempts) == (StepStatus.CANCELLED, "RUN_CANCELLED", ())
    skills.wait_for_call(handle.id, "only", LedgerEvent.FAILED)
    assert skills.calls(run_id=handle.id) == 1

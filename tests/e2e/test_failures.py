"""Steps that fail: retries with backoff, codes, timeouts, and what becomes of the rest of the run."""

import json
from collections.abc import Sequence

import pytest

from runengine_client import RunEngineClient, RunEvent
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.skills import LedgerEvent
from runengine_client.states import OutputSource, RunStatus, StepStatus
from runengine_client.types import Run, Step
from runengine_client.watch_items import StepStatusChanged
from runengine_client.workflow import WorkflowBuilder, expression

from ..support.engine_process import EngineProcess
from ..support.skill_server_process import SkillServerProcess
from .workflows import gated, single

pytestmark = pytest.mark.anyio


async def run_to_end(
    client: RunEngineClient, workflow: workflow_pb2.Workflow, given: object = None
) -> tuple[Run, Sequence[Step]]:
    await client.register_workflow(workflow)
    handle = await client.start(workflow.name, {"given": given})
    run = await handle.wait()
    return run, await handle.steps(full=True)


def flaky(name: str, *, attempts: int, **given: object) -> workflow_pb2.Workflow:
    options = {"max_attempts": attempts, "backoff_ms": 50, "max_backoff_ms": 200}
    return single(name, skill="t.flaky", input=given, **options)


async def test_retries_until_it_works(client: RunEngineClient, engine: EngineProcess) -> None:
    """A step that fails twice and then works completes; its attempts, backoff and log lines tell of it."""
    run, (step,) = await run_to_end(client, flaky("flaky.twice", attempts=3, failures=2))
    assert run.status is RunStatus.COMPLETED
    assert (step.status, step.attempt, step.output) == (StepStatus.COMPLETED, 3, {"attempt": 3})
    assert [(each.attempt, each.error.code) for each in step.attempts if each.error] == [(1, "FLAKY"), (2, "FLAKY")]
    waits = [
        (item.detail.next_attempt_at - item.occurred_at).total_seconds()
        async for item in client.watch(run.id, after_sequence=0)
        if isinstance(item, RunEvent)
        and isinstance(item.detail, StepStatusChanged)
        and item.detail.next_attempt_at is not None
        and item.occurred_at is not None
    ]
    assert len(waits) == 2
    assert 0.045 <= waits[0] <= 0.080 and 0.095 <= waits[1] <= 0.155, waits
    for attempt in (1, 2):
        line = f"[RunEngine] Step failed: runId={run.id}, stepId=only, error=FLAKY, attempt={attempt}"
        engine.wait_for_text(line)
        assert engine.log.count(line) == 1


async def test_retries_run_out(client: RunEngineClient, engine: EngineProcess) -> None:
    """When tries run out the run carries MAX_RETRIES_EXCEEDED with the cause inside, the step its last error."""
    run, (step,) = await run_to_end(client, flaky("flaky.always", attempts=3, failures=99))
    assert run.status is RunStatus.FAILED
    assert run.failed_step == "only"
    assert run.error is not None and run.error.code == "MAX_RETRIES_EXCEEDED"
    assert run.error.details == {"cause": {"code": "FLAKY", "message": "attempt 3 failed"}}
    assert (run.error.step_id, run.error.attempt) == ("only", 3)
    assert step.error is not None and (step.error.code, step.error.attempt) == ("FLAKY", 3)
    line = f"[RunEngine] Run failed: runId={run.id}, failedStep=only, error=MAX_RETRIES_EXCEEDED"
    engine.wait_for_text(line)


@pytest.mark.parametrize("kind", ["permanent", "excluded"])
async def test_no_retry(client: RunEngineClient, skills: SkillServerProcess, kind: str) -> None:
    """A permanent failure, or a code the step excludes, is tried once and is the run's own error."""
    given: dict[str, object] = {"failures": 99, "code": "CONTENT_REFUSED"}
    options: dict[str, object] = {"max_attempts": 5, "backoff_ms": 50}
    if kind == "permanent":
        given["permanent"] = True
    else:
        options["non_retryable_codes"] = ["CONTENT_REFUSED"]
    run, (step,) = await run_to_end(client, single(f"once.{kind}", skill="t.flaky", input=given, **options))
    assert run.error is not None and run.error.code == "CONTENT_REFUSED"
    assert (step.attempt, skills.calls(run_id=run.id)) == (1, 1)


async def test_timeout(client: RunEngineClient, skills: SkillServerProcess) -> None:
    """An attempt beyond its timeout is SKILL_TIMEOUT, retried, and the skill is told to stop."""
    workflow = single(
        "timeout", skill="t.gated", input={"gate": "never"}, timeout="500ms", max_attempts=2, backoff_ms=10
    )
    run, (step,) = await run_to_end(client, workflow)
    assert run.error is not None and run.error.code == "MAX_RETRIES_EXCEEDED"
    assert "SKILL_TIMEOUT" in json.dumps(run.error.details)
    assert step.error is not None and step.error.code == "SKILL_TIMEOUT"
    assert skills.calls(run_id=run.id) == 2
    skills.wait_for_call(run.id, "only", LedgerEvent.FAILED)


async def test_input_that_cannot_be_resolved(client: RunEngineClient, skills: SkillServerProcess) -> None:
    """A selector whose path is missing fails the step without a call, naming step, pointer and expression."""
    workflow = single("selector", skill="t.echo", input={"a": [{"b": expression("trigger.given.missing")}]})
    run, (step,) = await run_to_end(client, workflow, {"there": 1})
    assert run.error is not None and run.error.code == "INPUT_SELECTOR_FAILED"
    assert step.error is not None and step.error.code == "INPUT_SELECTOR_FAILED"
    for word in ("only", "/a/0/b", "trigger.given.missing"):
        assert word in step.error.message, step.error
    assert skills.calls(run_id=run.id) == 0


async def test_output_beyond_the_limit(client: RunEngineClient) -> None:
    """An output above 1 MiB is OUTPUT_TOO_LARGE, not retried, and the message points to artifacts."""
    run, (step,) = await run_to_end(
        client, single("large", skill="t.big", input={"bytes": 1_100_000}, max_attempts=3, backoff_ms=10)
    )
    assert run.error is not None and run.error.code == "OUTPUT_TOO_LARGE"
    assert "artifact" in run.error.message
    assert step.attempt == 1


async def test_large_output_within_the_limit(client: RunEngineClient) -> None:
    """An output just below 1 MiB survives byte for byte."""
    run, (step,) = await run_to_end(client, single("fits", skill="t.big", input={"bytes": 1_000_000}))
    assert run.status is RunStatus.COMPLETED
    assert step.output == {"text": "x" * 1_000_000}


def forked(name: str, policy: str) -> workflow_pb2.Workflow:
    """One branch fails once the other has begun; the other waits at a gate."""
    return (
        WorkflowBuilder(name, version="1.0.0", failure_policy=policy)
        .step("slow", skill="t.gated", input={"gate": expression("trigger.given.slow")})
        .step("doomed", skill="t.gated", input={"gate": expression("trigger.given.doomed")}, max_attempts=1)
        .step("fails", skill="t.flaky", needs=["doomed"], input={"failures": 99, "permanent": True})
        .step("after_slow", skill="t.echo", needs=["slow"], input={"x": expression("steps.slow.output.gate")})
        .step("after_fails", skill="t.echo", needs=["fails"], input={"x": expression("steps.fails.output.x")})
        .build()
    )


async def wait_for_failure(client: RunEngineClient, run_id: str, step_id: str) -> None:
    async for item in client.watch(run_id, after_sequence=0):
        if not isinstance(item, RunEvent) or item.step_id != step_id:
            continue
        if isinstance(item.detail, StepStatusChanged) and item.detail.to_status is StepStatus.FAILED:
            return


async def test_running_steps_finish(client: RunEngineClient, skills: SkillServerProcess) -> None:
    """FINISH_RUNNING: after a failure what runs may finish and counts as completed; what waits is cancelled."""
    await client.register_workflow(forked("finish", "finish_running"))
    handle = await client.start("finish", {"given": {"slow": "finish-slow", "doomed": "finish-doomed"}})
    skills.wait_for_call(handle.id, "slow")
    skills.open_gate("finish-doomed")
    await wait_for_failure(client, handle.id, "fails")
    assert (await handle.get()).status is RunStatus.RUNNING
    skills.open_gate("finish-slow")
    run = await handle.wait()
    steps = {step.step_id: step for step in await handle.steps(full=True)}
    assert run.status is RunStatus.FAILED and run.failed_step == "fails"
    assert {name: str(step.status) for name, step in steps.items()} == {
        "slow": "completed",
        "doomed": "completed",
        "fails": "failed",
        "after_slow": "cancelled",
        "after_fails": "cancelled",
    }
    assert steps["slow"].output == {"gate": "finish-slow"}
    assert steps["slow"].output_source is OutputSource.EXECUTED
    for name in ("after_slow", "after_fails"):
        error = steps[name].error
        assert error is not None and error.code == "UPSTREAM_FAILED", name
    assert skills.calls(run_id=handle.id, step_id="after_slow") == 0
    summary = run.steps_summary
    assert (summary.completed, summary.failed, summary.cancelled) == (2, 1, 2)


async def test_running_steps_are_cancelled(client: RunEngineClient, skills: SkillServerProcess) -> None:
    """FAIL_FAST: after a failure what runs is cancelled too, and the run ends without waiting for it."""
    await client.register_workflow(forked("fast", "fail_fast"))
    handle = await client.start("fast", {"given": {"slow": "never", "doomed": "fast-doomed"}})
    skills.wait_for_call(handle.id, "slow")
    skills.open_gate("fast-doomed")
    run = await handle.wait()
    steps = {step.step_id: step.status for step in await handle.steps()}
    assert run.status is RunStatus.FAILED
    assert (steps["slow"], steps["after_slow"]) == (StepStatus.CANCELLED, StepStatus.CANCELLED)


async def test_cancel_while_failing(client: RunEngineClient, skills: SkillServerProcess) -> None:
    """A Cancel while a failed run's last steps finish gives `cancelled` and keeps the failed step."""
    await client.register_workflow(forked("cancelled", "finish_running"))
    handle = await client.start("cancelled", {"given": {"slow": "never", "doomed": "cancelled-doomed"}})
    skills.wait_for_call(handle.id, "slow")
    skills.open_gate("cancelled-doomed")
    await wait_for_failure(client, handle.id, "fails")
    answer = await handle.cancel()
    assert (answer.run.status, answer.run.failed_step) == (RunStatus.CANCELLED, "fails")


async def test_runner_that_is_away(client: RunEngineClient, skills: SkillServerProcess) -> None:
    """A run starts while its runner is frozen, and completes once it answers again."""
    await client.register_workflow(gated())
    skills.stop()
    try:
        handle = await client.start("gated", {"gate": "frozen"})
    finally:
        skills.cont()
    skills.open_gate("frozen")
    assert (await handle.result()).steps_summary.completed == 2

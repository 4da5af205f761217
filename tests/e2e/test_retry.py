"""Retrying runs that failed or were cancelled: what they finished is reused, the rest is done, and nothing twice."""

import uuid
from typing import Any

import anyio
import pytest

from runengine_client import RunEngineClient
from runengine_client.errors import AbortedError, AlreadyExistsError, FailedPreconditionError, NotFoundError
from runengine_client.handle import RunHandle
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.states import OutputSource, PlanAction, PlanReason, RunStatus, StepStatus, TriggerType
from runengine_client.types import Step
from runengine_client.workflow import WorkflowBuilder, expression

from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.skill_server_process import SkillServerProcess

pytestmark = pytest.mark.anyio

NAME = "retried"


def workflow() -> workflow_pb2.Workflow:
    """A step that fails while its gate is closed, between one that works and one that follows."""
    return (
        WorkflowBuilder(NAME, version="1.0.0")
        .step("before", skill="t.echo", input={"style": expression("trigger.style")})
        .step(
            "gate",
            skill="t.gated",
            needs=["before"],
            input={"gate": expression("trigger.gate"), "before": expression("steps.before.output")},
            timeout="500ms",
            max_attempts=1,
        )
        .step("after", skill="t.echo", needs=["gate"], input={"gate": expression("steps.gate.output.before")})
        .change("style.update", seeds=["before"])
        .build()
    )


async def failed_run(client: RunEngineClient, gate: str, **options: Any) -> RunHandle:
    """A run whose second step has timed out."""
    await client.register_workflow(workflow())
    handle = await client.start(NAME, {"gate": gate, "style": gate}, **options)
    assert (await handle.wait()).status is RunStatus.FAILED
    return handle


async def steps_of(handle: RunHandle) -> dict[str, Step]:
    return {step.step_id: step for step in await handle.steps(full=True)}


@pytest.fixture
def gate() -> str:
    return uuid.uuid4().hex


async def test_a_failed_run_is_finished(client: RunEngineClient, skills: SkillServerProcess, gate: str) -> None:
    """A retry has the run's payload, labels and priority, reuses what it finished, completes, and is a base."""
    first = await failed_run(client, gate, labels={"team": "x"}, priority=7, deadline=60)
    before = await client.get_run(first.id, full=True)
    skills.open_gate(gate)

    plan = await client.plan_retry(first.id)
    again = await client.retry(first.id)

    assert again.accepted is not None and again.accepted.plan is not None
    assert again.accepted.message == "Retry run queued - 2 steps will be executed"
    assert plan.digest == again.accepted.plan.digest
    assert (plan.base_run_id, plan.seed_step_ids) == (first.id, ())
    assert [(step.action, step.reason) for step in plan.steps] == [
        (PlanAction.REUSE, PlanReason.UNAFFECTED),
        (PlanAction.EXECUTE, PlanReason.NO_BASE_OUTPUT),
        (PlanAction.UNKNOWN, PlanReason.NO_BASE_OUTPUT),
    ]
    await again.wait()
    run = await client.get_run(again.id, full=True)
    assert (run.status, run.trigger_type, run.base_run_id) == (RunStatus.COMPLETED, TriggerType.RETRY, first.id)
    assert (run.root_run_id, run.workflow_digest) == (first.id, before.workflow_digest)
    assert (run.trigger_payload, run.labels, run.priority) == (before.trigger_payload, {"team": "x"}, 7)
    assert (before.deadline is not None, run.deadline) == (True, None)
    steps = await steps_of(again)
    assert (steps["before"].output_source, steps["before"].source_run_id) == (OutputSource.BASE_RUN, first.id)
    assert {steps["gate"].status, steps["after"].status} == {StepStatus.COMPLETED}
    assert skills.calls(run_id=again.id, step_id="before") == 0
    assert await client.get_run(first.id, full=True) == before, "the retried run never changes"

    update = await client.start_update(again.id, "style.update", {"style": "other"})
    assert (await update.wait()).status is RunStatus.COMPLETED


async def test_a_cancelled_run_is_finished(client: RunEngineClient, skills: SkillServerProcess, gate: str) -> None:
    """A cancelled run can be retried too; a retry that fails is retried like any other, and keeps the root."""
    await client.register_workflow(workflow())
    first = await client.start(NAME, {"gate": gate, "style": gate})
    skills.wait_for_call(first.id, "gate")
    await first.cancel()
    second = await client.retry(first.id)
    assert (await second.wait()).status is RunStatus.FAILED
    skills.open_gate(gate)
    third = await client.retry(second.id)
    run = await third.wait()
    assert (run.status, run.base_run_id, run.root_run_id) == (RunStatus.COMPLETED, second.id, first.id)
    assert (await steps_of(third))["before"].source_run_id == first.id


async def test_a_retried_update_keeps_its_change(
    client: RunEngineClient, skills: SkillServerProcess, gate: str
) -> None:
    """A retry of an update has its change request and effective payload."""
    skills.open_gate(gate)
    await client.register_workflow(workflow())
    base = await client.start(NAME, {"gate": gate, "style": gate})
    assert (await base.wait()).status is RunStatus.COMPLETED
    closed = uuid.uuid4().hex
    update = await client.start_update(base.id, "style.update", {"style": "epic", "gate": closed})
    assert (await update.wait()).status is RunStatus.FAILED
    skills.open_gate(closed)
    again = await client.retry(update.id)
    assert (await again.wait()).status is RunStatus.COMPLETED
    run = await client.get_run(again.id, full=True)
    assert run.change_request is not None and run.change_request.type == "style.update"
    assert run.trigger_payload == {"gate": closed, "style": "epic"}
    assert (await steps_of(again))["before"].source_run_id == update.id


async def test_what_cannot_be_retried(client: RunEngineClient, skills: SkillServerProcess, gate: str) -> None:
    """A run that completed or still runs is RUN_NOT_RETRYABLE and the message says why; an unknown one is not found."""
    await client.register_workflow(workflow())
    skills.open_gate(gate)
    done = await client.start(NAME, {"gate": gate, "style": gate})
    assert (await done.wait()).status is RunStatus.COMPLETED
    for attempt in (client.retry, client.plan_retry):
        with pytest.raises(FailedPreconditionError, match="only a failed or cancelled run") as refused:
            await attempt(done.id)  # type: ignore[operator]
        assert refused.value.reason == "RUN_NOT_RETRYABLE"
    running = await client.start(NAME, {"gate": "never", "style": uuid.uuid4().hex})
    with pytest.raises(FailedPreconditionError, match="wait until it has ended"):
        await client.retry(running.id)
    await running.cancel()
    for unknown in (str(uuid.uuid4()), "no-uuid"):
        with pytest.raises(NotFoundError, match="there is no run"):
            await client.retry(unknown)


async def test_another_tenants_run_is_not_found(client: RunEngineClient, engine: EngineProcess, gate: str) -> None:
    """A failed run of another tenant does not exist for a caller."""
    first = await failed_run(client, gate)
    async with engine.client(TOKENS.stranger) as stranger:
        with pytest.raises(NotFoundError):
            await stranger.retry(first.id)


async def test_a_repeated_retry_starts_one_run(
    client: RunEngineClient, engine_settings: EngineSettings, gate: str
) -> None:
    """The same request id, at the same time, late, and through another server, is one retry with one answer."""
    first = await failed_run(client, gate)
    answers = []
    with EngineProcess(engine_settings, name="other") as other:
        async with other.client() as elsewhere:

            async def ask(through: RunEngineClient) -> None:
                answers.append(await through.retry(first.id, request_id=gate))

            async with anyio.create_task_group() as tasks:
                for through in (client, elsewhere) * 4:
                    tasks.start_soon(ask, through)
    (run_id,) = {answer.id for answer in answers}
    accepted = [answer.accepted for answer in answers if answer.accepted]
    assert sorted(each.is_deduplicated for each in accepted) == [False] + [True] * 7
    assert len({(each.message, each.plan.digest) for each in accepted if each.plan}) == 1
    await client.run(run_id).wait()
    late = await client.retry(first.id, request_id=gate)
    assert late.id == run_id
    other_run = await failed_run(client, uuid.uuid4().hex)
    with pytest.raises(AlreadyExistsError):
        await client.retry(other_run.id, request_id=gate)


async def test_an_unexpected_plan_is_refused(client: RunEngineClient, skills: SkillServerProcess, gate: str) -> None:
    """A retry whose plan is not the expected one starts nothing; with the digest of a dry run it starts that."""
    first = await failed_run(client, gate)
    skills.open_gate(gate)
    plan = await client.plan_retry(first.id)
    with pytest.raises(AbortedError) as refused:
        await client.retry(first.id, expected_plan_digest="0" * 64, request_id=gate)
    assert refused.value.reason == "PLAN_CHANGED"
    assert [run async for run in client.list_runs(base_run_id=first.id)] == []
    again = await client.retry(first.id, expected_plan_digest=plan.digest, request_id=uuid.uuid4().hex)
    assert (await again.wait()).status is RunStatus.COMPLETED
    assert [run.id async for run in client.list_runs(trigger_type="retry", base_run_id=first.id)] == [again.id]

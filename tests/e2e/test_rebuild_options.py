"""What a caller can ask of a run besides starting it: exactly this plan, strict impact, force, a mode, a version."""

import uuid
from datetime import timedelta

import pytest

from runengine_client import RunEngineClient
from runengine_client.errors import AbortedError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from runengine_client.handle import RunHandle
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.states import CacheMode, CacheOutcome, OutputSource, PlanAction, PlanReason, RunStatus
from runengine_client.types import RebuildPlan, Run
from runengine_client.workflow import WorkflowBuilder, expression

from ..support.skill_server_process import SkillServerProcess

pytestmark = pytest.mark.anyio

NAME = "options"


def workflow(version: str = "1.0.0", *, style: str = "trigger.style") -> workflow_pb2.Workflow:
    """A plan, music made from it, a mix of that, and captions that no change type declares."""
    builder = (
        WorkflowBuilder(NAME, version=version)
        .step("plan", skill="t.echo", input={"brief": expression("trigger.brief")})
        .step(
            "music",
            skill="t.echo",
            needs=["plan"],
            input={"plan": expression("steps.plan.output"), "style": expression(style)},
        )
        .step("mix", skill="t.echo", needs=["music"], input={"music": expression("steps.music.output")})
        .step("captions", skill="t.echo", input={"text": expression("trigger.text")})
        .change("music.update", seeds=["music"])
        .change("music.bypass", seeds=["music"], cache_mode="bypass")
        .change("music.read", seeds=["music"], cache_mode="read_only")
    )
    if version != "1.0.0":
        builder = builder.step("cover", skill="t.echo", needs=["plan"], input={"of": expression("steps.plan.output")})
    return builder.build()


@pytest.fixture
async def base(client: RunEngineClient) -> Run:
    """A completed run whose inputs no other run has."""
    await client.register_workflow(workflow())
    own = uuid.uuid4().hex
    payload = {"brief": own, "style": f"calm {own}", "text": own}
    handle = await client.start(NAME, payload, labels={"own": own}, workflow_version="1.0.0")
    run = await handle.wait()
    assert run.status is RunStatus.COMPLETED
    return await client.get_run(run.id, full=True)


def said(plan: RebuildPlan) -> dict[str, tuple[PlanAction, PlanReason]]:
    return {step.step_id: (step.action, step.reason) for step in plan.steps}


async def based_on(client: RunEngineClient, run: Run) -> list[str]:
    return [found.id async for found in client.list_runs(base_run_id=run.id)]


async def sources(handle: RunHandle) -> dict[str, OutputSource | None]:
    assert (await handle.wait()).status is RunStatus.COMPLETED
    return {step.step_id: step.output_source for step in await handle.steps()}


async def outcomes(handle: RunHandle) -> dict[str, CacheOutcome | None]:
    await handle.wait()
    return {step.step_id: step.cache.outcome if step.cache else None for step in await handle.steps()}


async def test_a_change_beyond_its_impact(client: RunEngineClient, base: Run) -> None:
    """A widened plan names step and place; under strict impact it is refused by name and nothing is written."""
    change = {"style": "epic", "text": "other"}
    plan = await client.plan_update(base.id, "music.update", change)
    assert said(plan)["captions"] == (PlanAction.EXECUTE, PlanReason.WIDENED)
    assert {step.step_id: step.changed_pointers for step in plan.steps if step.changed_pointers} == {
        "music": ("/style",),
        "captions": ("/text",),
    }
    for attempt in (client.start_update, client.plan_update):
        with pytest.raises(FailedPreconditionError) as refused:
            await attempt(base.id, "music.update", change, strict_impact=True)  # type: ignore[operator]
        assert refused.value.reason == "IMPACT_WIDENED"
        for word in ("music.update", "captions at /text", "strictImpact"):
            assert word in str(refused.value)
        assert refused.value.metadata["stepIds"] == "captions"
    assert await based_on(client, base) == []
    within = await client.start_update(base.id, "music.update", {"style": "epic"}, strict_impact=True)
    assert (await sources(within))["captions"] is OutputSource.BASE_RUN


async def test_an_update_does_what_its_plan_said(client: RunEngineClient, base: Run) -> None:
    """With the digest of a dry run the update is that plan; once something else is true it is refused unwritten."""
    change = {"style": "epic", "text": uuid.uuid4().hex}
    plan = await client.plan_update(base.id, "music.update", change)
    other = await client.start_update(base.id, "music.update", change)
    assert (await other.wait()).status is RunStatus.COMPLETED
    with pytest.raises(AbortedError) as refused:
        await client.start_update(base.id, "music.update", change, expected_plan_digest=plan.digest)
    assert refused.value.reason == "PLAN_CHANGED"
    now = await client.plan_update(base.id, "music.update", change)
    assert refused.value.metadata == {"expectedPlanDigest": plan.digest, "planDigest": now.digest}
    assert await based_on(client, base) == [other.id]
    again = await client.start_update(base.id, "music.update", change, expected_plan_digest=now.digest)
    assert again.plan is not None and again.plan.digest == now.digest
    assert set((await sources(again)).values()) <= {
        OutputSource.BASE_RUN,
        OutputSource.CACHE_HOT,
        OutputSource.CACHE_COLD,
    }
    assert said(now)["captions"] == (PlanAction.REUSE, PlanReason.WIDENED), "cached, and still beyond the impact"


async def test_a_refused_repetition_gets_its_first_answer(client: RunEngineClient, base: Run) -> None:
    """A call whose answer was lost is repeated after its run changed what the plan would be: it gets the same run."""
    change = {"style": uuid.uuid4().hex}
    plan = await client.plan_update(base.id, "music.update", change)
    options = {"expected_plan_digest": plan.digest, "request_id": uuid.uuid4().hex}
    first = await client.start_update(base.id, "music.update", change, **options)  # type: ignore[arg-type]
    assert (await first.wait()).status is RunStatus.COMPLETED
    again = await client.start_update(base.id, "music.update", change, **options)  # type: ignore[arg-type]
    assert (again.id, again.accepted is not None and again.accepted.is_deduplicated) == (first.id, True)


async def test_a_trigger_does_what_its_plan_said(client: RunEngineClient, base: Run) -> None:
    """Trigger takes an expected plan too; what is no digest is refused as such."""
    payload = {"brief": uuid.uuid4().hex, "style": "calm", "text": "t"}
    plan = await client.plan(NAME, payload)
    own = {"own": uuid.uuid4().hex}
    with pytest.raises(AbortedError):
        await client.start(NAME, {**payload, "text": "u"}, expected_plan_digest=plan.digest, labels=own)
    with pytest.raises(InvalidArgumentError, match="expectedPlanDigest"):
        await client.start(NAME, payload, expected_plan_digest="none", labels=own)
    assert [run async for run in client.list_runs(labels=own)] == []
    started = await client.start(NAME, payload, expected_plan_digest=plan.digest, labels=own)
    assert (await started.wait()).status is RunStatus.COMPLETED


@pytest.mark.parametrize("mode", ["default", "refresh", "read_only", "bypass"])
async def test_a_forced_step_executes(
    client: RunEngineClient, skills: SkillServerProcess, base: Run, mode: CacheMode
) -> None:
    """A forced step is called although base and cache have its output, in every mode, and its output is filed."""
    handle = await client.start_update(base.id, "music.update", force_step_ids=["plan"], cache_mode=mode)
    assert handle.plan is not None
    assert said(handle.plan)["plan"] == (PlanAction.EXECUTE, PlanReason.FORCED)
    assert said(handle.plan)["captions"] == (PlanAction.REUSE, PlanReason.UNAFFECTED)
    assert (await sources(handle))["plan"] is OutputSource.EXECUTED
    assert skills.calls(run_id=handle.id, step_id="plan") == 1
    assert (await outcomes(handle))["plan"] is CacheOutcome.REFRESHED
    payload = base.trigger_payload or {}
    initial = await client.start(NAME, payload, force_step_ids=["captions"])
    assert (await sources(initial))["captions"] is OutputSource.EXECUTED
    (step,) = [step for step in await initial.steps() if step.step_id == "plan"]
    assert step.source_run_id == handle.id, "the forced output is the cache's latest"


async def test_forced_steps_must_exist(client: RunEngineClient, base: Run) -> None:
    """Unknown and repeated steps are refused, all at once, each by its place."""
    for attempt in (
        client.start(NAME, {"brief": 1}, force_step_ids=["plan", "nope", "plan"]),
        client.start_update(base.id, "music.update", force_step_ids=["plan", "nope", "plan"]),
    ):
        with pytest.raises(InvalidArgumentError) as refused:
            await attempt
        assert [violation.field for violation in refused.value.violations] == ["forceStepIds[1]", "forceStepIds[2]"]
        assert "options 1.0.0 has no step 'nope'" in str(refused.value)
    assert await based_on(client, base) == []


async def test_modes_of_an_initial_run(client: RunEngineClient, skills: SkillServerProcess, base: Run) -> None:
    """READ_ONLY reads and never writes, BYPASS does neither, REFRESH executes and writes; the decisions say so."""
    payload = base.trigger_payload or {}
    read = await client.start(NAME, payload, cache_mode="read_only")
    assert set((await sources(read)).values()) <= {OutputSource.CACHE_HOT, OutputSource.CACHE_COLD}
    bypassing = await client.start(NAME, payload, cache_mode="bypass")
    assert set((await sources(bypassing)).values()) == {OutputSource.EXECUTED}
    assert set((await outcomes(bypassing)).values()) == {CacheOutcome.BYPASSED}
    later = await client.start(NAME, payload)
    await later.wait()
    assert {step.source_run_id for step in await later.steps()} == {base.id}, "a bypassing run files nothing"
    refreshed = await client.start(NAME, payload, cache_mode="refresh")
    assert set((await outcomes(refreshed)).values()) == {CacheOutcome.REFRESHED}
    latest = await client.start(NAME, payload)
    await latest.wait()
    assert {step.source_run_id for step in await latest.steps()} == {refreshed.id}

    fresh = {**payload, "brief": uuid.uuid4().hex}
    unread = await client.start(NAME, fresh, cache_mode="read_only")
    assert (await outcomes(unread))["plan"] is CacheOutcome.MISS
    again = await client.start(NAME, fresh, cache_mode="read_only")
    assert (await sources(again))["plan"] is OutputSource.EXECUTED, "a read-only run files nothing"


async def test_modes_of_change_rules(client: RunEngineClient, base: Run) -> None:
    """A change rule's mode holds unless the request has its own; what the change does not reach is reused in each."""
    bypassing = await client.start_update(base.id, "music.bypass")
    assert await sources(bypassing) == {
        "plan": OutputSource.BASE_RUN,
        "music": OutputSource.EXECUTED,
        "mix": OutputSource.EXECUTED,
        "captions": OutputSource.BASE_RUN,
    }
    requested = await client.start_update(base.id, "music.bypass", cache_mode="default")
    assert set((await sources(requested)).values()) == {OutputSource.BASE_RUN}
    refreshed = await client.start_update(base.id, "music.update", cache_mode="refresh")
    found = await sources(refreshed)
    assert (found["music"], found["mix"]) == (OutputSource.EXECUTED, OutputSource.BASE_RUN), "an equal output cuts off"
    change = {"style": uuid.uuid4().hex}
    await (await client.start_update(base.id, "music.read", change)).wait()
    again = await client.start_update(base.id, "music.read", change)
    assert (await sources(again))["music"] is OutputSource.EXECUTED


async def test_onto_a_newer_version(client: RunEngineClient, base: Run) -> None:
    """Naming a version builds with it: what is equal is reused by reference, new and changed steps execute."""
    version = f"2.0.{uuid.uuid4().int % 10**9}"
    style = '"new " + trigger.style'
    await client.register_workflow(workflow(version, style=style))
    handle = await client.start_update(base.id, "music.update", workflow_version=version)
    assert handle.plan is not None
    assert said(handle.plan) == {
        "plan": (PlanAction.REUSE, PlanReason.UNAFFECTED),
        "music": (PlanAction.EXECUTE, PlanReason.SEED),
        "mix": (PlanAction.UNKNOWN, PlanReason.DOWNSTREAM),
        "captions": (PlanAction.REUSE, PlanReason.UNAFFECTED),
        "cover": (PlanAction.EXECUTE, PlanReason.NO_BASE_OUTPUT),
    }
    assert await sources(handle) == {
        "plan": OutputSource.BASE_RUN,
        "music": OutputSource.EXECUTED,
        "mix": OutputSource.EXECUTED,
        "captions": OutputSource.BASE_RUN,
        "cover": OutputSource.EXECUTED,
    }
    run = await handle.get()
    assert (run.workflow_version, run.base_run_id, run.root_run_id) == (version, base.id, base.id)
    before = {step.step_id: step.output for step in await client.run(base.id).steps(full=True)}
    after = {step.step_id: step.output for step in await handle.steps(full=True)}
    assert {name: after[name] for name in ("plan", "captions")} == {name: before[name] for name in ("plan", "captions")}
    captions = await client.plan_update(base.id, "music.bypass", {"text": "new"}, workflow_version=version)
    assert said(captions)["music"] == (PlanAction.EXECUTE, PlanReason.SEED)
    assert said(captions)["captions"] == (PlanAction.EXECUTE, PlanReason.WIDENED)
    with pytest.raises(NotFoundError, match="has no version"):
        await client.start_update(base.id, "music.update", workflow_version="9.9.9")


async def test_reordered_steps_of_a_newer_version_cut_off(client: RunEngineClient, base: Run) -> None:
    """The scheduler compares with the right step of the base although the new version numbers its steps otherwise."""
    version = f"3.0.{uuid.uuid4().int % 10**9}"
    definition = workflow()
    definition.version = version
    steps = list(definition.steps)
    del definition.steps[:]
    definition.steps.extend(reversed(steps))
    await client.register_workflow(definition)
    handle = await client.start_update(
        base.id, "music.update", workflow_version=version, force_step_ids=["plan"], cache_mode="default"
    )
    assert handle.plan is not None
    assert said(handle.plan)["music"] == (PlanAction.UNKNOWN, PlanReason.SEED)
    assert await sources(handle) == {
        "plan": OutputSource.EXECUTED,
        "music": OutputSource.BASE_RUN,
        "mix": OutputSource.BASE_RUN,
        "captions": OutputSource.BASE_RUN,
    }


async def test_estimates_come_from_history(client: RunEngineClient, base: Run) -> None:
    """A plan says how long its steps took before, also in another version and for a trigger; reuse takes nothing."""
    unseen = {"brief": uuid.uuid4().hex, "style": "s", "text": uuid.uuid4().hex}
    plan = await client.plan(NAME, unseen, workflow_version="1.0.0")
    assert all(step.estimate is not None and step.estimate > timedelta(0) for step in plan.steps)
    assert plan.estimate is not None and plan.estimate > timedelta(0)
    update = await client.plan_update(base.id, "music.update", {"style": "epic"})
    estimates = {step.step_id: step.estimate for step in update.steps}
    assert estimates["music"] is not None and estimates["mix"] is not None
    assert (estimates["plan"], estimates["captions"]) == (None, None)
    version = f"4.0.{uuid.uuid4().int % 10**9}"
    await client.register_workflow(workflow(version))
    newer = await client.plan(NAME, unseen, workflow_version=version)
    known = {step.step_id: step.estimate is not None for step in newer.steps}
    assert {name: known[name] for name in ("plan", "music", "mix", "captions")} == dict.fromkeys(
        ("plan", "music", "mix", "captions"), True
    )

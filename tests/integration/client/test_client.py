"""The client sends what the contract says, survives lost answers and says what the server said."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from runengine_client import (
    Backoff,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    RunEngineClient,
    RunNotCompletedError,
    UnavailableError,
)
from runengine_client.pb.runengine.v1 import run_pb2

pytestmark = pytest.mark.anyio

RUN_ID = "550e8400-e29b-41d4-a716-446655440000"
FAST = Backoff(attempts_max=4, first_s=0.001, max_s=0.002)


@pytest.fixture
async def client(serving):
    async with RunEngineClient(serving.target, backoff=FAST) as made:
        yield made


async def test_trigger(client, fake):
    """A trigger returns the run's id and sends payload, options and a fresh UUID as request id."""
    run_id = await client.trigger(
        "campaign.build.v1",
        {"brief": {"style": "energetic", "sizes": (1, 2.5)}},
        labels={"team": "a"},
        deadline=timedelta(minutes=5),
        priority=7,
        cache_mode="refresh",
        force_step_ids=["mix"],
        failure_policy="fail_fast",
    )
    assert run_id == RUN_ID
    (request,) = fake.requests("Trigger")
    assert request.workflow_name == "campaign.build.v1"
    assert request.trigger_payload["brief"]["style"] == "energetic"
    assert list(request.trigger_payload["brief"]["sizes"]) == [1, 2.5]
    assert str(uuid.UUID(request.request_id)) == request.request_id
    assert (dict(request.labels), request.deadline.seconds, request.priority) == ({"team": "a"}, 300, 7)
    assert (request.cache_mode, request.failure_policy) == (2, 2)
    assert list(request.force_step_ids) == ["mix"]


async def test_unavailable_is_retried_with_the_same_request_id(client, fake, make_fault):
    """A call that finds no server is repeated as it was; the run is started once."""
    fake.faults["Trigger"] = [make_fault(), make_fault(reason="DRAINING", retry_after_s=0.01)]
    await client.trigger("demo")
    ids = [request.request_id for request in fake.requests("Trigger")]
    assert len(ids) == 3
    assert len(set(ids)) == 1


async def test_lost_answer_starts_one_run(client, fake, make_fault):
    """When the work was done and the answer lost, the repeated call returns the same run."""
    fake.late_faults["Trigger"] = [make_fault()]
    handle = await client.start("demo")
    assert handle.accepted.is_deduplicated
    assert len(fake.started) == 1
    assert len(fake.requests("Trigger")) == 2


async def test_unavailable_is_bounded(client, fake, make_fault):
    """After the last try the caller learns why."""
    fake.faults["GetRun"] = [make_fault(reason="DATABASE_UNAVAILABLE") for _ in range(10)]
    with pytest.raises(UnavailableError) as caught:
        await client.get_run(RUN_ID)
    assert caught.value.reason == "DATABASE_UNAVAILABLE"
    assert len(fake.requests("GetRun")) == FAST.attempts_max


async def test_errors_carry_what_the_server_said(client, fake, make_fault):
    """Reason, message, violations and metadata of a refusal arrive, and it is not repeated."""
    fake.faults["TriggerUpdate"] = [
        make_fault(
            code="INVALID_ARGUMENT",
            reason="UNKNOWN_CHANGE_TYPE",
            message="No change type x; known are a, b",
            violations={"change_request.type": "is not one of a, b"},
            metadata={"known": "a,b"},
        ),
        make_fault(code="FAILED_PRECONDITION", reason="BASE_RUN_NOT_COMPLETED"),
    ]
    with pytest.raises(InvalidArgumentError) as caught:
        await client.trigger_update(RUN_ID, "x", {})
    error = caught.value
    assert (error.reason, error.message) == ("UNKNOWN_CHANGE_TYPE", "No change type x; known are a, b")
    assert [(each.field, each.description) for each in error.violations] == [
        ("change_request.type", "is not one of a, b")
    ]
    assert error.metadata == {"known": "a,b"}
    assert error.is_from_server
    with pytest.raises(FailedPreconditionError):
        await client.trigger_update(RUN_ID, "x", {})
    assert len(fake.requests("TriggerUpdate")) == 2


async def test_unsendable_payload(client, fake):
    """A payload that would lose digits is refused here, with its pointer, and nothing is sent."""
    with pytest.raises(InvalidArgumentError) as caught:
        await client.trigger("demo", {"a": [1, {"b/c": 2**53}], "d": float("nan")})
    assert [each.field for each in caught.value.violations] == ["trigger_payload/a/1/b~1c", "trigger_payload/d"]
    assert fake.calls == []


async def test_bad_options(client, fake):
    """Options the contract does not know are refused here."""
    with pytest.raises(InvalidArgumentError, match="refresh"):
        await client.trigger("demo", cache_mode="refrsh")
    with pytest.raises(InvalidArgumentError, match="deadline"):
        await client.trigger("demo", deadline=0)
    with pytest.raises(InvalidArgumentError, match="time zone"):
        _ = [run async for run in client.list_runs(created_after=datetime(2026, 1, 1))]  # noqa: DTZ001
    assert fake.calls == []


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("trigger", ("demo",)), ("plan", ("demo",)), ("trigger_update", (RUN_ID, "audio.update")), ("retry", (RUN_ID,))],
)
async def test_misspelt_options_are_refused(client, fake, method, arguments):
    """A keyword nobody knows is a TypeError that says what there is, instead of an option that is not sent."""
    with pytest.raises(TypeError, match=r"unknown option expected_digest; there are .*expected_plan_digest"):
        await getattr(client, method)(*arguments, expected_digest="abc")
    assert fake.calls == []


async def test_misspelt_filters_are_refused(client, fake):
    """A misspelt condition neither lists nor removes more than was meant."""
    with pytest.raises(TypeError, match="unknown option workflow; there are workflow_name"):
        _ = [run async for run in client.list_runs(workflow="demo")]
    with pytest.raises(TypeError, match="unknown option validate_only; there are key"):
        await client.invalidate_cache(workflow_name="demo", validate_only=True)
    assert fake.calls == []


async def test_plan(client, fake):
    """A plan is validate-only, needs no request id and comes step by step."""
    plan = await client.plan_update(RUN_ID, "audio.update", {"audioStyle": "epic"})
    assert (plan.execute_count, plan.reuse_count, plan.digest) == (2, 2, "abc123")
    assert [(step.step_id, step.action, step.reason) for step in plan.steps][2:] == [
        ("music", "execute", "seed"),
        ("mix", "execute", "downstream"),
    ]
    (request,) = fake.requests("TriggerUpdate")
    assert request.validate_only
    assert request.request_id == ""


async def test_get_run(client, fake):
    """A run arrives with times in UTC, enums as words and payloads as plain values."""
    run = await client.get_run(RUN_ID, full=True)
    assert (run.status, run.trigger_type) == ("completed", "initial")
    assert run.created_at == datetime(2026, 1, 19, 10, tzinfo=UTC)
    assert run.duration == timedelta(seconds=7)
    assert run.trigger_payload == {"brief": {"style": "energetic", "count": 3}}
    assert isinstance(run.trigger_payload["brief"]["count"], int)
    assert run.steps_summary.skipped == 1
    assert run.error is None
    assert fake.requests("GetRun")[0].view == run_pb2.VIEW_FULL


async def test_unknown_enum_value(client, fake):
    """A status newer than this client reads `unknown` instead of failing."""
    fake.run.status = 99
    assert (await client.get_run(RUN_ID)).status == "unknown"


async def test_lists_follow_pages(client, fake):
    """Lists go on to the last page."""
    assert [run.id async for run in client.list_runs(statuses=["completed"])] == [f"run-{n}" for n in range(5)]
    assert [request.page_token for request in fake.requests("ListRuns")] == ["", "2", "4"]
    assert [step.step_id async for step in client.list_steps(RUN_ID)] == ["plan", "image", "music", "mix"]


async def test_token(serving, fake):
    """The token goes with calls and watches alike, the current one each time."""
    tokens = iter(["one", "two"])
    async with RunEngineClient(serving.target, token=lambda: next(tokens)) as client:
        await client.get_run(RUN_ID)
        _ = [item async for item in client.watch(RUN_ID)]
    assert [metadata.get("authorization") for _, _, metadata in fake.calls] == ["Bearer one", "Bearer two"]


async def test_handle_result(client, fake, make_run):
    """A handle's result is the completed run; a failed one raises with the run inside."""
    handle = await client.start("demo")
    assert handle.message == "Run queued for execution"
    assert (await handle.result()).status == "completed"
    assert len(await handle.steps()) == 4
    fake.run = make_run(run_pb2.RUN_STATUS_FAILED)
    with pytest.raises(RunNotCompletedError, match="failed at step mix: SKILL_TIMEOUT took too long") as caught:
        await handle.result()
    assert caught.value.run.failed_step == "mix"
    assert (await handle.wait()).status == "failed"


async def test_cancel_retry_explain(client, fake):
    """Cancel, retry and explain carry the server's words."""
    assert (await client.cancel(RUN_ID, "wrong brief")).message == "Run cancelled"
    assert fake.requests("Cancel")[0].reason == "wrong brief"
    assert (await client.retry(RUN_ID)).message == "Retry run queued - 2 steps will be executed"
    assert (await client.explain_step(RUN_ID, "plan")).text == ("It ran: nothing was cached.",)


async def test_workflows(client, fake):
    """A built workflow is registered once, found again and listed."""
    from runengine_client.workflow import WorkflowBuilder, document_of

    workflow = WorkflowBuilder("demo", version="1.0.0").step("plan", skill="demo.plan").build()
    assert (await client.register_workflow(workflow)).created
    assert not (await client.register_workflow(workflow)).created
    assert document_of(await client.get_workflow("demo")) == document_of(workflow)
    assert [each.name async for each in client.list_workflows()] == ["demo"]
    with pytest.raises(NotFoundError):
        await client.get_workflow("other")


async def test_restart_between_calls(serving, client):
    """After a server restart the next call succeeds, within the client's own bounds."""
    await client.get_run(RUN_ID)
    serving.stop()
    serving.start()
    async with RunEngineClient(serving.target) as other:
        await other.get_run(RUN_ID)
    patient = RunEngineClient(serving.target, backoff=Backoff(first_s=0.05))
    async with patient:
        assert (await patient.get_run(RUN_ID)).id == RUN_ID


async def test_comparison_and_lineage(client):
    """A comparison tells a missing step from one that is there; a lineage has its artifacts and what connects them."""
    comparison = await client.compare_runs(RUN_ID, RUN_ID)
    plan, music, mix = comparison.steps
    assert (plan.output_changed, plan.right.output_source, mix.left) == (False, "base_run", None)
    assert (music.input_pointers, comparison.root_cause_step_ids) == (("/style",), ("music",))
    lineage = await client.get_lineage("a-mix")
    assert [artifact.id for artifact in lineage.artifacts] == ["a-mix", "a-music", "a-plan"]
    assert (lineage.edges[0].from_artifact_id, lineage.edges[0].step_id) == ("a-music", "mix")

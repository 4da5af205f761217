"""What reaches the use cases, and which requests do not."""

import math

import grpc
import pytest
from google.protobuf import duration_pb2, struct_pb2
from grpc import StatusCode
from grpc_status import rpc_status

from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_client.pb.runengine.v1 import run_pb2, workflow_pb2
from runengine_server.domain.states import CacheMode, RunStatus, StepStatus

from .refusals import refused

pytestmark = pytest.mark.anyio


def struct(**members: object) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(members)
    return made


async def test_trigger_carries_everything(served):
    """Trigger passes payload, labels, deadline and mode on, integral numbers as ints, and answers with the run."""
    answer = await (await served.engine()).Trigger(
        pb.TriggerRequest(
            workflow_name="campaign.build.v1",
            trigger_payload=struct(count=3, ratio=0.5, big=2**53 - 1, brief={"tags": ["a", None, True]}),
            request_id="q",
            labels={"team": "x"},
            deadline=duration_pb2.Duration(seconds=90, nanos=500_000_000),
            priority=4,
            cache_mode=workflow_pb2.CACHE_MODE_REFRESH,
        )
    )
    assert (answer.run_id, answer.status, answer.message) == (
        "550e8400-e29b-41d4-a716-446655440000",
        run_pb2.RUN_STATUS_QUEUED,
        "Run queued for execution",
    )
    ((_, _, request),) = served.services.calls
    assert request.trigger_payload == {
        "count": 3,
        "ratio": 0.5,
        "big": 2**53 - 1,
        "brief": {"tags": ["a", None, True]},
    }
    assert type(request.trigger_payload["count"]) is int
    assert (request.deadline_s, request.priority, request.labels) == (90.5, 4, {"team": "x"})
    assert (request.cache_mode, request.failure_policy) == (CacheMode.REFRESH, None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2.0**60, -(2.0**53)])
async def test_numbers_that_are_not_exact_are_refused(served, bad):
    """NaN, infinities and numbers beyond ±(2^53−1) are VALIDATION_FAILED with the place and what to do."""
    payload = struct_pb2.Struct()
    payload.update({"brief": {"y": 1}})
    payload.fields["brief"].struct_value.fields["x"].number_value = bad
    error, details = await refused((await served.engine()).Trigger(pb.TriggerRequest(trigger_payload=payload)))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert details["ErrorInfo"].reason == "VALIDATION_FAILED"
    (violation,) = details["BadRequest"].field_violations
    assert violation.field == "triggerPayload/brief/x"
    assert "send a larger one as a string" in violation.description
    assert served.services.calls == []


async def test_a_change_payload_is_checked_too(served):
    """The payload of a change request has the same rules, under its own path."""
    change = run_pb2.ChangeRequest(type="audio.update")
    change.payload.fields["volume"].number_value = math.nan
    request = pb.TriggerUpdateRequest(base_run_id="x", change_request=change)
    _, details = await refused((await served.engine()).TriggerUpdate(request))
    assert details["BadRequest"].field_violations[0].field == "changeRequest.payload/volume"


async def test_values_that_say_nothing_are_refused(served):
    """A google.protobuf.Value that was never set is no null: refused with every place; null itself arrives."""
    payload = struct(brief={"x": None}, sizes=[1, None])
    await (await served.engine()).Trigger(pb.TriggerRequest(trigger_payload=payload))
    assert served.services.calls.pop()[2].trigger_payload == {"brief": {"x": None}, "sizes": [1, None]}
    payload.fields["brief"].struct_value.fields["a/b"].Clear()
    payload.fields["sizes"].list_value.values.add()
    error, details = await refused((await served.engine()).Trigger(pb.TriggerRequest(trigger_payload=payload)))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    violations = details["BadRequest"].field_violations
    assert {violation.field for violation in violations} == {"triggerPayload/brief/a~1b", "triggerPayload/sizes/2"}
    assert all("has no value" in violation.description for violation in violations)
    assert served.services.calls == []


async def test_an_update_without_a_change_is_refused(served):
    """TriggerUpdate without change_request names the missing field."""
    _, details = await refused((await served.engine()).TriggerUpdate(pb.TriggerUpdateRequest(base_run_id="x")))
    assert details["BadRequest"].field_violations[0].field == "changeRequest"


@pytest.mark.parametrize(
    "payload",
    [
        {"text": "x" * 2_000_000},
        {"numbers": [1] * 100_001},
    ],
)
async def test_payloads_beyond_the_limits_are_refused(served, payload):
    """A payload of 2 MB, or of more than 100,000 values, reaches our check: PAYLOAD_TOO_LARGE with advice."""
    request = pb.TriggerRequest(trigger_payload=struct(**payload))
    error, details = await refused((await served.engine()).Trigger(request))
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert details["ErrorInfo"].reason == "PAYLOAD_TOO_LARGE"
    assert details["ErrorInfo"].metadata["field"] == "triggerPayload"
    assert details["QuotaFailure"].violations[0].subject == "triggerPayload"
    assert "artifact" in error.details()


async def test_messages_beyond_3_mib_are_refused_by_grpc_itself(served):
    """What is larger than any valid request is not even read; gRPC refuses it, so that no reason comes along."""
    request = pb.TriggerRequest(trigger_payload=struct(text="x" * (3 * 1024 * 1024 + 1)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (await served.engine()).Trigger(request)
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert rpc_status.from_call(caught.value) is None


async def test_a_payload_at_the_limits_arrives(served):
    """1 MiB and 32 levels are within the limits."""
    deep: object = 1
    for _ in range(30):
        deep = [deep]
    payload = {"deep": deep, "text": "x" * (1024 * 1024 - 100)}
    await (await served.engine()).Trigger(pb.TriggerRequest(trigger_payload=struct(**payload)))
    assert served.services.calls[0][2].trigger_payload == payload


async def test_too_deep_payloads_are_refused_with_a_reason(served):
    """33 levels are PAYLOAD_TOO_LARGE, or VALIDATION_FAILED where protobuf gives up; never an internal error."""
    for levels in (32, 40):
        deep: object = 1
        for _ in range(levels):
            deep = [deep]
        _, details = await refused(
            (await served.engine()).Trigger(pb.TriggerRequest(trigger_payload=struct(deep=deep)))
        )
        assert details["ErrorInfo"].reason in ("PAYLOAD_TOO_LARGE", "VALIDATION_FAILED")


async def test_unknown_enum_numbers_are_refused_all_at_once(served):
    """Numbers of a newer contract are named, each with its place."""
    request = pb.ListRunsRequest(statuses=[run_pb2.RUN_STATUS_FAILED, 77, 0], trigger_type=9)
    _, details = await refused((await served.engine()).ListRuns(request))
    assert {violation.field for violation in details["BadRequest"].field_violations} == {
        "statuses[1]",
        "triggerType",
    }


@pytest.mark.parametrize(
    ("rpc", "request_", "field"),
    [
        ("Cancel", pb.CancelRequest(run_id="r", reason="a\0b"), "reason"),
        ("ListRuns", pb.ListRunsRequest(workflow_name="\0"), "workflowName"),
        ("ListRuns", pb.ListRunsRequest(page_token="\0"), "pageToken"),
        ("WatchRun", pb.WatchRunRequest(run_id="\0"), "runId"),
        ("Trigger", pb.TriggerRequest(workflow_name="w", labels={"k": "\0"}), 'labels["k"]'),
    ],
)
async def test_text_that_cannot_be_stored_is_refused_at_the_edge(served, rpc, request_, field):
    """U+0000 in a text is VALIDATION_FAILED with the field, on every kind of call, and reaches no use case."""
    call = getattr(await served.engine(), rpc)(request_)
    error, details = await refused(call.read() if rpc == "WatchRun" else call)
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert details["ErrorInfo"].reason == "VALIDATION_FAILED"
    assert [violation.field for violation in details["BadRequest"].field_violations] == [field]
    assert error.details().startswith(f"the request is not valid: {field}: ")
    assert served.services.calls == []


async def test_filters_reach_the_use_cases(served):
    """Lists pass filters, pages and views on, and their pages back."""
    engine = await served.engine()
    page = await engine.ListRuns(pb.ListRunsRequest(statuses=[run_pb2.RUN_STATUS_FAILED], page_token="t"))
    assert (page.runs[0].workflow_version, page.next_page_token) == ("1.0.0", "next")
    steps = await engine.ListSteps(
        pb.ListStepsRequest(run_id="r", statuses=[run_pb2.STEP_STATUS_READY], view=run_pb2.VIEW_FULL)
    )
    assert steps.as_of_sequence == 1
    await engine.ListArtifacts(pb.ListArtifactsRequest(run_id="r", step_id="s"))
    await engine.GetRun(pb.GetRunRequest(run_id="r", view=run_pb2.VIEW_FULL))
    cancelled = await engine.Cancel(pb.CancelRequest(run_id="r", reason="why"))
    assert (cancelled.message, cancelled.run.cancel_reason) == ("Run cancelled", "why")
    runs, listed_steps, artifacts, read, cancel = (request for _, _, request in served.services.calls)
    assert (runs.statuses, runs.page_token) == ([RunStatus.FAILED], "t")
    assert (listed_steps.statuses, listed_steps.is_full) == ([StepStatus.READY], True)
    assert artifacts.step_id == "s"
    assert read == ("r", True)
    assert cancel == ("r", "why")


async def test_workflows_register_with_warnings(served):
    """RegisterWorkflow answers with defaults and digest, and shows warnings as trailing metadata."""
    served.services.warnings = ("skill `ä` is not reachable",)
    call = (await served.registry()).RegisterWorkflow(
        workflow_pb2.RegisterWorkflowRequest(
            workflow=workflow_pb2.Workflow(
                name="w", version="1.0.0", steps=[workflow_pb2.StepDefinition(step_id="a", skill_id="s")]
            )
        )
    )
    answer = await call
    assert answer.created
    assert answer.workflow.steps[0].retry_policy.max_attempts == 3
    assert len(answer.workflow.digest) == 64
    trailing = dict(iter(await call.trailing_metadata()))
    assert trailing["runengine-warning-bin"].decode() == "skill `ä` is not reachable"


async def test_a_workflow_that_cannot_be_read_names_every_place(served):
    """RegisterWorkflow reports all parse errors at once; without a workflow it says so."""
    step = workflow_pb2.StepDefinition(step_id="a", skill_id="s")
    step.input_selector.fields["x"].number_value = math.nan
    step.cache_policy.scope = 9
    step.timeout.nanos = -2_000_000_000
    registry = await served.registry()
    request = workflow_pb2.RegisterWorkflowRequest(workflow=workflow_pb2.Workflow(steps=[step], failure_policy=7))
    _, details = await refused(registry.RegisterWorkflow(request))
    assert details["ErrorInfo"].reason == "WORKFLOW_INVALID"
    assert [violation.field for violation in details["BadRequest"].field_violations] == [
        "steps[0].inputSelector/x",
        "steps[0].cachePolicy.scope",
        "steps[0].timeout",
        "failurePolicy",
    ]
    _, details = await refused(registry.RegisterWorkflow(workflow_pb2.RegisterWorkflowRequest()))
    assert details["BadRequest"].field_violations[0].field == "workflow"


async def test_questions_about_runs(served):
    """Explanations, comparisons and lineages carry everything both ways; a step a run does not have stays unset."""
    engine = await served.engine("read")
    told = await engine.ExplainStep(pb.ExplainStepRequest(run_id="r", step_id="mix"))
    assert (told.step.step_id, list(told.text)) == ("mix", ["It ran.", "It had to."])
    compared = await engine.CompareRuns(pb.CompareRunsRequest(left_run_id="l", right_run_id="r"))
    (diff,) = compared.steps
    assert (diff.HasField("left"), diff.right.step_id, list(diff.input_pointers)) == (False, "mix", ["/style", ""])
    assert (diff.output_changed, list(compared.root_cause_step_ids)) == (True, ["mix"])
    traced = await engine.GetLineage(pb.GetLineageRequest(artifact_id="a", depth=3))
    (edge,) = traced.edges
    assert (edge.from_artifact_id, edge.to_artifact_id, edge.step_id) == ("b", "a", "mix")
    assert [(name, request) for name, _, request in served.services.calls] == [
        ("explain_step", ("r", "mix")),
        ("compare_runs", ("l", "r")),
        ("get_lineage", ("a", 3)),
    ]

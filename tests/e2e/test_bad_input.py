"""Requests that cannot work are refused with the right status, a stable reason and words that say what to do."""

import math
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
import pytest
from google.protobuf import struct_pb2
from grpc import StatusCode

from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_client.pb.runengine.v1 import run_pb2, workflow_pb2
from runengine_client.workflow import WorkflowBuilder, expression

from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.refusals import RawApi, bearer, raw_api, refusal
from ..support.skill_server_process import SkillServerProcess
from .workflows import DEMO, demo, gated, single

NOWHERE = "00000000-0000-4000-8000-000000000000"
ADMIN = bearer(TOKENS.admin)
Calls = list[tuple[Callable[..., Any], Any]]


def struct(**members: object) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(cast("Any", members))
    return made


BRIEF = struct(brief={"style": "epic"})


def trigger(**fields: Any) -> pb.TriggerRequest:
    return pb.TriggerRequest(**{"workflow_name": DEMO, "trigger_payload": BRIEF, **fields})


def update(base: str, change: str = "music.update", **fields: Any) -> pb.TriggerUpdateRequest:
    request = run_pb2.ChangeRequest(type=change, payload=struct(style="epic"))
    return pb.TriggerUpdateRequest(**{"base_run_id": base, "change_request": request, **fields})


def watch_to_end(raw: RawApi, run_id: str) -> pb.WatchRunResponse:
    *_, last = raw.engine.WatchRun(pb.WatchRunRequest(run_id=run_id), metadata=ADMIN, timeout=20)
    assert last.WhichOneof("kind") == "end"
    return last


@pytest.fixture(scope="module")
def raw(engine: EngineProcess) -> Iterator[RawApi]:
    with raw_api(engine.target) as api:
        for workflow in (demo(), gated(), single("large", skill="t.big", input={"bytes": 1})):
            request = workflow_pb2.RegisterWorkflowRequest(workflow=workflow)
            assert api.registry.RegisterWorkflow(request, metadata=ADMIN, timeout=20).created
        yield api


@pytest.fixture(scope="module")
def finished(raw: RawApi) -> str:
    """A completed run of `demo`."""
    run_id = raw.engine.Trigger(trigger(), metadata=ADMIN, timeout=20).run_id
    assert watch_to_end(raw, run_id).end.run.status == run_pb2.RUN_STATUS_COMPLETED
    return run_id


@pytest.fixture(scope="module")
def running(raw: RawApi, skills: SkillServerProcess) -> str:
    """A run that waits at a gate nobody opens."""
    request = pb.TriggerRequest(workflow_name="gated", trigger_payload=struct(gate="never"))
    run_id = raw.engine.Trigger(request, metadata=ADMIN, timeout=20).run_id
    skills.wait_for_call(run_id, "wait")
    return run_id


def test_unknown_workflow(raw: RawApi) -> None:
    """A workflow nobody registered is WORKFLOW_NOT_FOUND; so is an unknown version of a known one."""
    refused = refusal(raw.engine.Trigger, trigger(workflow_name="nope"), TOKENS.admin)
    refused.expect(StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND", "nope", DEMO)
    assert "ResourceInfo" in refused.kinds
    refused = refusal(raw.engine.Trigger, trigger(workflow_version="9.9.9"), TOKENS.admin)
    refused.expect(StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND", "9.9.9")


def test_unknown_change_type(raw: RawApi, finished: str) -> None:
    """An unknown change type is refused with the list of the known ones."""
    refused = refusal(raw.engine.TriggerUpdate, update(finished, "music.upd"), TOKENS.admin)
    refused.expect(StatusCode.INVALID_ARGUMENT, "UNKNOWN_CHANGE_TYPE", "music.upd", "music.update", "everything")


def test_base_not_completed(raw: RawApi, running: str) -> None:
    """A run that is still going cannot be updated, and the refusal says how it stands and what to do."""
    refused = refusal(raw.engine.TriggerUpdate, update(running), TOKENS.admin)
    refused.expect(StatusCode.FAILED_PRECONDITION, "BASE_RUN_NOT_COMPLETED", running, "is running", "wait")
    assert "PreconditionFailure" in refused.kinds


@pytest.mark.parametrize("run_id", [NOWHERE, "", "not-a-uuid", "' OR 1=1 --"])
def test_unknown_run(raw: RawApi, run_id: str) -> None:
    """An id that names no run is RUN_NOT_FOUND everywhere, whatever it looks like."""
    for call, request in _about_run(raw, run_id):
        refusal(call, request, TOKENS.admin).expect(StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


def test_other_tenant(raw: RawApi, finished: str, running: str) -> None:
    """Another tenant's runs and workflows do not exist, and its cancel changes nothing."""
    for run_id in (finished, running):
        for call, request in _about_run(raw, run_id):
            refusal(call, request, TOKENS.stranger).expect(StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
    refused = refusal(raw.engine.Trigger, trigger(), TOKENS.stranger)
    refused.expect(StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND")
    runs = raw.engine.ListRuns(pb.ListRunsRequest(), metadata=bearer(TOKENS.stranger), timeout=20)
    assert list(runs.runs) == []
    state = raw.engine.GetRun(pb.GetRunRequest(run_id=running), metadata=ADMIN, timeout=20).run
    assert state.status == run_pb2.RUN_STATUS_RUNNING


def _about_run(raw: RawApi, run_id: str) -> Calls:
    return [
        (raw.engine.GetRun, pb.GetRunRequest(run_id=run_id)),
        (raw.engine.ListSteps, pb.ListStepsRequest(run_id=run_id)),
        (raw.engine.ListArtifacts, pb.ListArtifactsRequest(run_id=run_id)),
        (raw.engine.WatchRun, pb.WatchRunRequest(run_id=run_id)),
        (raw.engine.Cancel, pb.CancelRequest(run_id=run_id)),
        (raw.engine.TriggerUpdate, update(run_id)),
    ]


def test_payload_against_schema(raw: RawApi, finished: str) -> None:
    """A payload that is not what the workflow asks for is PAYLOAD_SCHEMA_MISMATCH, also after an update's merge."""
    refused = refusal(raw.engine.Trigger, trigger(trigger_payload=struct(other=1)), TOKENS.admin)
    refused.expect(StatusCode.INVALID_ARGUMENT, "PAYLOAD_SCHEMA_MISMATCH", "brief")
    change = run_pb2.ChangeRequest(type="music.update", payload=struct(brief=None))
    refused = refusal(raw.engine.TriggerUpdate, update(finished, change_request=change), TOKENS.admin)
    refused.expect(StatusCode.INVALID_ARGUMENT, "PAYLOAD_SCHEMA_MISMATCH", "brief")


@pytest.mark.parametrize("number", [math.nan, math.inf, 2.0**60, -(2.0**53)], ids=str)
def test_inexact_numbers(raw: RawApi, finished: str, number: float) -> None:
    """A number that JSON cannot carry exactly is refused with its place and what to send instead."""
    payload = struct(brief={"sizes": [1, number]})
    refused = refusal(raw.engine.Trigger, trigger(trigger_payload=payload), TOKENS.admin)
    refused.expect(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED", "as a string")
    assert list(refused.violations) == ["triggerPayload/brief/sizes/1"]
    change = run_pb2.ChangeRequest(type="music.update", payload=struct(style=number))
    refused = refusal(raw.engine.TriggerUpdate, update(finished, change_request=change), TOKENS.admin)
    refused.expect(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED", "as a string")
    assert list(refused.violations) == ["changeRequest.payload/style"]


def test_payload_of_two_megabytes(raw: RawApi, finished: str) -> None:
    """A payload above 1 MiB is PAYLOAD_TOO_LARGE and the refusal points to artifacts."""
    payload = struct(brief={"text": "x" * (2 << 20)})
    refused = refusal(raw.engine.Trigger, trigger(trigger_payload=payload), TOKENS.admin)
    refused.expect(StatusCode.RESOURCE_EXHAUSTED, "PAYLOAD_TOO_LARGE", "artifact")
    assert "QuotaFailure" in refused.kinds
    change = run_pb2.ChangeRequest(type="music.update", payload=payload)
    refused = refusal(raw.engine.TriggerUpdate, update(finished, change_request=change), TOKENS.admin)
    refused.expect(StatusCode.RESOURCE_EXHAUSTED, "PAYLOAD_TOO_LARGE", "artifact")


def test_update_cannot_outgrow_the_limit(raw: RawApi, finished: str) -> None:
    """Two payloads below the limit whose merge is above it are refused as well."""
    base = raw.engine.Trigger(
        trigger(trigger_payload=struct(brief={"text": "x" * 700_000})), metadata=ADMIN, timeout=20
    ).run_id
    watch_to_end(raw, base)
    change = run_pb2.ChangeRequest(type="music.update", payload=struct(style="y" * 700_000))
    refused = refusal(raw.engine.TriggerUpdate, update(base, change_request=change), TOKENS.admin)
    refused.expect(StatusCode.RESOURCE_EXHAUSTED, "PAYLOAD_TOO_LARGE")


def test_bytes_that_are_no_message(engine: EngineProcess) -> None:
    """Bytes that are not the request's message are VALIDATION_FAILED, not an internal error."""
    with grpc.insecure_channel(engine.target) as channel:
        call: Callable[..., Any] = channel.unary_unary("/runengine.v1.RunEngine/Trigger")
        refused = refusal(call, b"\xff\xff\xff", TOKENS.admin)
    refused.expect(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED", "not a valid message")


def test_wrong_options(raw: RawApi) -> None:
    """Everything wrong with a request's options is said at once, field by field."""
    request = trigger(priority=10, labels={"": "x"}, request_id="r" * 200)
    request.deadline.seconds = -1
    refused = refusal(raw.engine.Trigger, request, TOKENS.admin)
    refused.expect(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
    assert {"priority", "deadline"} <= {field.partition("[")[0] for field in refused.violations}


def test_workflow_with_every_mistake(raw: RawApi) -> None:
    """A cycle, a read of a step that is not upstream, an unknown skill and an unknown seed are reported together."""
    workflow = (
        WorkflowBuilder("wrong", version="1.0.0")
        .step("a", skill="t.echo", needs=["b"])
        .step("b", skill="t.echo", needs=["a"])
        .step("plan", skill="t.echo")
        .step("aside", skill="t.echo", input={"x": expression("steps.plan.output.x")})
        .step("typo", skill="t.ehco")
        .step("elsewhere", skill="other.skill")
        .step("broken", skill="t.echo", input={"x": expression("trigger.")})
        .change("x.update", seeds=["nope"])
        .build()
    )
    refused = refusal(
        raw.registry.RegisterWorkflow, workflow_pb2.RegisterWorkflowRequest(workflow=workflow), TOKENS.admin
    )
    refused.expect(StatusCode.INVALID_ARGUMENT, "WORKFLOW_INVALID", "wrong 1.0.0")
    said = refused.violations
    assert "cycle" in said["steps[0].dependsOn[0]"] and "a → b → a" in said["steps[0].dependsOn[0]"]
    assert "add 'plan' to dependsOn of 'aside'" in said["steps[3].inputSelector/x"]
    assert "SKILL_UNREGISTERED" in said["steps[4].skillId"] and "does not offer it" in said["steps[4].skillId"]
    assert "SKILL_UNREGISTERED" in said["steps[5].skillId"] and "target" in said["steps[5].skillId"]
    assert "steps[6].inputSelector/x" in said
    assert "nope" in said['changeRequests["x.update"].seedStepIds[0]']
    unknown = refusal(raw.engine.Trigger, trigger(workflow_name="wrong"), TOKENS.admin)
    unknown.expect(StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND")


def test_version_is_immutable(raw: RawApi) -> None:
    """A registered version with other content is a conflict; with the same content it is a no-op."""
    again = raw.registry.RegisterWorkflow(
        workflow_pb2.RegisterWorkflowRequest(workflow=demo()), metadata=ADMIN, timeout=20
    )
    assert not again.created
    other = demo()
    other.description = "other"
    refused = refusal(raw.registry.RegisterWorkflow, workflow_pb2.RegisterWorkflowRequest(workflow=other), TOKENS.admin)
    refused.expect(StatusCode.ALREADY_EXISTS, "WORKFLOW_VERSION_CONFLICT", "raise the version")


def test_skill_that_went_away(raw: RawApi, engine_settings: EngineSettings) -> None:
    """A workflow whose skill no runner offers any more is SKILL_UNREGISTERED at Trigger, naming the skill."""
    with (
        SkillServerProcess(engine_settings.folder / "fewer", only=["t.echo"]) as fewer,
        EngineProcess(engine_settings, "fewer-skills", RUNENGINE_SKILLS=fewer.targets) as other,
        raw_api(other.target) as api,
    ):
        refused = refusal(api.engine.Trigger, trigger(workflow_name="large"), TOKENS.admin)
        refused.expect(StatusCode.FAILED_PRECONDITION, "SKILL_UNREGISTERED", "t.big", "start a runner")


@pytest.mark.parametrize("token", [None, "wrong"])
def test_tokens(raw: RawApi, finished: str, token: str | None) -> None:
    """Without a token, or with a wrong one, nothing is answered on any service."""
    reason = "TOKEN_MISSING" if token is None else "TOKEN_INVALID"
    calls: Calls = [
        *_about_run(raw, finished),
        (raw.engine.Trigger, trigger()),
        (raw.engine.ListRuns, pb.ListRunsRequest()),
        (raw.registry.RegisterWorkflow, workflow_pb2.RegisterWorkflowRequest(workflow=demo())),
        (raw.registry.ListWorkflows, workflow_pb2.ListWorkflowsRequest()),
    ]
    for call, request in calls:
        refusal(call, request, token).expect(StatusCode.UNAUTHENTICATED, reason, "token")


def test_scopes(raw: RawApi, finished: str) -> None:
    """A token that may only read can neither start, cancel nor register, and is told the scope it lacks."""
    calls: list[tuple[Callable[..., Any], Any, str, str]] = [
        (raw.engine.Trigger, trigger(), TOKENS.reader, "run:write"),
        (raw.engine.TriggerUpdate, update(finished), TOKENS.reader, "run:write"),
        (raw.engine.Cancel, pb.CancelRequest(run_id=finished), TOKENS.reader, "run:write"),
        (
            raw.registry.RegisterWorkflow,
            workflow_pb2.RegisterWorkflowRequest(workflow=demo()),
            TOKENS.writer,
            "workflow:write",
        ),
    ]
    for call, request, token, scope in calls:
        refused = refusal(call, request, token)
        refused.expect(StatusCode.PERMISSION_DENIED, "SCOPE_REQUIRED", scope)
        assert refused.metadata["scope"] == scope
    assert raw.engine.GetRun(pb.GetRunRequest(run_id=finished), metadata=bearer(TOKENS.reader), timeout=20).run.id


def test_request_ids(raw: RawApi) -> None:
    """A repeated request is answered as the first time and starts nothing; with other content it is refused."""
    label = uuid.uuid4().hex
    request = trigger(request_id=str(uuid.uuid4()), labels={"test": label})
    first = raw.engine.Trigger(request, metadata=ADMIN, timeout=20)
    second = raw.engine.Trigger(request, metadata=ADMIN, timeout=20)
    assert (second.run_id, second.message, second.deduplicated) == (first.run_id, first.message, True)
    assert not first.deduplicated
    runs = raw.engine.ListRuns(pb.ListRunsRequest(labels={"test": label}), metadata=ADMIN, timeout=20).runs
    assert [run.id for run in runs] == [first.run_id]
    changed = pb.TriggerRequest()
    changed.CopyFrom(request)
    changed.priority = 1
    refused = refusal(raw.engine.Trigger, changed, TOKENS.admin)
    refused.expect(StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", "new request id")


def test_planning_leaves_request_ids_alone(raw: RawApi) -> None:
    """Asking for a plan uses up no request id, and answers with a plan also under an id that has started a run."""
    request = trigger(request_id=str(uuid.uuid4()), validate_only=True)
    for _ in range(2):
        planned = raw.engine.Trigger(request, metadata=ADMIN, timeout=20)
        assert (planned.run_id, planned.deduplicated, planned.HasField("plan")) == ("", False, True)
    request.validate_only = False
    started = raw.engine.Trigger(request, metadata=ADMIN, timeout=20)
    assert (bool(started.run_id), started.deduplicated) == (True, False)
    request.validate_only = True
    planned = raw.engine.Trigger(request, metadata=ADMIN, timeout=20)
    assert (planned.run_id, planned.deduplicated, planned.HasField("plan")) == ("", False, True)


def test_one_request_from_many_threads(raw: RawApi) -> None:
    """The same request sent by sixteen callers at once starts one run, and all of them get its id."""
    label = uuid.uuid4().hex
    request = trigger(request_id=str(uuid.uuid4()), labels={"test": label})
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: raw.engine.Trigger(request, metadata=ADMIN, timeout=20), range(16)))
    assert len({answer.run_id for answer in answers}) == 1
    assert sum(not answer.deduplicated for answer in answers) == 1
    runs = raw.engine.ListRuns(pb.ListRunsRequest(labels={"test": label}), metadata=ADMIN, timeout=20).runs
    assert [run.id for run in runs] == [answers[0].run_id]


def test_request_ids_of_updates(raw: RawApi, finished: str) -> None:
    """An update is repeatable in the same way, plan included."""
    request = update(finished, request_id=str(uuid.uuid4()))
    first = raw.engine.TriggerUpdate(request, metadata=ADMIN, timeout=20)
    second = raw.engine.TriggerUpdate(request, metadata=ADMIN, timeout=20)
    assert (second.run_id, second.deduplicated, second.plan) == (first.run_id, True, first.plan)
    request.change_request.payload.update({"style": "other"})
    refused = refusal(raw.engine.TriggerUpdate, request, TOKENS.admin)
    refused.expect(StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


def test_sequences(raw: RawApi, finished: str) -> None:
    """A sequence the run has not had is SEQUENCE_IN_FUTURE with the last one; a negative one is not valid."""
    last = raw.engine.GetRun(pb.GetRunRequest(run_id=finished), metadata=ADMIN, timeout=20).run.last_sequence
    refused = refusal(raw.engine.WatchRun, pb.WatchRunRequest(run_id=finished, after_sequence=last + 1), TOKENS.admin)
    refused.expect(StatusCode.OUT_OF_RANGE, "SEQUENCE_IN_FUTURE", str(last))
    refused = refusal(raw.engine.WatchRun, pb.WatchRunRequest(run_id=finished, after_sequence=-1), TOKENS.admin)
    refused.expect(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
    refused = refusal(raw.engine.WatchRun, pb.WatchRunRequest(run_id=finished, step_ids=["nope"]), TOKENS.admin)
    refused.expect(StatusCode.NOT_FOUND, "STEP_NOT_FOUND", "nope")


def test_page_tokens(raw: RawApi, finished: str, running: str) -> None:
    """Garbage, and a token of another list or filter, is PAGE_TOKEN_INVALID and says to start again."""
    page = raw.engine.ListRuns(pb.ListRunsRequest(page_size=1), metadata=ADMIN, timeout=20)
    assert page.next_page_token
    wrong: Calls = [
        (raw.engine.ListRuns, pb.ListRunsRequest(page_token="garbage")),
        (raw.engine.ListRuns, pb.ListRunsRequest(page_token="é")),
        (raw.engine.ListRuns, pb.ListRunsRequest(page_token=page.next_page_token, workflow_name=DEMO)),
        (raw.engine.ListSteps, pb.ListStepsRequest(run_id=finished, page_token=page.next_page_token)),
        (raw.engine.ListArtifacts, pb.ListArtifactsRequest(run_id=finished, page_token="garbage")),
        (raw.registry.ListWorkflows, workflow_pb2.ListWorkflowsRequest(page_token="garbage")),
    ]
    for call, request in wrong:
        refused = refusal(call, request, TOKENS.admin)
        refused.expect(StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID", "start again")


def test_cancel_without_run_left_alone(raw: RawApi, finished: str) -> None:
    """Cancelling a completed run is no error: it stays completed and the message says so."""
    answer = raw.engine.Cancel(pb.CancelRequest(run_id=finished), metadata=ADMIN, timeout=20)
    assert answer.run.status == run_pb2.RUN_STATUS_COMPLETED
    assert answer.message == "Run is already completed; nothing was changed"


def test_refusal_of_unknown_method(engine: EngineProcess) -> None:
    """A method the contract does not have is UNIMPLEMENTED by gRPC itself."""
    with grpc.insecure_channel(engine.target) as channel, pytest.raises(grpc.RpcError) as caught:
        call: Callable[..., Any] = channel.unary_unary("/runengine.v1.RunEngine/Nope")
        call(b"", metadata=ADMIN, timeout=20)
    assert caught.value.code() is StatusCode.UNIMPLEMENTED


def test_log_has_no_internal_errors(engine: EngineProcess) -> None:
    """Nothing of all this was an internal error, and no token is in the log."""
    assert "Internal error" not in engine.log
    assert "Traceback" not in engine.log
    for token in (TOKENS.admin, TOKENS.stranger):
        assert token not in engine.log

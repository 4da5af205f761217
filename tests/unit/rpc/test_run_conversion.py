"""Runs, steps, events and plans onto the wire, field by field."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from google.protobuf import duration_pb2, json_format, timestamp_pb2

from runengine_client.pb.runengine.v1 import run_engine_pb2, run_pb2
from runengine_server.domain import states
from runengine_server.domain.artifact import Artifact, ProducedArtifact
from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.events import RunEvent, StepProgress, StepsSummary, StepStatusChanged
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, SkillId, StepId, WorkflowDigest
from runengine_server.domain.plan import PlannedStep, RebuildPlan
from runengine_server.domain.run import ChangeRequest, Run, Savings, Step, StepAttempt
from runengine_server.rpc.conversion.event import encode_watch_message, event_to_proto
from runengine_server.rpc.conversion.plan import plan_to_proto
from runengine_server.rpc.conversion.problems import Problems
from runengine_server.rpc.conversion.run import artifact_to_proto, run_to_proto, step_to_proto
from runengine_server.rpc.conversion.scalar import duration_of, read_duration_s, read_timestamp
from runengine_server.service.messages import WatchMessage, WatchSnapshot

AT = datetime(2026, 1, 19, 10, 0, 0, 123_456, tzinfo=UTC)
STAMP = "2026-01-19T10:00:00.123456Z"
SUMMARY = StepsSummary(total=13, pending=5, running=2, completed=6, skipped=0, failed=0, cancelled=0)
FAILURE = Failure(code="SKILL_TIMEOUT", message="m", retryable=True, details={"a": 1}, step_id="mix", attempt=2)
DECISION = CacheDecision(
    outcome=states.CacheOutcome.MISS,
    tier=states.CacheTier.COLD,
    key="w:s:h",
    source_run_id=RunId("r0"),
    source_step_id=StepId("s"),
    age_s=1.25,
    miss_reason=states.MissReason.INPUT_CHANGED,
    changed_pointers=("/a",),
    nearest_run_id=RunId("r1"),
)
ARTIFACT = Artifact(
    id="a1",
    run_id=RunId("r"),
    step_id=StepId("s"),
    produced=ProducedArtifact(
        media_type="audio/wav", uri="s3://x", content_hash="ab", size_bytes=2**40, filename="f", metadata={"k": 1}
    ),
    created_at=AT,
    source=states.OutputSource.CACHE_HOT,
    source_run_id=RunId("r0"),
    skill_id="k",
    skill_version="1.2.3",
)
RUN = Run(
    id=RunId("r"),
    workflow_name="w",
    workflow_version="1.0.0",
    workflow_digest=WorkflowDigest("d"),
    status=states.RunStatus.FAILED,
    trigger_type=states.TriggerType.UPDATE,
    steps_summary=SUMMARY,
    created_at=AT,
    updated_at=AT,
    last_sequence=2**40,
    started_at=AT,
    completed_at=AT,
    error=FAILURE,
    base_run_id=RunId("b"),
    root_run_id=RunId("o"),
    trigger_payload={"brief": {"style": "epic"}},
    change_request=ChangeRequest(type="audio.update", payload={"volume": 1.2}),
    labels={"l": "1"},
    cancel_reason="c",
    request_id="q",
    principal="p",
    deadline=AT,
    priority=7,
    failed_step=StepId("mix"),
    savings=Savings(skipped_steps=9, seconds_saved=12.5),
)
STEP = Step(
    run_id=RunId("r"),
    step_id=StepId("s"),
    skill_id=SkillId("k"),
    status=states.StepStatus.SKIPPED,
    depends_on=(StepId("p"),),
    level=2,
    attempt=1,
    max_attempts=3,
    lease_losses=1,
    input_hash="h",
    cache_key="w:s:h",
    output_source=states.OutputSource.CACHE_COLD,
    source_run_id=RunId("r0"),
    progress=StepProgress(fraction=0.5, message="half", reported_at=AT),
    error=FAILURE,
    ready_at=AT,
    started_at=AT,
    ended_at=AT,
    next_attempt_at=AT,
    duration_ms=5234,
    input={"i": 1},
    output={"o": [1]},
    attempts=(StepAttempt(attempt=1, started_at=AT, ended_at=AT, error=FAILURE, worker_id="w1"),),
    cache=DECISION,
    output_artifact_ids=("a1",),
)


def unset(message: object) -> set[str]:
    return {field.name for field in message.DESCRIPTOR.fields} - {field.name for field, _ in message.ListFields()}


def test_no_field_is_forgotten() -> None:
    """A value with everything in it sets every field of its message, so that a new field cannot be overlooked."""
    plan = RebuildPlan(
        steps=(
            PlannedStep(
                step_id=StepId("s"),
                action=states.PlanAction.UNKNOWN,
                reason=states.PlanReason.DOWNSTREAM,
                caused_by=(StepId("p"),),
                changed_pointers=("/a",),
                unknown_until=(StepId("p"),),
                estimate_s=1.0,
            ),
            PlannedStep(step_id=StepId("t"), action=states.PlanAction.EXECUTE, reason=states.PlanReason.SEED),
            PlannedStep(step_id=StepId("u"), action=states.PlanAction.REUSE, reason=states.PlanReason.CACHED),
        ),
        digest="d",
        seed_step_ids=(StepId("t"),),
        base_run_id=RunId("b"),
        estimate_s=2.0,
    )
    step_event = RunEvent(
        sequence=4,
        occurred_at=AT,
        step_id=StepId("s"),
        attempt=1,
        detail=StepStatusChanged(
            from_status=states.StepStatus.RUNNING,
            to_status=states.StepStatus.READY,
            steps_summary=SUMMARY,
            output_source=states.OutputSource.JOINED,
            error=FAILURE,
            next_attempt_at=AT,
            cache=DECISION,
            duration_ms=1,
        ),
    )
    run, step, artifact = run_to_proto(RUN), step_to_proto(STEP), artifact_to_proto(ARTIFACT)
    event, planned = event_to_proto(step_event), plan_to_proto(plan)
    full = [run, run.error, run.change_request, run.savings, step, step.progress, step.cache, step.attempts[0]]
    full += [artifact, event.step, planned, planned.steps[0]]
    for message in full:
        assert unset(message) == set(), message.DESCRIPTOR.name
    assert unset(event) == {"run", "progress", "artifact"}
    assert (planned.execute_count, planned.reuse_count, planned.unknown_count) == (1, 1, 1)


def test_values_arrive_as_they_are() -> None:
    """Spot checks where names or forms differ between domain and wire."""
    run = json_format.MessageToDict(run_to_proto(RUN))
    assert run["createdAt"] == STAMP
    assert run["status"] == "RUN_STATUS_FAILED"
    assert run["lastSequence"] == str(2**40)
    assert run["changeRequest"] == {"type": "audio.update", "payload": {"volume": 1.2}}
    step = json_format.MessageToDict(step_to_proto(STEP))
    assert step["cache"]["age"] == "1.250s"
    assert step["cache"]["missReason"] == "MISS_REASON_INPUT_CHANGED"
    assert (step["input"], step["output"]) == ({"i": 1.0}, {"o": [1.0]})
    artifact = json_format.MessageToDict(artifact_to_proto(ARTIFACT))
    assert (artifact["type"], artifact["sizeBytes"]) == ("audio/wav", str(2**40))


def test_what_is_not_there_stays_unset() -> None:
    """BASIC views and unfinished runs set nothing they do not have; an empty payload is there, a missing one is not."""
    bare = run_to_proto(replace(RUN, started_at=None, error=None, trigger_payload=None, savings=None, base_run_id=None))
    assert unset(bare) == {"started_at", "error", "trigger_payload", "savings", "base_run_id"}
    assert run_to_proto(replace(RUN, trigger_payload={})).HasField("trigger_payload")
    assert not step_to_proto(replace(STEP, output=None)).HasField("output")


def test_an_output_that_is_no_object_is_still_shown() -> None:
    """The wire has only objects; another kind of output is the member `value` of one."""
    assert dict(step_to_proto(replace(STEP, output=[1, 2])).output) == {"value": [1, 2]}


@pytest.mark.parametrize("reason", ["INITIAL", "HISTORY_COMPACTED", "SLOW_CONSUMER"])
def test_snapshots_say_why(reason: str) -> None:
    """Each reason of a snapshot has its number."""
    kind = WatchSnapshot(run=RUN, steps=(STEP,), reason=reason, more=True)
    told = WatchMessage(run_id=RunId("r"), sequence=3, kind=kind)
    message = run_engine_pb2.WatchRunResponse.FromString(encode_watch_message(told))
    assert message.snapshot.reason == ["INITIAL", "HISTORY_COMPACTED", "SLOW_CONSUMER"].index(reason) + 1
    assert message.snapshot.more


@pytest.mark.parametrize(
    "kind",
    [
        *("RunStatus", "StepStatus", "TriggerType", "OutputSource", "CacheTier", "CacheOutcome", "MissReason"),
        *("PlanAction", "PlanReason"),
    ],
)
def test_enum_numbers_are_the_wires(kind: str) -> None:
    """Domain enums have the names and numbers of the contract, unspecified aside."""
    wire = getattr(run_pb2, kind)
    prefix = wire.keys()[0].removesuffix("UNSPECIFIED")
    named = {name.removeprefix(prefix): number for name, number in wire.items() if number}
    assert {member.name: member.value for member in getattr(states, kind)} == named


@pytest.mark.parametrize("seconds", [0.0, 0.1, 1.5, 86_400.0, 1e-9, -2.5])
def test_durations_survive(seconds: float) -> None:
    """Seconds to the nanosecond, there and back."""
    request = run_engine_pb2.TriggerRequest(deadline=duration_of(seconds))
    assert read_duration_s(request, "deadline", "deadline", Problems()) == seconds


@pytest.mark.parametrize(
    "bad",
    [
        duration_pb2.Duration(seconds=1, nanos=-1),
        duration_pb2.Duration(seconds=-1, nanos=1),
        duration_pb2.Duration(nanos=1_000_000_000),
        duration_pb2.Duration(seconds=2**62),
    ],
)
def test_malformed_durations_are_named(bad: duration_pb2.Duration) -> None:
    """A Duration that protobuf's rules forbid is a violation, not a number."""
    problems = Problems()
    assert read_duration_s(run_engine_pb2.TriggerRequest(deadline=bad), "deadline", "deadline", problems) is None
    assert [violation.field for violation in problems.violations] == ["deadline"]


def test_malformed_timestamps_are_named() -> None:
    """A Timestamp outside the years 1 to 9999 is a violation."""
    problems = Problems()
    request = run_engine_pb2.ListRunsRequest(created_after=timestamp_pb2.Timestamp(seconds=2**60))
    assert read_timestamp(request, "created_after", "created_after", problems) is None
    assert [violation.field for violation in problems.violations] == ["createdAfter"]

"""Requests off the wire; the use cases check what they mean."""

from runengine_client.pb.runengine.v1 import run_engine_pb2, run_pb2
from runengine_server.domain.states import CacheMode, FailurePolicy, RunStatus, StepStatus, TriggerType
from runengine_server.rpc.conversion.json_struct import read_object
from runengine_server.rpc.conversion.problems import Problems
from runengine_server.rpc.conversion.scalar import read_duration_s, read_enum, read_timestamp
from runengine_server.service.messages import (
    ListArtifactsRequest,
    ListRunsRequest,
    ListStepsRequest,
    RetryRunRequest,
    TriggerRequest,
    TriggerUpdateRequest,
    WatchRequest,
)

HEARTBEAT_S_DEFAULT = 15.0

_VIEWS = frozenset(run_pb2.View.values())


def read_trigger(proto: run_engine_pb2.TriggerRequest) -> TriggerRequest:
    """A Trigger request.

    Raises:
        InvalidError: VALIDATION_FAILED with everything that cannot be read.
        ExhaustedError: PAYLOAD_TOO_LARGE.
    """
    problems = Problems()
    request = TriggerRequest(
        workflow_name=proto.workflow_name,
        trigger_payload=read_object(proto.trigger_payload, "trigger_payload", problems),
        request_id=proto.request_id,
        labels=dict(proto.labels),
        workflow_version=proto.workflow_version,
        validate_only=proto.validate_only,
        deadline_s=read_duration_s(proto, "deadline", "deadline", problems),
        priority=proto.priority,
        cache_mode=read_enum(CacheMode, proto.cache_mode, "cache_mode", problems),
        failure_policy=read_enum(FailurePolicy, proto.failure_policy, "failure_policy", problems),
        force_step_ids=tuple(proto.force_step_ids),
        expected_plan_digest=proto.expected_plan_digest,
    )
    problems.raise_if_any()
    return request


def read_trigger_update(proto: run_engine_pb2.TriggerUpdateRequest) -> TriggerUpdateRequest:
    """A TriggerUpdate request.

    Raises:
        InvalidError: VALIDATION_FAILED with everything that cannot be read.
        ExhaustedError: PAYLOAD_TOO_LARGE.
    """
    problems = Problems()
    if not proto.HasField("change_request"):
        problems.add("change_request", "is required: say what changes, with its type and payload")
    change = proto.change_request
    request = TriggerUpdateRequest(
        base_run_id=proto.base_run_id,
        change_type=change.type,
        change_payload=read_object(change.payload, "change_request.payload", problems),
        request_id=proto.request_id,
        validate_only=proto.validate_only,
        cache_mode=read_enum(CacheMode, proto.cache_mode, "cache_mode", problems),
        labels=dict(proto.labels),
        deadline_s=read_duration_s(proto, "deadline", "deadline", problems),
        priority=proto.priority,
        force_step_ids=tuple(proto.force_step_ids),
        expected_plan_digest=proto.expected_plan_digest,
        strict_impact=proto.strict_impact,
        workflow_version=proto.workflow_version,
    )
    problems.raise_if_any()
    return request


def read_retry_run(proto: run_engine_pb2.RetryRunRequest) -> RetryRunRequest:
    """A RetryRun request."""
    return RetryRunRequest(
        run_id=proto.run_id,
        request_id=proto.request_id,
        validate_only=proto.validate_only,
        expected_plan_digest=proto.expected_plan_digest,
    )


def read_list_runs(proto: run_engine_pb2.ListRunsRequest) -> ListRunsRequest:
    """A ListRuns request.

    Raises:
        InvalidError: VALIDATION_FAILED with everything that cannot be read.
    """
    problems = Problems()
    request = ListRunsRequest(
        page_size=proto.page_size,
        page_token=proto.page_token,
        workflow_name=proto.workflow_name,
        statuses=[
            status
            for index, number in enumerate(proto.statuses)
            if (status := read_enum(RunStatus, number, f"statuses[{index}]", problems)) is not None
        ],
        labels=dict(proto.labels),
        base_run_id=proto.base_run_id,
        created_after=read_timestamp(proto, "created_after", "created_after", problems),
        created_before=read_timestamp(proto, "created_before", "created_before", problems),
        trigger_type=read_enum(TriggerType, proto.trigger_type, "trigger_type", problems),
    )
    problems.raise_if_any()
    return request


def read_list_steps(proto: run_engine_pb2.ListStepsRequest) -> ListStepsRequest:
    """A ListSteps request.

    Raises:
        InvalidError: VALIDATION_FAILED with everything that cannot be read.
    """
    problems = Problems()
    request = ListStepsRequest(
        run_id=proto.run_id,
        page_size=proto.page_size,
        page_token=proto.page_token,
        statuses=[
            status
            for index, number in enumerate(proto.statuses)
            if (status := read_enum(StepStatus, number, f"statuses[{index}]", problems)) is not None
        ],
        is_full=read_is_full(proto.view, problems),
        step_id=proto.step_id,
    )
    problems.raise_if_any()
    return request


def read_list_artifacts(proto: run_engine_pb2.ListArtifactsRequest) -> ListArtifactsRequest:
    """A ListArtifacts request."""
    return ListArtifactsRequest(
        run_id=proto.run_id,
        page_size=proto.page_size,
        page_token=proto.page_token,
        step_id=proto.step_id,
    )


def read_watch(proto: run_engine_pb2.WatchRunRequest) -> WatchRequest:
    """A WatchRun request.

    Raises:
        InvalidError: VALIDATION_FAILED with everything that cannot be read.
    """
    problems = Problems()
    heartbeat_s = read_duration_s(proto, "heartbeat_interval", "heartbeat_interval", problems)
    request = WatchRequest(
        run_id=proto.run_id,
        after_sequence=proto.after_sequence if proto.HasField("after_sequence") else None,
        include_progress=proto.include_progress,
        heartbeat_interval_s=HEARTBEAT_S_DEFAULT if heartbeat_s is None else heartbeat_s,
        step_ids=tuple(proto.step_ids),
    )
    problems.raise_if_any()
    return request


def read_is_full(view: int, problems: Problems) -> bool:
    """Whether everything is asked for; unspecified means BASIC."""
    if view not in _VIEWS:
        problems.add("view", f"{view} is not a View this server knows")
    return view == run_pb2.VIEW_FULL

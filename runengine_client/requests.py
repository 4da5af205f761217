"""Builds the requests of the contract from what callers pass; what can be refused locally is refused here."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, TypedDict, TypeVar

from google.protobuf import duration_pb2, timestamp_pb2

from runengine_client.conversion import wire_number
from runengine_client.errors import FieldViolation, InvalidArgumentError
from runengine_client.keywords import refuse_unknown
from runengine_client.payload import to_struct
from runengine_client.pb.runengine.v1 import run_engine_pb2, run_pb2, workflow_pb2
from runengine_client.states import CacheMode, FailurePolicy, RunStatus, StepStatus, TriggerType

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

V = TypeVar("V", bound=int)

Span = timedelta | float
"""A time span: a timedelta, or seconds."""


class RunOptions(TypedDict, total=False):
    """What a trigger and an update have in common.

    Keys:
        workflow_version: SemVer; empty means the highest (trigger) or the base run's (update).
        labels: for people and filters.
        deadline: the run fails if it has not ended by then; a timedelta or seconds.
        priority: 0 (default) to 9 (served first).
        cache_mode: what the run does with the step cache.
        force_step_ids: steps that execute whatever could be reused.
        expected_plan_digest: refuse (PLAN_CHANGED) unless the plan still is the one with this digest.
        request_id: repeating a call with the same id starts nothing new; default a fresh UUID.
    """

    workflow_version: str
    labels: Mapping[str, str]
    deadline: Span
    priority: int
    cache_mode: CacheMode | str
    force_step_ids: Sequence[str]
    expected_plan_digest: str
    request_id: str


class TriggerOptions(RunOptions, total=False):
    """Options of a trigger; `failure_policy` overrides the workflow's."""

    failure_policy: FailurePolicy | str


class UpdateOptions(RunOptions, total=False):
    """Options of an update; `strict_impact` refuses where steps outside the declared impact would change too."""

    strict_impact: bool


class RetryOptions(TypedDict, total=False):
    """Options of a retry; see RunOptions."""

    expected_plan_digest: str
    request_id: str


class RunFilter(TypedDict, total=False):
    """Which runs to list; every condition that is given must hold."""

    workflow_name: str
    statuses: Sequence[RunStatus | str]
    labels: Mapping[str, str]
    base_run_id: str
    created_after: datetime
    created_before: datetime
    trigger_type: TriggerType | str


def trigger(
    workflow_name: str, payload: Mapping[str, object] | None, options: TriggerOptions, *, validate_only: bool = False
) -> run_engine_pb2.TriggerRequest:
    """The request that starts, or only plans, an initial run."""
    refuse_unknown(options, TriggerOptions)
    return run_engine_pb2.TriggerRequest(
        workflow_name=workflow_name,
        trigger_payload=to_struct(payload or {}, "trigger_payload"),
        request_id=_request_id(options.get("request_id"), validate_only),
        labels=options.get("labels", {}),
        workflow_version=options.get("workflow_version", ""),
        validate_only=validate_only,
        deadline=_duration("deadline", options.get("deadline")),
        priority=options.get("priority", 0),
        cache_mode=_wire("cache_mode", workflow_pb2.CacheMode, options.get("cache_mode")),
        force_step_ids=options.get("force_step_ids", ()),
        expected_plan_digest=options.get("expected_plan_digest", ""),
        failure_policy=_wire("failure_policy", workflow_pb2.FailurePolicy, options.get("failure_policy")),
    )


def trigger_update(
    base_run_id: str,
    change: tuple[str, Mapping[str, object] | None],
    options: UpdateOptions,
    *,
    validate_only: bool = False,
) -> run_engine_pb2.TriggerUpdateRequest:
    """The request that starts, or only plans, an update; `change` is its type and payload."""
    refuse_unknown(options, UpdateOptions)
    change_type, payload = change
    return run_engine_pb2.TriggerUpdateRequest(
        base_run_id=base_run_id,
        change_request=run_pb2.ChangeRequest(
            type=change_type, payload=to_struct(payload or {}, "change_request.payload")
        ),
        request_id=_request_id(options.get("request_id"), validate_only),
        validate_only=validate_only,
        expected_plan_digest=options.get("expected_plan_digest", ""),
        cache_mode=_wire("cache_mode", workflow_pb2.CacheMode, options.get("cache_mode")),
        strict_impact=options.get("strict_impact", False),
        force_step_ids=options.get("force_step_ids", ()),
        workflow_version=options.get("workflow_version", ""),
        labels=options.get("labels", {}),
        deadline=_duration("deadline", options.get("deadline")),
        priority=options.get("priority", 0),
    )


def retry(run_id: str, options: RetryOptions, *, validate_only: bool = False) -> run_engine_pb2.RetryRunRequest:
    """The request that retries, or only plans to retry, a failed or cancelled run."""
    refuse_unknown(options, RetryOptions)
    return run_engine_pb2.RetryRunRequest(
        run_id=run_id,
        request_id=_request_id(options.get("request_id"), validate_only),
        validate_only=validate_only,
        expected_plan_digest=options.get("expected_plan_digest", ""),
    )


def list_runs(filters: RunFilter, page_size: int, page_token: str) -> run_engine_pb2.ListRunsRequest:
    """One page of runs."""
    refuse_unknown(filters, RunFilter)
    return run_engine_pb2.ListRunsRequest(
        page_size=page_size,
        page_token=page_token,
        workflow_name=filters.get("workflow_name", ""),
        statuses=[_wire("statuses", run_pb2.RunStatus, status) for status in filters.get("statuses", ())],
        labels=filters.get("labels", {}),
        base_run_id=filters.get("base_run_id", ""),
        created_after=timestamp("created_after", filters.get("created_after")),
        created_before=timestamp("created_before", filters.get("created_before")),
        trigger_type=_wire("trigger_type", run_pb2.TriggerType, filters.get("trigger_type")),
    )


def list_steps(
    run_id: str, statuses: Sequence[StepStatus | str], view: run_pb2.View.ValueType, page_token: str
) -> run_engine_pb2.ListStepsRequest:
    """One page of steps."""
    return run_engine_pb2.ListStepsRequest(
        run_id=run_id,
        page_token=page_token,
        statuses=[_wire("statuses", run_pb2.StepStatus, status) for status in statuses],
        view=view,
    )


def view(*, full: bool) -> run_pb2.View.ValueType:
    """Whether payloads are wanted, too."""
    return run_pb2.VIEW_FULL if full else run_pb2.VIEW_BASIC


def create_watch_token(run_id: str, ttl: Span | None) -> run_engine_pb2.CreateWatchTokenRequest:
    """The request for a token that reads one run."""
    return run_engine_pb2.CreateWatchTokenRequest(run_id=run_id, ttl=_duration("ttl", ttl))


def timestamp(name: str, value: datetime | None) -> timestamp_pb2.Timestamp | None:
    """A moment on the wire; None stays None.

    Raises:
        InvalidArgumentError: it has no time zone.
    """
    if value is None:
        return None
    if value.tzinfo is None:
        raise _invalid(name, "needs a time zone, such as datetime.now(UTC)")
    moment = timestamp_pb2.Timestamp()
    moment.FromDatetime(value)
    return moment


def _request_id(given: str | None, validate_only: bool) -> str:
    # Planning neither reads nor writes the deduplication row, so it needs no id.
    return given or ("" if validate_only else str(uuid.uuid4()))


def _duration(name: str, value: Span | None) -> duration_pb2.Duration | None:
    if value is None:
        return None
    span = value if isinstance(value, timedelta) else timedelta(seconds=value)
    if span <= timedelta(0):
        raise _invalid(name, "must be above zero")
    duration = duration_pb2.Duration()
    duration.FromTimedelta(span)
    return duration


def _wire(name: str, wire: "_EnumTypeWrapper[V]", member: StrEnum | str | None) -> V:
    try:
        return wire_number(wire, member)
    except ValueError as error:
        raise _invalid(name, str(error)) from None


def _invalid(field: str, description: str) -> InvalidArgumentError:
    violation = FieldViolation(field=field, description=description)
    return InvalidArgumentError("VALIDATION_FAILED", f"{field}: {description}", violations=[violation])

"""Estimates how large things become on the wire, so that pages and snapshots end before 3 MiB."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.events import RunEvent, RunStatusChanged, StepProgress, StepStatusChanged
from runengine_server.domain.failure import Failure
from runengine_server.domain.json_value import JsonValue
from runengine_server.domain.plan import PlannedStep, RebuildPlan
from runengine_server.domain.run import Run, Step

MESSAGE_BYTES_MAX = 3 * 2**20 - 2**16
"""3 MiB, less what an envelope and the estimates' error may take."""

T = TypeVar("T")

_ID_BYTES = 40  # a UUID with its tag and length
_FRAME_BYTES = 12  # tags and lengths around an entry of a Struct or list


def json_bytes(value: JsonValue) -> int:
    """Bytes of a value as a protobuf Struct, which for numbers are more than those of its JSON."""
    match value:
        case str():
            return len(value.encode("utf-8", "replace")) + _FRAME_BYTES
        case dict():
            return _FRAME_BYTES + sum(
                len(key.encode()) + _FRAME_BYTES + json_bytes(member) for key, member in value.items()
            )
        case list():
            return _FRAME_BYTES + sum(map(json_bytes, value))
        case _:
            return _FRAME_BYTES


def failure_bytes(failure: Failure | None) -> int:
    """Bytes of a failure."""
    if failure is None:
        return 0
    details = 0 if failure.details is None else json_bytes(failure.details)
    return 64 + _text(failure.code, failure.message, failure.step_id) + details


def decision_bytes(decision: CacheDecision | None) -> int:
    """Bytes of a cache decision."""
    if decision is None:
        return 0
    return 3 * _ID_BYTES + _text(decision.key, *decision.changed_pointers)


def run_bytes(run: Run) -> int:
    """Bytes of a run."""
    size = 600 + failure_bytes(run.error) + _text(run.workflow_name, run.cancel_reason, run.principal)
    size += _text(*run.labels.keys(), *run.labels.values())
    if run.trigger_payload is not None:
        size += json_bytes(run.trigger_payload)
    if run.change_request is not None:
        size += json_bytes(run.change_request.payload)
    return size


def step_bytes(step: Step) -> int:
    """Bytes of a step."""
    size = 400 + _text(step.step_id, step.skill_id, step.cache_key, *step.depends_on)
    size += failure_bytes(step.error) + decision_bytes(step.cache) + _ID_BYTES * len(step.output_artifact_ids)
    size += sum(96 + failure_bytes(attempt.error) + _text(attempt.worker_id) for attempt in step.attempts)
    if step.input is not None:
        size += json_bytes(step.input)
    if step.output is not None:
        size += json_bytes(step.output)
    if step.progress is not None:
        size += 32 + _text(step.progress.message)
    return size


def artifact_bytes(artifact: Artifact) -> int:
    """Bytes of an artifact."""
    made = artifact.produced
    return (
        300
        + _text(artifact.step_id, artifact.skill_id, artifact.skill_version, made.media_type, made.uri, made.filename)
        + json_bytes(made.metadata)
    )


def event_bytes(event: RunEvent) -> int:
    """Bytes of an event."""
    match event.detail:
        case RunStatusChanged(error=error):
            return 128 + failure_bytes(error)
        case StepStatusChanged(error=error, cache=cache):
            return 192 + failure_bytes(error) + decision_bytes(cache)
        case StepProgress(message=message):
            return 128 + _text(message)
        case artifact:
            return 96 + artifact_bytes(artifact)


def plan_bytes(plan: RebuildPlan) -> int:
    """Bytes of a plan."""
    return 256 + sum(
        48 + _text(step.step_id, *step.caused_by, *step.changed_pointers, *step.unknown_until) for step in plan.steps
    )


def fitting_plan(plan: RebuildPlan) -> RebuildPlan:
    """The plan with as many causes and pointers a step as fit, at most the 16 it has; its digest stays."""
    for most in (4, 1, 0):
        if plan_bytes(plan) <= MESSAGE_BYTES_MAX:
            break
        plan = replace(plan, steps=tuple(_with_causes(step, most) for step in plan.steps))
    return plan


def fitting(items: Sequence[T], size: Callable[[T], int], bytes_max: int = MESSAGE_BYTES_MAX) -> Sequence[T]:
    """As many of the first items as fit, but never none of some."""
    for part in parts(items, size, bytes_max):
        return part
    return items


def parts(
    items: Sequence[T], size: Callable[[T], int], bytes_max: int = MESSAGE_BYTES_MAX, count_max: int = 2**31
) -> Iterator[Sequence[T]]:
    """The items in order, in runs that fit; each holds at least one."""
    start, spent = 0, 0
    for index, item in enumerate(items):
        one = size(item)
        if index > start and (spent + one > bytes_max or index - start >= count_max):
            yield items[start:index]
            start, spent = index, 0
        spent += one
    if start < len(items):
        yield items[start:]


def _with_causes(step: PlannedStep, most: int) -> PlannedStep:
    return replace(
        step,
        caused_by=step.caused_by[:most],
        changed_pointers=step.changed_pointers[:most],
        unknown_until=step.unknown_until[:most],
    )


def _text(*texts: str) -> int:
    return sum(3 + (len(text) if text.isascii() else len(text.encode("utf-8", "replace"))) for text in texts)

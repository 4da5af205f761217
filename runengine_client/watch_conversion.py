"""Turns the messages of a watch into the items it yields."""

from runengine_client import conversion, states
from runengine_client.pb.runengine.v1 import event_pb2, run_pb2
from runengine_client.watch_items import EventDetail, RunEvent, RunStatusChanged, StepStatusChanged


def event(message: event_pb2.RunEvent) -> RunEvent:
    """One event of a batch."""
    return RunEvent(
        sequence=message.sequence,
        occurred_at=conversion.time_of(message, "occurred_at"),
        type=conversion.required(states.RunEventType, event_pb2.RunEventType, message.type),
        step_id=message.step_id,
        attempt=message.attempt,
        detail=_detail(message),
    )


def _detail(message: event_pb2.RunEvent) -> EventDetail | None:
    match message.WhichOneof("detail"):
        case "run":
            return _run_status(message.run)
        case "step":
            return _step_status(message.step)
        case "progress":
            return conversion.progress(message.progress)
        case "artifact":
            return conversion.artifact(message.artifact)
        case _:
            return None


def _run_status(message: event_pb2.RunStatusChanged) -> RunStatusChanged:
    return RunStatusChanged(
        from_status=conversion.enum_of(states.RunStatus, run_pb2.RunStatus, message.from_status),
        to_status=conversion.required(states.RunStatus, run_pb2.RunStatus, message.to_status),
        steps_summary=conversion.summary(message.steps_summary),
        error=conversion.optional(message, "error", conversion.failure),
    )


def _step_status(message: event_pb2.StepStatusChanged) -> StepStatusChanged:
    return StepStatusChanged(
        from_status=conversion.required(states.StepStatus, run_pb2.StepStatus, message.from_status),
        to_status=conversion.required(states.StepStatus, run_pb2.StepStatus, message.to_status),
        steps_summary=conversion.summary(message.steps_summary),
        output_source=conversion.enum_of(states.OutputSource, run_pb2.OutputSource, message.output_source),
        error=conversion.optional(message, "error", conversion.failure),
        next_attempt_at=conversion.time_of(message, "next_attempt_at"),
        cache=conversion.optional(message, "cache", conversion.cache_decision),
        duration_ms=message.duration_ms,
    )

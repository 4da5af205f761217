"""Events and the messages of a watch onto the wire."""

from typing import assert_never

from runengine_client.pb.runengine.v1 import event_pb2, run_engine_pb2, run_pb2
from runengine_server.domain.artifact import Artifact
from runengine_server.domain.events import RunEvent, RunStatusChanged, StepProgress, StepStatusChanged
from runengine_server.rpc.conversion.run import (
    artifact_to_proto,
    decision_to_proto,
    failure_to_proto,
    progress_to_proto,
    run_to_proto,
    step_to_proto,
    summary_to_proto,
)
from runengine_server.rpc.conversion.scalar import timestamp_of
from runengine_server.service.messages import (
    ToldEvent,
    WatchBookmark,
    WatchEnd,
    WatchEvents,
    WatchMessage,
    WatchSnapshot,
)


def encode_watch_message(message: WatchMessage) -> bytes:
    """One message of a watch with its resume token, serialised; each of its events only the first time."""
    reply = run_engine_pb2.WatchRunResponse(run_id=message.run_id, sequence=message.sequence)
    match message.kind:
        case WatchEvents() as batch:
            # Concatenated batches are one batch.
            reply.events.ParseFromString(b"".join([told.encoded(_batch_of_one) for told in batch.told]))
        case WatchBookmark() as bookmark:
            reply.bookmark.CopyFrom(event_pb2.Bookmark(server_time=timestamp_of(bookmark.server_time)))
        case WatchSnapshot() as snapshot:
            reply.snapshot.CopyFrom(_snapshot(snapshot))
        case WatchEnd() as end:
            reply.end.CopyFrom(event_pb2.WatchEnd(run=run_to_proto(end.run)))
        case other:
            assert_never(other)
    return reply.SerializeToString()


def event_to_proto(event: RunEvent) -> event_pb2.RunEvent:
    """One event with its type and the detail that goes with it."""
    proto = event_pb2.RunEvent(
        sequence=event.sequence,
        occurred_at=timestamp_of(event.occurred_at),
        step_id=event.step_id or "",
        attempt=event.attempt,
    )
    match event.detail:
        case RunStatusChanged() as changed:
            proto.type = event_pb2.RUN_EVENT_TYPE_RUN_STATUS
            proto.run.CopyFrom(_run_status_changed(changed))
        case StepStatusChanged() as changed:
            proto.type = event_pb2.RUN_EVENT_TYPE_STEP_STATUS
            proto.step.CopyFrom(_step_status_changed(changed))
        case StepProgress() as progress:
            proto.type = event_pb2.RUN_EVENT_TYPE_STEP_PROGRESS
            proto.progress.CopyFrom(progress_to_proto(progress))
        case Artifact() as artifact:
            proto.type = event_pb2.RUN_EVENT_TYPE_ARTIFACT
            proto.artifact.CopyFrom(artifact_to_proto(artifact))
        case other:
            assert_never(other)
    return proto


def _batch_of_one(told: ToldEvent) -> bytes:
    return event_pb2.EventBatch(events=[event_to_proto(told.event)]).SerializeToString()


def _snapshot(snapshot: WatchSnapshot) -> event_pb2.RunSnapshot:
    return event_pb2.RunSnapshot(
        run=run_to_proto(snapshot.run),
        steps=[step_to_proto(step) for step in snapshot.steps],
        reason=event_pb2.SnapshotReason.Value(f"SNAPSHOT_REASON_{snapshot.reason}"),
        more=snapshot.more,
    )


def _run_status_changed(changed: RunStatusChanged) -> event_pb2.RunStatusChanged:
    return event_pb2.RunStatusChanged(
        from_status=run_pb2.RunStatus.ValueType(changed.from_status or 0),
        to_status=run_pb2.RunStatus.ValueType(changed.to_status),
        steps_summary=summary_to_proto(changed.steps_summary),
        error=failure_to_proto(changed.error),
    )


def _step_status_changed(changed: StepStatusChanged) -> event_pb2.StepStatusChanged:
    return event_pb2.StepStatusChanged(
        from_status=run_pb2.StepStatus.ValueType(changed.from_status),
        to_status=run_pb2.StepStatus.ValueType(changed.to_status),
        steps_summary=summary_to_proto(changed.steps_summary),
        output_source=run_pb2.OutputSource.ValueType(changed.output_source or 0),
        error=failure_to_proto(changed.error),
        next_attempt_at=timestamp_of(changed.next_attempt_at),
        cache=decision_to_proto(changed.cache),
        duration_ms=changed.duration_ms or 0,
    )

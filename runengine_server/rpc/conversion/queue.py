"""The queue as messages."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from runengine_client.pb.runengine.v1 import queue_pb2 as pb
from runengine_server.ports.queue_reader import Depth, QueueDepths, QueueState
from runengine_server.rpc.conversion.scalar import timestamp_of
from runengine_server.service.queue_overview import NamedStep, QueueOverview


def queue_to_proto(overview: QueueOverview) -> pb.GetQueueResponse:
    """A tenant's queue."""
    return pb.GetQueueResponse(
        read_at=timestamp_of(overview.read_at),
        engines_alive=overview.engines_alive,
        total=depths_to_proto(overview.total),
        skills=[
            pb.SkillQueue(skill_id=skill_id, depths=depths_to_proto(depths))
            for skill_id, depths in overview.by_skill.items()
        ],
        delayed=[_step(step) for step in overview.delayed],
        stuck=[_step(step) for step in overview.stuck],
    )


def depths_to_proto(depths: QueueDepths) -> pb.QueueDepths:
    """Depth by state."""
    by_state = {state: _depth(depth) for state, depth in depths.by_state.items()}
    return pb.QueueDepths(
        ready=by_state[QueueState.READY],
        delayed=by_state[QueueState.DELAYED],
        waiting=by_state[QueueState.WAITING],
        held=by_state[QueueState.HELD],
        running=by_state[QueueState.RUNNING],
        stuck=_depth(depths.stuck),
    )


def _depth(depth: Depth) -> pb.QueueDepth:
    age = Duration()
    age.FromTimedelta(timedelta(milliseconds=depth.oldest_ms))
    return pb.QueueDepth(steps=depth.steps, oldest_age=age)


def _step(step: NamedStep) -> pb.QueuedStep:
    queued = step.queued
    return pb.QueuedStep(
        run_id=queued.run_id,
        step_id=step.step_id,
        workflow_name=queued.workflow_name,
        skill_id=step.skill_id,
        state=pb.QueueState.ValueType(queued.state),
        attempt=queued.attempt,
        since=timestamp_of(queued.since),
        next_attempt_at=timestamp_of(queued.next_attempt_at),
    )

"""The queue of steps as a caller sees it: its values, and how they correspond to the contract."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from runengine_client.conversion import required, time_of
from runengine_client.pb.runengine.v1 import queue_pb2
from runengine_client.states import QueueState

REQUEST = queue_pb2.GetQueueRequest()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """How many steps are in a state, and for how long the oldest of them has been."""

    steps: int = 0
    oldest_age: timedelta = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepths:
    """Depths by state; what is stuck is counted in its state as well."""

    ready: QueueDepth
    delayed: QueueDepth
    waiting: QueueDepth
    held: QueueDepth
    running: QueueDepth
    stuck: QueueDepth


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillQueue:
    """One skill's part of the queue."""

    skill_id: str
    depths: QueueDepths


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedStep:
    """One step of the queue; `next_attempt_at` only where it is delayed."""

    run_id: str
    step_id: str
    workflow_name: str
    skill_id: str
    state: QueueState
    attempt: int
    since: datetime | None = None
    next_attempt_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The tenant's queue: depths in all and by skill, and the steps that are delayed or stuck."""

    read_at: datetime | None
    engines_alive: int
    total: QueueDepths
    skills: tuple[SkillQueue, ...] = ()
    delayed: tuple[QueuedStep, ...] = ()
    stuck: tuple[QueuedStep, ...] = ()


def queue_of(message: queue_pb2.GetQueueResponse) -> Queue:
    """The queue."""
    return Queue(
        read_at=time_of(message, "read_at"),
        engines_alive=message.engines_alive,
        total=_depths(message.total),
        skills=tuple(SkillQueue(skill_id=each.skill_id, depths=_depths(each.depths)) for each in message.skills),
        delayed=tuple(map(_step, message.delayed)),
        stuck=tuple(map(_step, message.stuck)),
    )


def _depths(message: queue_pb2.QueueDepths) -> QueueDepths:
    return QueueDepths(
        ready=_depth(message.ready),
        delayed=_depth(message.delayed),
        waiting=_depth(message.waiting),
        held=_depth(message.held),
        running=_depth(message.running),
        stuck=_depth(message.stuck),
    )


def _depth(message: queue_pb2.QueueDepth) -> QueueDepth:
    return QueueDepth(steps=message.steps, oldest_age=message.oldest_age.ToTimedelta())


def _step(message: queue_pb2.QueuedStep) -> QueuedStep:
    return QueuedStep(
        run_id=message.run_id,
        step_id=message.step_id,
        workflow_name=message.workflow_name,
        skill_id=message.skill_id,
        state=required(QueueState, queue_pb2.QueueState, message.state),
        attempt=message.attempt,
        since=time_of(message, "since"),
        next_attempt_at=time_of(message, "next_attempt_at"),
    )

"""An event of a run: numbered 1, 2, 3 … without gaps, in commit order."""

from dataclasses import dataclass
from datetime import datetime

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import StepId
from runengine_server.domain.states import OutputSource, RunStatus, StepStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsSummary:
    """How many steps of a run are in which state; `pending` includes ready ones."""

    total: int
    pending: int
    running: int
    completed: int
    skipped: int
    failed: int
    cancelled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatusChanged:
    """The run moved; `from_status` is None for its first event."""

    from_status: RunStatus | None
    to_status: RunStatus
    steps_summary: StepsSummary
    error: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatusChanged:
    """A step moved; cache decision, source and duration come with a terminal state."""

    from_status: StepStatus
    to_status: StepStatus
    steps_summary: StepsSummary
    output_source: OutputSource | None = None
    error: Failure | None = None
    next_attempt_at: datetime | None = None
    cache: CacheDecision | None = None
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgress:
    """What a skill last said of its progress: a fraction 0 … 1 and a sentence."""

    fraction: float
    message: str
    reported_at: datetime


EventDetail = RunStatusChanged | StepStatusChanged | StepProgress | Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One thing that happened to a run; progress has sequence 0 and is not kept."""

    sequence: int
    occurred_at: datetime
    detail: EventDetail
    step_id: StepId | None = None
    attempt: int = 0

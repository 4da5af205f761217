"""What a watch yields: snapshots, events and the end of a run."""

from dataclasses import dataclass
from datetime import datetime

from runengine_client.states import OutputSource, RunEventType, RunStatus, SnapshotReason, StepStatus
from runengine_client.types import Artifact, CacheDecision, Failure, Run, Step, StepProgress, StepsSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatusChanged:
    """The run changed its status; `from_status` is None in the first event."""

    from_status: RunStatus | None
    to_status: RunStatus
    steps_summary: StepsSummary
    error: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatusChanged:
    """A step changed its status, or went back to ready for another attempt."""

    from_status: StepStatus
    to_status: StepStatus
    steps_summary: StepsSummary
    output_source: OutputSource | None = None
    error: Failure | None = None
    next_attempt_at: datetime | None = None
    cache: CacheDecision | None = None
    duration_ms: int = 0


EventDetail = RunStatusChanged | StepStatusChanged | StepProgress | Artifact
"""What happened; None in its place is a kind of event that this client does not know yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One thing that happened; numbered 1, 2, 3 … in commit order, progress is 0."""

    sequence: int
    occurred_at: datetime | None
    type: RunEventType
    step_id: str
    attempt: int
    detail: EventDetail | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSnapshot:
    """The whole state of the run at `sequence`."""

    sequence: int
    run: Run
    steps: tuple[Step, ...]
    reason: SnapshotReason


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The last item: the run in its terminal state."""

    sequence: int
    run: Run


WatchItem = RunSnapshot | RunEvent | RunEnded

"""The state of a followed run, folded from what its watch yields; knows nothing of terminals."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from runengine_client.states import OutputSource, RunStatus, StepStatus
from runengine_client.types import CacheDecision, Failure, Run, Step, StepProgress, StepsSummary
from runengine_client.watch_items import (
    RunEnded,
    RunEvent,
    RunSnapshot,
    RunStatusChanged,
    StepStatusChanged,
    WatchItem,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """One step as far as it has come: what a summary of a run shows of it."""

    step_id: str
    level: int = 0
    status: StepStatus = StepStatus.PENDING
    attempt: int = 0
    started_at: datetime | None = None
    duration_ms: int = 0
    output_source: OutputSource | None = None
    cache: CacheDecision | None = None
    error: Failure | None = None
    progress: StepProgress | None = None
    next_attempt_at: datetime | None = None
    artifacts: int = 0

    @property
    def duration(self) -> timedelta | None:
        """How long its attempt took; None where none ended."""
        return timedelta(milliseconds=self.duration_ms) if self.duration_ms else None


@dataclass(slots=True)
class RunView:
    """A run and its steps, kept up to date by `apply`."""

    run: Run | None = None
    steps: dict[str, StepOutcome] = field(default_factory=dict)
    summary: StepsSummary = field(default_factory=StepsSummary)
    status: RunStatus = RunStatus.UNKNOWN
    last_at: datetime | None = None
    sequence: int = 0

    def apply(self, item: WatchItem) -> None:
        """Take over what an item says."""
        match item:
            case RunSnapshot():
                self._see_run(item.run)
                self.steps = {step.step_id: outcome_of(step) for step in item.steps}
            case RunEvent():
                self.last_at = item.occurred_at or self.last_at
                self._apply_event(item)
            case RunEnded():
                self._see_run(item.run)
        self.sequence = max(self.sequence, item.sequence)

    @property
    def running(self) -> list[str]:
        """The steps that run now, which is to say in parallel."""
        return [step.step_id for step in self.steps.values() if step.status is StepStatus.RUNNING]

    def levels(self) -> list[list[StepOutcome]]:
        """The steps by topological rank: steps of one level never wait for each other."""
        by_level: dict[int, list[StepOutcome]] = {}
        for step in self.steps.values():
            by_level.setdefault(step.level, []).append(step)
        return [by_level[level] for level in sorted(by_level)]

    def _see_run(self, run: Run) -> None:
        self.run = run
        self.status = run.status
        self.summary = run.steps_summary
        self.last_at = run.updated_at or self.last_at

    def _apply_event(self, event: RunEvent) -> None:
        step = self.steps.get(event.step_id) or StepOutcome(step_id=event.step_id)
        match event.detail:
            case RunStatusChanged() as change:
                self.status = change.to_status
                self.summary = change.steps_summary
                return
            case StepStatusChanged() as change:
                self.summary = change.steps_summary
                step = _changed(step, event, change)
            case StepProgress() as progress:
                step = replace(step, progress=progress)
            case None:
                return
            case _:
                step = replace(step, artifacts=step.artifacts + 1)
        self.steps[step.step_id] = step


def outcome_of(step: Step) -> StepOutcome:
    """What a summary shows of a step."""
    return StepOutcome(
        step_id=step.step_id,
        level=step.level,
        status=step.status,
        attempt=step.attempt,
        started_at=step.started_at,
        duration_ms=step.duration_ms,
        output_source=step.output_source,
        cache=step.cache,
        error=step.error,
        progress=step.progress,
        next_attempt_at=step.next_attempt_at,
        artifacts=len(step.output_artifact_ids),
    )


def _changed(step: StepOutcome, event: RunEvent, change: StepStatusChanged) -> StepOutcome:
    is_running = change.to_status is StepStatus.RUNNING
    return replace(
        step,
        status=change.to_status,
        attempt=event.attempt or step.attempt,
        started_at=event.occurred_at if is_running else step.started_at,
        duration_ms=change.duration_ms,
        output_source=change.output_source or step.output_source,
        cache=change.cache or step.cache,
        # An error stays visible while the step waits for its next attempt, and no longer.
        error=None if is_running else change.error,
        progress=step.progress if is_running else None,
        next_attempt_at=change.next_attempt_at,
    )

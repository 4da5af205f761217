"""Keeps the latest progress of running steps in memory, for those who read or watch their runs here."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runengine_server.domain.events import RunEvent, StepProgress
from runengine_server.domain.ids import RunKey, StepId

RUNS_MAX = 10_000
STEPS_PER_RUN_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    version: int
    attempt: int
    progress: StepProgress


class InMemoryProgressBoard:
    """ProgressBoard of one process, bounded: the runs that were silent for longest are forgotten first."""

    def __init__(self, *, runs_max: int = RUNS_MAX, steps_per_run_max: int = STEPS_PER_RUN_MAX) -> None:
        """Nothing reported yet."""
        self._runs: OrderedDict[RunKey, OrderedDict[StepId, _Report]] = OrderedDict()
        self._runs_max = runs_max
        self._steps_per_run_max = steps_per_run_max
        self._version = 0

    def report(self, run: RunKey, step_id: StepId, progress: StepProgress, *, attempt: int = 0) -> None:
        """See the port."""
        self._version += 1
        steps = self._runs.setdefault(run, OrderedDict())
        steps[step_id] = _Report(version=self._version, attempt=attempt, progress=progress)
        steps.move_to_end(step_id)
        self._runs.move_to_end(run)
        if len(steps) > self._steps_per_run_max:
            steps.popitem(last=False)
        if len(self._runs) > self._runs_max:
            self._runs.popitem(last=False)

    def clear(self, run: RunKey, step_id: StepId) -> None:
        """See the port."""
        steps = self._runs.get(run)
        if steps is not None and steps.pop(step_id, None) is not None and not steps:
            del self._runs[run]

    def latest(self, run: RunKey) -> Mapping[StepId, StepProgress]:
        """See the port."""
        return {step_id: report.progress for step_id, report in self._runs.get(run, {}).items()}

    def since(self, run: RunKey, version: int) -> tuple[int, Sequence[RunEvent]]:
        """See the port."""
        events = [
            RunEvent(
                sequence=0,
                occurred_at=report.progress.reported_at,
                detail=report.progress,
                step_id=step_id,
                attempt=report.attempt,
            )
            for step_id, report in self._runs.get(run, {}).items()
            if report.version > version
        ]
        return self._version, events

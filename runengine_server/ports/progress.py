"""What running skills last said of their progress: latest values, kept in memory, outside the event log."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from runengine_server.domain.events import RunEvent, StepProgress
from runengine_server.domain.ids import RunKey, StepId


class ProgressBoard(Protocol):
    """The latest progress of each running step that was heard of; reports may be conflated. Never blocks."""

    def report(self, run: RunKey, step_id: StepId, progress: StepProgress, *, attempt: int = 0) -> None:
        """Replace what is known of a running step."""

    def clear(self, run: RunKey, step_id: StepId) -> None:
        """Forget a step whose attempt has ended."""

    def latest(self, run: RunKey) -> Mapping[StepId, StepProgress]:
        """What is known of a run's running steps."""

    def since(self, run: RunKey, version: int) -> tuple[int, Sequence[RunEvent]]:
        """What changed after a version (0: all that is known), one event of sequence 0 a step, and the version now."""

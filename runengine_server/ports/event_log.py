"""Events as watchers read them, and the hints that there may be more."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from runengine_server.domain.events import RunEvent
from runengine_server.domain.ids import RunKey
from runengine_server.domain.workflow import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events after a sequence, in order, and the newest sequence of the run at that moment."""

    events: Sequence[RunEvent]
    last_sequence: int


class EventLog(Protocol):
    """The stored events of runs."""

    async def read(self, run: RunKey, workflow: Workflow, *, after: int, limit: int) -> EventPage:
        """Up to `limit` events with a sequence above `after`, without gaps."""

    async def last_sequences(self, runs: Sequence[RunKey]) -> dict[RunKey, int]:
        """The newest sequence of each run, in one round trip."""


class EventHints(Protocol):
    """Wakes watchers when a run may have new events; a hint, never the truth: readers re-read the log."""

    def subscribe(self, run: RunKey) -> AbstractAsyncContextManager["Subscription"]:
        """Be woken for a run's events while the context is open."""


class Subscription(Protocol):
    """One watcher's bell."""

    async def wait(self, timeout_s: float) -> bool:
        """Return True once something may have happened since the last call, False after the timeout."""

"""Events as watchers read them, and the hints that there may be more."""

from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runengine_server.domain.events import RunEvent
from runengine_server.domain.ids import RunKey
from runengine_server.domain.states import RunStatus
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.run_reader import RunIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events after a sequence, in order, with the newest sequence and the status of the run at that same moment."""

    events: tuple[RunEvent, ...]
    last_sequence: int
    status: RunStatus


class EventLog(Protocol):
    """The stored events of runs."""

    async def read(self, run: RunIdentity, workflow: Workflow, *, after: int, limit: int) -> EventPage | None:
        """Up to `limit` events with a sequence above `after`; None when retention has removed the run.

        They have no gaps among them; the first is above `after` + 1 when those before it are no longer retained.
        """

    async def last_sequences(self, runs: Collection[RunKey]) -> Mapping[RunKey, int]:
        """The newest sequence of each run that exists, in one round trip."""


class Subscription(Protocol):
    """One watcher's bell."""

    def close(self) -> None:
        """Listen no more; what waits is woken no more."""

    def wait(self, timeout_s: float) -> Awaitable[bool]:
        """True once something may have happened since the last call, False after the timeout."""


class EventHints(Protocol):
    """Wakes watchers when a run may have new events; a hint, never the truth: readers re-read the log."""

    def subscribe(self, run: RunKey) -> Subscription:
        """Be woken for a run's events until the subscription is closed."""

    def watched(self) -> Sequence[RunKey]:
        """The runs that someone subscribes to."""

    def wake(self, runs: Iterable[RunKey]) -> None:
        """Ring every bell of these runs."""

    def wake_all(self) -> None:
        """Ring every bell: hints may have been lost."""

"""The rows of the queue in memory, and the flights that some of the queued steps lead and others wait for."""

from collections.abc import Mapping
from dataclasses import dataclass

from runengine_server.domain.cache import FlightId
from runengine_server.domain.ids import EngineNo, Place, RunKey


@dataclass(slots=True, kw_only=True)
class QueuedStep:
    """A step that is ready, delayed, waiting for a flight or leased; times in seconds of the wall clock."""

    timeout_ms: int
    ready_at: float
    available_at: float
    engine: EngineNo | None = None
    epoch: int = 0
    leased_at: float | None = None
    begun_at: float | None = None  # of its attempt's first lease
    attempt: int = 1
    lease_losses: int = 0
    waiting_on: FlightId | None = None
    is_follower: bool = False

    @property
    def is_free(self) -> bool:
        """True for a step that anybody may lease, once its delay is over."""
        return self.engine is None and self.waiting_on is None


class Flights:
    """Which step executes for a key right now; others that need the same wait for it."""

    def __init__(self, queue: Mapping[Place, QueuedStep]) -> None:
        """Lead and wait with the steps of `queue`."""
        self._queue = queue
        self.leaders: dict[FlightId, Place] = {}

    def claim(self, flight: FlightId, place: Place) -> bool:
        """Lead the flight unless another step does; True when the step leads it."""
        return self.leaders.setdefault(flight, place) == place

    def end(self, flight: FlightId, leader: Place) -> bool:
        """The leader succeeded: its followers are free to be leased, and will find the entry; True where it had any."""
        if self.leaders.get(flight) == leader:
            del self.leaders[flight]
        followers = self._waiting_on(flight)
        for place in followers:
            self._queue[place].waiting_on = None
        return bool(followers)

    def hand_over(self, run: RunKey) -> None:
        """Of each flight whose leader was a step of the run that is gone, the oldest follower leads from now on."""
        for flight, leader in list(self.leaders.items()):
            if leader[0] != run or leader in self._queue:
                continue
            followers = self._waiting_on(flight)
            if followers:
                self.leaders[flight] = followers[0]
                next_one = self._queue[followers[0]]
                next_one.waiting_on, next_one.is_follower = None, False
            else:
                del self.leaders[flight]

    def reap(self) -> None:
        """Flights whose leader is gone are handed over, and steps that wait for none are woken."""
        for run in {leader[0] for leader in self.leaders.values() if leader not in self._queue}:
            self.hand_over(run)
        for queued in self._queue.values():
            if queued.waiting_on is not None and queued.waiting_on not in self.leaders:
                queued.waiting_on = None

    def _waiting_on(self, flight: FlightId) -> list[Place]:
        """The flight's followers, the oldest first."""
        found = (place for place, queued in self._queue.items() if queued.waiting_on == flight)
        return sorted(found, key=lambda place: (self._queue[place].ready_at, place))

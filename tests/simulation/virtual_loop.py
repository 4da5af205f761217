"""An event loop without time or chance of its own: its clock jumps to the next timer, a seed orders what is ready.

Nothing in it waits for the outside world, so that a run of hours takes milliseconds and is the same each time.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any, TypeVar
from unittest.mock import patch

T = TypeVar("T")

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class StuckError(AssertionError):
    """Every task waits and no timer is set: nothing would ever happen again."""


class _NumberedTask(asyncio.Task[Any]):
    """A task that knows how many were started before it."""

    number = 0


def _number(handle: Any) -> int:
    """The number of the task that a ready callback belongs to; 0 for those that belong to none."""
    number: int = getattr(getattr(handle._callback, "__self__", None), "number", 0)
    return number


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs tasks, and lets time pass only while all of them wait."""

    def __init__(self, random: Random) -> None:
        """Start at 0 s; `random` decides in which order ready tasks run."""
        super().__init__()
        self._random = random
        self._passed_s = 0.0
        self._selector = self  # what BaseEventLoop waits with: see `select`
        self._numbers = count(1)
        self.set_task_factory(self._start)

    def time(self) -> float:
        """Seconds since the start."""
        return self._passed_s

    def select(self, timeout_s: float | None) -> tuple[()]:
        """Let time pass instead of waiting for files."""
        if timeout_s is None:
            raise StuckError("every task waits and no timer is set")
        self._passed_s += timeout_s
        return ()

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            # Whoever iterates over a set of tasks readies them in the order of their addresses: put that right first.
            shuffled = sorted(ready, key=_number)
            self._random.shuffle(shuffled)
            ready.clear()
            ready.extend(shuffled)
        super()._run_once()  # type: ignore[misc]

    def _start(self, loop: Any, work: Coroutine[Any, Any, Any], **options: Any) -> "_NumberedTask":
        task = _NumberedTask(work, loop=loop, **options)
        task.number = next(self._numbers)
        return task

    def _process_events(self, events: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody else could wake this loop."""


class VirtualClock:
    """A Clock that follows a loop, perhaps wrongly: `skew_s` off the true time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, skew_s: float = 0.0) -> None:
        """Show the time of `loop`."""
        self._loop = loop
        self._skew_s = skew_s

    def now(self) -> datetime:
        """The wall clock of this machine."""
        return _EPOCH + timedelta(seconds=self._loop.time() + self._skew_s)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._loop.time()


def run_virtually(random: Random, main: Coroutine[Any, Any, T]) -> T:
    """The result of `main`, on a loop of its own; equal seeds give equal runs, random ids included."""
    loop = VirtualLoop(random)
    try:
        with _seeded_ids(Random(random.random())):
            return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@contextmanager
def _seeded_ids(random: Random) -> Iterator[None]:
    """`uuid4` draws from `random`."""
    with patch("os.urandom", random.randbytes):
        yield

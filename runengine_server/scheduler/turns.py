"""Takes turns until the database answers: a reply that was lost costs time, one bad completion only itself."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TypeVar

import anyio

from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import EngineNo, Place
from runengine_server.ports.step_queue import CacheQuestion, StepQueue, Turn
from runengine_server.scheduler.attempt import Settled, internal_failure
from runengine_server.scheduler.reporting import Reporting

T = TypeVar("T")

_RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


def retry_s(tries: int) -> float:
    """How long to wait after so many earlier tries, in seconds."""
    return _RETRY_S[min(tries, len(_RETRY_S) - 1)]


async def answered(ask: Callable[[], Awaitable[T]], reporting: Reporting) -> T:
    """What the database says, however long it is away; `ask` may be repeated without harm."""
    for tries in count():
        try:
            return await ask()
        except UnavailableError as error:
            reporting.database_unavailable(error)
            await anyio.sleep(retry_s(tries))
    raise AssertionError("counting does not end")


class Turns:
    """The tick of the queue, persistent."""

    def __init__(self, queue: StepQueue, reporting: Reporting, on_lost_reply: Callable[[], None]) -> None:
        """Tick `queue`; `on_lost_reply`: a turn may have granted leases of which nobody heard."""
        self._queue = queue
        self._reporting = reporting
        self._on_lost_reply = on_lost_reply

    async def take(
        self,
        engine: EngineNo,
        batch: list[Settled],
        capacity: int,
        questions: Sequence[CacheQuestion] = (),
        known: Sequence[Place] | None = None,
    ) -> tuple[list[Settled], Turn]:
        """Tick until the database answers; a batch whose reply was lost is sent again, and what it did then counts.

        What cannot be stored at all fails, alone; returns the batch as it was committed.
        """
        tries, is_replaced, is_repeated = 0, False, False
        while True:
            try:
                completions = [settled.completion for settled in batch]
                turn = await self._queue.tick(engine, completions, capacity, questions, known)
                if is_repeated:
                    self._on_lost_reply()
                    turn = await answered(partial(self._with_recorded, engine, batch, turn), self._reporting)
                return batch, turn
            except UnavailableError as error:
                self._reporting.database_unavailable(error)
                is_repeated, known = True, None  # what it left behind is in the queue
            except Exception as error:
                if len(batch) > 1:
                    return await self._one_by_one(engine, batch, capacity, questions)
                self._reporting.turn_failed(error)
                # Where not even that can be stored the lease is left to the reaper.
                batch = [] if is_replaced else [internal_failure(settled.completion.lease) for settled in batch]
                is_replaced = True
            await anyio.sleep(retry_s(tries))
            tries += 1

    async def take_last(self, engine: EngineNo, batch: Sequence[Settled]) -> Turn:
        """Tick once without leasing anything; some of the batch may have been sent before."""
        turn = await self._queue.tick(engine, [settled.completion for settled in batch], 0)
        return await self._with_recorded(engine, batch, turn)

    async def _with_recorded(self, engine: EngineNo, batch: Sequence[Settled], turn: Turn) -> Turn:
        """The turn, as if what an earlier one without a reply has committed of the batch were its own doing."""
        refused = [at for at, is_accepted in enumerate(turn.accepted) if not is_accepted]
        if not refused:
            return turn
        recorded = await self._queue.recorded(engine, [batch[at].completion.lease for at in refused])
        ours = {at for at, is_recorded in zip(refused, recorded.is_recorded, strict=True) if is_recorded}
        return replace(
            turn,
            accepted=[is_accepted or at in ours for at, is_accepted in enumerate(turn.accepted)],
            ended=[*turn.ended, *recorded.ended],
        )

    async def _one_by_one(
        self, engine: EngineNo, batch: Sequence[Settled], capacity: int, questions: Sequence[CacheQuestion]
    ) -> tuple[list[Settled], Turn]:
        """Find the completion that cannot be stored by committing each alone; leases come with the last."""
        committed: list[Settled] = []
        turns: list[Turn] = []
        for number, settled in enumerate(batch, 1):
            is_last = number == len(batch)
            done, turn = await self.take(engine, [settled], capacity if is_last else 0, questions if is_last else ())
            committed += done
            turns.append(turn)
        return committed, Turn(
            accepted=[is_accepted for turn in turns for is_accepted in turn.accepted],
            leases=turns[-1].leases,
            misses=turns[-1].misses,
            begun=[run for turn in turns for run in turn.begun],
            ended=[ended for turn in turns for ended in turn.ended],
            next_available_s=turns[-1].next_available_s,
            look_s=turns[-1].look_s,
        )

"""When what has been settled was ready, began and ended, by the database's clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from runengine_server.domain.ids import RunKey, StepNo
from runengine_server.ports.step_queue import Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """The times of one lease that ended; `ready_at` is None where it is not known, as when another attempt followed."""

    ready_at: datetime | None
    leased_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedStep:
    """A step that was leased when its run ended without it."""

    step: StepNo
    attempt: int
    times: StepTimes


class StepTimesReader(Protocol):
    """Reads them after the fact: nothing that moves runs forward waits for it."""

    async def settled(self, leases: Sequence[Lease]) -> Sequence[StepTimes | None]:
        """Of each lease whose completion is committed; None where it is not, or not by that lease.

        Raises:
            UnavailableError: the database cannot be reached.
        """

    async def stopped(self, run: RunKey, limit: int) -> Sequence[StoppedStep]:
        """The steps that were leased when the run ended without them.

        Raises:
            UnavailableError: the database cannot be reached.
        """

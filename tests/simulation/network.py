"""What lies between an engine and everything else: delays, lost requests and replies, partitions, death."""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import anyio

from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import EngineNo
from runengine_server.ports.run_store import CreatedRun, EarlierAnswer, Intake, NewRun, Outdated
from runengine_server.ports.step_queue import CacheQuestion

T = TypeVar("T")

_TIMEOUT_S = 1.0


class Network:
    """One engine's way out.

    Attributes:
        loss: the chance that a request or a reply is lost.
        delay_s_max: how long each takes at most.
        is_dead: the engine's process is gone: nothing leaves it and nothing reaches it any more.
    """

    def __init__(self, random: Random, *, loss: float, delay_s_max: float) -> None:
        """Work, with these faults."""
        self._random = random
        self.loss = loss
        self.delay_s_max = delay_s_max
        self.is_dead = False
        self._is_cut = False
        self._frozen_until = -math.inf

    def heal(self) -> None:
        """No faults any more."""
        self.loss, self._is_cut = 0.0, False

    def cut(self, *, is_cut: bool) -> None:
        """While cut nothing comes through; callers time out."""
        self._is_cut = is_cut

    def freeze(self, seconds: float) -> None:
        """The process stands still: what was sent arrives, answers and new requests wait until it goes on."""
        self._frozen_until = anyio.current_time() + seconds

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work over there.

        Raises:
            UnavailableError: request or reply was lost; the work may have been done.
        """
        await self.stand_still()
        await self._travel()
        result = await work()
        await self._travel()
        await self.stand_still()
        return result

    async def stand_still(self) -> None:
        """Return when the process runs; never, once it is dead."""
        while (left_s := self._frozen_until - anyio.current_time()) > 0:  # noqa: ASYNC110 - a pause, no polling
            await anyio.sleep(left_s)
        if self.is_dead:
            await anyio.sleep_forever()

    async def _travel(self) -> None:
        if self._is_cut or (self.loss and self._random.random() < self.loss):
            await anyio.sleep(_TIMEOUT_S)
            raise UnavailableError("DATABASE_UNAVAILABLE", "nobody answers")
        await anyio.sleep(self._random.random() * self.delay_s_max)
        if self.is_dead:
            await anyio.sleep_forever()


class Remote:
    """A port over a network: each of its methods is a request and a reply."""

    def __init__(self, port: Any, network: Network) -> None:
        """Reach `port` over `network`."""
        self._port = port
        self._network = network

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._port, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            return await self._network.call(lambda: method(*arguments, **options))

        return call


class RemoteRunStore(Remote):
    """A run store over a network: who takes up a run hears of it with the reply."""

    async def create(self, new: NewRun, intake: Intake | None = None) -> CreatedRun | EarlierAnswer | Outdated:
        """See the port."""
        asked = None if intake is None else _Asked(intake.engine, intake.questions)
        created: CreatedRun | EarlierAnswer | Outdated = await self._network.call(lambda: self._port.create(new, asked))
        if intake is not None and isinstance(created, CreatedRun):
            intake.created(created)
        return created


@dataclass(slots=True)
class _Asked:
    """What of an intake travels."""

    engine: EngineNo
    questions: Sequence[CacheQuestion]

    def created(self, created: CreatedRun) -> None:
        """Nobody is here to be told."""

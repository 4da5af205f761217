"""When a server says that it is ready, and that gRPC health says the same."""

from collections.abc import Sequence
from datetime import UTC, datetime

import anyio
import pytest

from runengine_server.rpc.readiness import SILENCE_S, Readiness

pytestmark = pytest.mark.anyio


class Stage:
    """A database, a clock and gRPC health that a test holds."""

    def __init__(self) -> None:
        self.at_s = 0.0
        self.problems: list[str] = []
        self.hangs = False
        self.told: list[bool] = []
        self._news = anyio.Event()
        self.readiness = Readiness(self._ask, self._tell, self)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at_s, UTC)

    def monotonic(self) -> float:
        return self.at_s

    async def _ask(self) -> Sequence[str]:
        if self.hangs:
            await anyio.sleep_forever()
        return list(self.problems)

    async def _tell(self, is_ready: bool) -> None:
        self.told.append(is_ready)
        self._news.set()
        self._news = anyio.Event()

    async def hear(self, told: list[bool]) -> None:
        """Health has been told this, and nothing else."""
        with anyio.fail_after(10):
            while self.told != told:
                await self._news.wait()


async def test_begins_and_ends() -> None:
    """A server is not ready before it has begun nor once it drains, and says why."""
    stage = Stage()
    assert stage.readiness.reasons() == ["STARTING"]
    await stage.readiness.begin()
    assert stage.readiness.reasons() == [] and stage.told == [True]
    stage.readiness.drain()
    assert stage.readiness.reasons() == ["DRAINING"]


async def test_begins_without_a_database() -> None:
    """A server whose database has a problem when it begins is not told to be ready."""
    stage = Stage()
    stage.problems = ["SCHEMA_OUTDATED"]
    await stage.readiness.begin()
    assert stage.readiness.reasons() == ["SCHEMA_OUTDATED"]
    assert stage.told == []


async def test_follows_the_database() -> None:
    """What is wrong with the database is told when it begins and when it is over, once each."""
    stage = Stage()
    await stage.readiness.begin()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.readiness.run)
        stage.problems = ["DATABASE_READ_ONLY"]
        await stage.hear([True, False])
        assert stage.readiness.reasons() == ["DATABASE_READ_ONLY"]
        stage.problems = []
        await stage.hear([True, False, True])
        tasks.cancel_scope.cancel()


async def test_a_silent_database_is_away() -> None:
    """A question that hangs makes the server unready after three seconds, however long it hangs."""
    stage = Stage()
    await stage.readiness.begin()
    stage.hangs = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.readiness.run)
        stage.at_s += SILENCE_S - 0.01
        assert stage.readiness.reasons() == []
        stage.at_s += 0.02
        assert stage.readiness.reasons() == ["DATABASE_UNAVAILABLE"]
        await stage.hear([True, False])
        tasks.cancel_scope.cancel()

"""Hints between processes: fast when the connection lives, and caught up with when it was lost."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
import asyncpg
import pytest

from runengine_server.adapters.postgres.event_hints import PostgresHints
from runengine_server.adapters.postgres.event_hub import EventHub
from runengine_server.adapters.postgres.progress_hints import ProgressHint
from runengine_server.domain.events import StepProgress
from runengine_server.domain.ids import RunKey, StepId

pytestmark = pytest.mark.anyio

LIVENESS_S = 20.0


@dataclass(slots=True)
class Process:
    """One engine's end of the hints, and what it was told."""

    hub: EventHub = field(default_factory=EventHub)
    ready: int = 0
    permits: int = 0
    cancelled: set[RunKey] = field(default_factory=set)
    progress: list[ProgressHint] = field(default_factory=list)
    told: anyio.Event = field(default_factory=anyio.Event)

    def hints(self, url: str) -> PostgresHints:
        return PostgresHints(
            url,
            self.hub,
            on_ready=self._on_ready,
            on_cancelled=self._on_cancelled,
            on_permits=self._on_permits,
            on_progress=self._on_progress,
        )

    async def until_told(self) -> None:
        with anyio.fail_after(LIVENESS_S):
            await self.told.wait()
        self.told = anyio.Event()

    def _on_ready(self) -> None:
        self.ready += 1
        self.told.set()

    def _on_progress(self, hint: ProgressHint) -> None:
        self.progress.append(hint)
        self.told.set()

    def _on_permits(self) -> None:
        self.permits += 1
        self.told.set()

    def _on_cancelled(self, runs: Collection[RunKey]) -> None:
        self.cancelled |= set(runs)
        self.told.set()


@asynccontextmanager
async def running(*all_hints: PostgresHints) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        for hints in all_hints:
            tasks.start_soon(hints.run)
        yield
        tasks.cancel_scope.cancel()


async def test_other_processes_are_told(database_url: str) -> None:
    """Events, cancellations, ready work and permits announced in one process reach the other, its own at once."""
    here, there = Process(), Process()
    ours, theirs = here.hints(database_url), there.hints(database_url)
    async with running(ours, theirs):
        await here.until_told()  # listening: whoever connects is told to look for work
        await there.until_told()
        with closing(there.hub.subscribe(RunKey(7))) as bell, closing(here.hub.subscribe(RunKey(7))) as own:
            ours.announce_events([RunKey(7), RunKey(8)])
            assert await own.wait(0)
            assert await bell.wait(LIVENESS_S)
            ours.announce_cancelled([RunKey(9)])
            await there.until_told()
            assert there.cancelled == here.cancelled == {RunKey(9)}
            before = there.ready
            ours.announce_ready(is_local=False)
            await there.until_told()
            assert there.ready == before + 1
            assert here.ready == 1
            ours.announce_permits()
            await there.until_told()
            assert (here.permits, there.permits) == (0, 1)
            rings = 0
            while await own.wait(0.05):
                rings += 1
            assert rings <= 1  # its own notification is not heard twice; who finds that it is not alone says so once


async def test_progress_is_passed_on(database_url: str) -> None:
    """The latest report of each step reaches the other process, and not its own a second time."""
    here, there = Process(), Process()
    ours, theirs = here.hints(database_url), there.hints(database_url)
    async with running(ours, theirs):
        await here.until_told()
        await there.until_told()
        for fraction in (0.1, 0.2):
            for step_id in ("a", "b"):
                ours.announce_progress(_progress(step_id, fraction))
        with anyio.fail_after(LIVENESS_S):
            while len(there.progress) < 2:
                await there.until_told()
        assert there.progress == [_progress("a", 0.2), _progress("b", 0.2)]
        assert here.progress == []


def _progress(step_id: str, fraction: float) -> ProgressHint:
    progress = StepProgress(fraction=fraction, message="x", reported_at=datetime(2026, 1, 1, tzinfo=UTC))
    return ProgressHint(run=RunKey(7), step_id=StepId(step_id), attempt=1, progress=progress)


async def test_lost_listener(database_url: str) -> None:
    """A listener whose connection is cut listens again and wakes everyone, since hints may have passed it by."""
    here = Process()
    async with running(here.hints(database_url)):
        await here.until_told()
        with closing(here.hub.subscribe(RunKey(7))) as bell:
            connection = await asyncpg.connect(database_url)
            ours = "FROM pg_stat_activity WHERE application_name = 'runengine hints'"
            try:
                with anyio.fail_after(LIVENESS_S):  # the notifier may come later than the listener
                    while await connection.fetchval(f"SELECT count(*) {ours}") < 2:
                        pass
                assert await connection.fetchval(f"SELECT count(pg_terminate_backend(pid)) {ours}") == 2
                assert await bell.wait(LIVENESS_S)
                await here.until_told()
                await connection.execute("SELECT pg_notify('runengine', 'e7')")
                assert await bell.wait(LIVENESS_S)
            finally:
                await connection.close()


async def test_lost_notifier(database_url: str) -> None:
    """What is announced while the notifier's connection is gone is told once it is back."""
    here, there = Process(), Process()
    ours = here.hints(database_url)
    async with running(ours, there.hints(database_url)):
        await here.until_told()
        await there.until_told()
        connection = await asyncpg.connect(database_url)
        try:
            await connection.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'runengine hints'"
            )
        finally:
            await connection.close()
        await there.until_told()  # listens again
        ours.announce_cancelled([RunKey(3)])
        with anyio.fail_after(LIVENESS_S):
            while RunKey(3) not in there.cancelled:
                await there.until_told()


async def test_unreachable_database() -> None:
    """Announcing works, and this process is told, when there is no database at all."""
    here = Process()
    ours = here.hints("postgresql://nobody@127.0.0.1:1/none")
    async with running(ours):
        with closing(here.hub.subscribe(RunKey(7))) as bell:
            ours.announce_events([RunKey(7)])
            assert await bell.wait(LIVENESS_S)

"""Single calls become batches by back-pressure; what goes wrong with one goes wrong with no other."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from runengine_server.adapters.group_commit import GroupCommit
from runengine_server.domain.errors import ExhaustedError, UnavailableError

pytestmark = pytest.mark.anyio


class Committer:
    """Commits integers: answers with ten times each, in batches a test can hold up or refuse."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = anyio.Event()
        self.gate.set()
        self.refused: set[int] = set()
        self.is_away = False

    async def commit(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        if self.is_away:
            raise UnavailableError("DATABASE_UNAVAILABLE", "away")
        if self.refused.intersection(items):
            raise ValueError("cannot be stored")
        return [item * 10 for item in items]


@asynccontextmanager
async def running(
    committer: Committer, *, batch_max: int = 10, waiting_max: int = 100
) -> AsyncIterator[GroupCommit[int, int]]:
    group = GroupCommit(committer.commit, batch_max=batch_max, waiting_max=waiting_max)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(group.run)
        with anyio.fail_after(10):
            yield group
        tasks.cancel_scope.cancel()


async def _submit_all(group: GroupCommit[int, int], items: Sequence[int]) -> dict[int, object]:
    """The answer to each item, or what it raised."""
    answers: dict[int, object] = {}

    async def submit(item: int) -> None:
        try:
            answers[item] = await group.submit(item)
        except Exception as error:
            answers[item] = error

    async with anyio.create_task_group() as tasks:
        for item in items:
            tasks.start_soon(submit, item)
    return answers


async def test_callers_that_come_turn_by_turn_are_one_batch() -> None:
    """Whoever comes one turn of the loop after the other joins the batch; a lone caller waits for no timer."""
    committer = Committer()
    async with running(committer) as group, anyio.create_task_group() as tasks:

        async def submit_after(turns: int) -> None:
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            await group.submit(turns)

        for turns in range(5):
            tasks.start_soon(submit_after, turns)
    assert committer.batches == [[0, 1, 2, 3, 4]]


async def test_what_comes_while_a_batch_is_committed_is_the_next() -> None:
    """A lone call waits for nothing; calls during its commit go together, in order, each with its own answer."""
    committer = Committer()
    async with running(committer) as group:
        committer.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(group.submit, 1)
            await anyio.wait_all_tasks_blocked()
            committer.gate.set()
            assert await _submit_all(group, [2, 3, 4]) == {2: 20, 3: 30, 4: 40}
    assert committer.batches == [[1], [2, 3, 4]]


async def test_batches_are_bounded() -> None:
    """No batch is larger than its bound, and nothing is left over."""
    committer = Committer()
    async with running(committer, batch_max=4) as group:
        answers = await _submit_all(group, range(10))
    assert answers == {item: item * 10 for item in range(10)}
    assert max(len(batch) for batch in committer.batches) == 4


async def test_one_bad_item_fails_alone() -> None:
    """An item that cannot be committed does not take the calls of its batch with it."""
    committer = Committer()
    committer.refused = {3}
    async with running(committer) as group:
        answers = await _submit_all(group, [1, 2, 3, 4])
        assert isinstance(answers.pop(3), ValueError)
        assert answers == {1: 10, 2: 20, 4: 40}
        assert await group.submit(5) == 50


async def test_an_unknown_outcome_is_not_tried_again() -> None:
    """When the database went away the batch may have been committed: its calls are told, nothing is repeated."""
    committer = Committer()
    committer.is_away = True
    async with running(committer) as group:
        answers = await _submit_all(group, [1, 2])
        assert all(isinstance(answer, UnavailableError) for answer in answers.values())
        assert len(committer.batches) == 1
        committer.is_away = False
        assert await group.submit(3) == 30


async def test_a_call_that_gave_up_is_not_committed() -> None:
    """A caller that went away before its batch began leaves nothing behind."""
    committer = Committer()
    async with running(committer) as group:
        committer.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(group.submit, 1)
            await anyio.wait_all_tasks_blocked()
            with anyio.CancelScope() as gone:
                async with anyio.create_task_group() as callers:
                    callers.start_soon(group.submit, 2)
                    await anyio.wait_all_tasks_blocked()
                    gone.cancel()
            committer.gate.set()
        assert await group.submit(3) == 30
    assert committer.batches == [[1], [3]]


async def test_a_caller_that_gives_up_during_the_commit_harms_nobody() -> None:
    """The others of its batch get their answers."""
    committer = Committer()
    async with running(committer) as group:
        committer.gate = anyio.Event()
        answers: dict[int, object] = {}

        async def others() -> None:
            answers.update(await _submit_all(group, [2, 3]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(others)
            with anyio.CancelScope() as gone:
                async with anyio.create_task_group() as callers:
                    callers.start_soon(group.submit, 1)
                    await anyio.wait_all_tasks_blocked()
                    gone.cancel()
            committer.gate.set()
        assert answers == {2: 20, 3: 30}


async def test_too_many_calls_are_refused() -> None:
    """Beyond the bound a call is refused at once, with when to come back."""
    committer = Committer()
    async with running(committer, waiting_max=2) as group:
        committer.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(group.submit, 1)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(group.submit, 2)
            tasks.start_soon(group.submit, 3)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(ExhaustedError) as refused:
                await group.submit(4)
            committer.gate.set()
        assert refused.value.reason == "QUEUE_FULL"
        assert refused.value.retry_after_s


async def test_stopping_ends_every_call() -> None:
    """Calls that wait when the committer stops are cancelled, none hangs."""
    committer = Committer()
    committer.gate = anyio.Event()
    ended: list[int] = []
    group = GroupCommit(committer.commit, batch_max=1, waiting_max=10)

    async def submit(item: int) -> None:
        try:
            await group.submit(item)
        finally:
            ended.append(item)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as callers, anyio.create_task_group() as tasks:
            tasks.start_soon(group.run)
            for item in range(3):
                callers.start_soon(submit, item)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert sorted(ended) == [0, 1, 2]

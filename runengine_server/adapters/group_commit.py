"""Group commit by back-pressure: what arrives while one batch is being committed is the next batch."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from runengine_server.domain.errors import ExhaustedError, UnavailableError

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """Turns single calls into batches; no timer, so a lone call waits for nothing.

    `run()` must be running in a task for calls to make progress. Bounded: beyond `waiting_max` a call is refused.
    """

    def __init__(
        self, commit: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, batch_max: int, waiting_max: int
    ) -> None:
        """Commit batches of at most `batch_max` with `commit`.

        It answers in order. When it raises, nothing was committed, except that an UnavailableError leaves that open.
        """
        self._commit = commit
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._arrived = asyncio.Event()

    async def submit(self, item: T) -> R:
        """Commit one item in the next batch and return its answer.

        Raises:
            ExhaustedError: QUEUE_FULL.
        """
        if len(self._waiting) >= self._waiting_max:
            raise ExhaustedError("QUEUE_FULL", "too many runs are being started at once; try again", retry_after_s=1.0)
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        self._arrived.set()
        return await answer

    async def run(self) -> None:
        """Commit batches until cancelled; what fails fails its calls, and the next batch is tried."""
        try:
            while True:
                await self._arrived.wait()
                await self._gather()
                batch, self._waiting = self._waiting[: self._batch_max], self._waiting[self._batch_max :]
                if not self._waiting:
                    self._arrived.clear()
                # Whoever gave up before its turn gets nothing done: under load that work would only delay the others.
                await self._commit_batch([(item, answer) for item, answer in batch if not answer.done()])
        finally:
            for _, answer in self._waiting:
                answer.cancel()

    async def _gather(self) -> None:
        """Let those join who are about to: the batch is taken once a turn of the loop brings nobody more.

        Without it the callers of a burst, who come one by one out of the stage before, are two or three a batch.
        """
        seen = 0
        while seen < len(self._waiting) < self._batch_max:
            seen = len(self._waiting)
            await asyncio.sleep(0)

    async def _commit_batch(self, batch: Sequence[tuple[T, "asyncio.Future[R]"]]) -> None:
        if not batch:
            return
        try:
            answers = await self._commit([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, UnavailableError):
                # One item cannot be committed, and nothing was: the others must not suffer for it.
                for single in batch:
                    await self._commit_batch([single])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        except BaseException:
            for _, future in batch:
                future.cancel()
            raise
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

"""What a runner and a policy say about the next attempt reaches the queue."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from runengine_server.domain.states import RunStatus
from runengine_server.domain.workflow import RetryPolicy
from runengine_server.ports.step_queue import AttemptFailed, Completion

from .doubles import failed
from .stage import Stage, stage, step, workflow

pytestmark = pytest.mark.anyio


def _delays_ms(on: Stage) -> list[int]:
    """The delay of every failed attempt that is to be tried again, filled as they come."""
    delays: list[int] = []

    def note(completions: Sequence[Completion]) -> None:
        delays.extend(each.delay_ms for each in completions if isinstance(each, AttemptFailed))

    on.queue.before = note
    return delays


async def test_retry_after_is_the_least_delay() -> None:
    """An attempt whose runner asked for half a minute is not tried again before."""
    async with stage() as on:
        delays = _delays_ms(on)
        on.skills.behaviour["a"] = lambda call: failed("BUSY", retryable=True, retry_after_s=30.0)
        await on.start(workflow(step("a", attempts=3, backoff_ms=10)), {})
        await on.bell.until(lambda: bool(delays))
        assert delays == [30_000]


async def test_excluded_code_is_not_tried_again() -> None:
    """A retryable failure whose code the step excludes is final, whatever its runner asks for."""
    async with stage() as on:
        delays = _delays_ms(on)
        policy = RetryPolicy(max_attempts=5, backoff_ms=1, max_backoff_ms=1, non_retryable_codes=("BUSY",))
        on.skills.behaviour["a"] = lambda call: failed("BUSY", retryable=True, retry_after_s=0.01)
        run = await on.start(workflow(replace(step("a"), retry_policy=policy)), {})
        assert await on.ended(run) == [RunStatus.FAILED]
        assert (delays, len(on.skills.calls), on.error_code(run, 0)) == ([], 1, "BUSY")

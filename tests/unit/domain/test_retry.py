"""When a failed attempt is tried again, how long that waits, and what the run carries when it is over."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runengine_server.domain.failure import MAX_RETRIES_EXCEEDED, Failure
from runengine_server.domain.retry import JITTER_SHARE_MAX, RETRY_AFTER_S_MAX, backoff_ms, is_retried, run_failure
from runengine_server.domain.workflow import RetryPolicy

POLICY = RetryPolicy(max_attempts=3, backoff_ms=100, max_backoff_ms=1_000, non_retryable_codes=("CONTENT_REFUSED",))


def _failure(code: str = "SKILL_TIMEOUT", *, retryable: bool = True) -> Failure:
    return Failure(code=code, message="no", retryable=retryable, step_id="mix", attempt=2)


@pytest.mark.parametrize(
    ("failure", "attempt", "expected"),
    [
        (_failure(), 1, True),
        (_failure(), 2, True),
        (_failure(), 3, False),
        (_failure(), 4, False),
        (_failure(retryable=False), 1, False),
        (_failure("CONTENT_REFUSED"), 1, False),
    ],
)
def test_is_retried(failure: Failure, attempt: int, expected: bool) -> None:
    """Another attempt follows when the failure allows it, its code is not excluded and tries are left."""
    assert is_retried(POLICY, failure, attempt) is expected


@pytest.mark.parametrize(("attempt", "delay"), [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1_000), (20, 1_000)])
def test_backoff_doubles_up_to_its_cap(attempt: int, delay: int) -> None:
    """The first delay is backoffMs, each further one twice as long, none beyond maxBackoffMs."""
    assert backoff_ms(POLICY, attempt, retry_after_s=None, random=0.0) == delay


@settings(deadline=None)
@given(
    attempt=st.integers(1, 10_000),
    random=st.floats(0, 1),
    first=st.integers(1, 86_400_000),
    factor=st.integers(1, 1_000),
)
def test_jitter_only_adds(attempt: int, random: float, first: int, factor: int) -> None:
    """Whatever the jitter, the delay is at least the backoff, at most half of it more, and fits the queue's column."""
    policy = RetryPolicy(backoff_ms=first, max_backoff_ms=min(86_400_000, first * factor))
    least = backoff_ms(policy, attempt, retry_after_s=None, random=0.0)
    delay = backoff_ms(policy, attempt, retry_after_s=None, random=random)
    assert first <= least <= delay <= least * (1 + JITTER_SHARE_MAX) + 1
    assert least <= policy.max_backoff_ms
    assert delay < 2**31


@pytest.mark.parametrize(("asked_s", "delay"), [(0.01, 100), (5.0, 5_000), (1e12, RETRY_AFTER_S_MAX * 1000)])
def test_a_runner_may_ask_for_more_time(asked_s: float, delay: float) -> None:
    """retryAfter is a lower bound, at most an hour."""
    assert backoff_ms(POLICY, 1, retry_after_s=asked_s, random=0.0) == delay


def test_the_run_says_that_retries_ran_out() -> None:
    """Where tries ran out the run carries MAX_RETRIES_EXCEEDED with the cause inside."""
    carried = run_failure(POLICY, _failure(), 3)
    assert (carried.code, carried.step_id, carried.attempt) == (MAX_RETRIES_EXCEEDED, "mix", 3)
    assert carried.details == {"cause": {"code": "SKILL_TIMEOUT", "message": "no"}}
    assert carried.message == "step mix failed 3 times; the last error was SKILL_TIMEOUT: no"
    assert not carried.retryable


@pytest.mark.parametrize(
    ("failure", "attempt"),
    [(_failure(retryable=False), 2), (_failure("CONTENT_REFUSED"), 2), (_failure(), 1)],
    ids=["not retryable", "excluded", "a single try"],
)
def test_otherwise_the_run_carries_the_steps_failure(failure: Failure, attempt: int) -> None:
    """Where nothing ran out the run's code is the step's."""
    assert run_failure(POLICY, failure, attempt) is failure

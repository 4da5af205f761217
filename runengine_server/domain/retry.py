"""When a failed attempt is tried again."""

from runengine_server.domain.failure import MAX_RETRIES_EXCEEDED, Failure
from runengine_server.domain.workflow import RetryPolicy

JITTER_SHARE_MAX = 0.5
RETRY_AFTER_S_MAX = 3600.0


def is_retried(policy: RetryPolicy, failure: Failure, attempt: int) -> bool:
    """True when another attempt follows: the failure allows it, its code is not excluded and tries are left."""
    return failure.retryable and failure.code not in policy.non_retryable_codes and attempt < policy.max_attempts


def backoff_ms(policy: RetryPolicy, attempt: int, *, retry_after_s: float | None, random: float) -> int:
    """How long to wait after a failed attempt, in milliseconds.

    Args:
        policy: `backoff_ms` is the least first delay, doubled each time up to `max_backoff_ms`.
        attempt: the attempt that failed, from 1.
        retry_after_s: what the runner asked for, in seconds; a lower bound, at most an hour.
        random: 0 … 1; jitter only adds, up to 50 %.
    """
    delay = min(policy.backoff_ms * 2.0 ** min(attempt - 1, 30), policy.max_backoff_ms)
    delay *= 1 + JITTER_SHARE_MAX * random
    if retry_after_s is not None:
        delay = max(delay, min(retry_after_s, RETRY_AFTER_S_MAX) * 1000)
    return round(delay)


def run_failure(policy: RetryPolicy, failure: Failure, attempt: int) -> Failure:
    """What the run carries: MAX_RETRIES_EXCEEDED with the cause inside where tries ran out, else the step's failure."""
    ran_out = failure.retryable and failure.code not in policy.non_retryable_codes and attempt > 1
    if not ran_out:
        return failure
    return Failure(
        code=MAX_RETRIES_EXCEEDED,
        message=f"step {failure.step_id} failed {attempt} times; the last error was {failure.code}: {failure.message}",
        details={"cause": {"code": failure.code, "message": failure.message}},
        step_id=failure.step_id,
        attempt=attempt,
    )

"""Repeats unary calls that found no server, with growing, jittered and bounded delays."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio
import grpc
import grpc.aio

from runengine_client.errors import UnavailableError, decode_rpc_error

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays between tries, in seconds: `first_s` doubles up to `max_s`; each is shortened at random by up to half.

    A server that says when to come back is obeyed, up to `suggested_s_max`.
    """

    attempts_max: int = 6
    first_s: float = 0.1
    max_s: float = 5.0
    suggested_s_max: float = 30.0

    def delay_s(self, attempt: int, suggested_s: float | None = None) -> float:
        """How long to wait after the given failed attempt (from 1)."""
        grown = min(self.max_s, self.first_s * 2.0 ** min(attempt - 1, 32))
        jittered = grown * (0.5 + random.random() / 2)
        return max(jittered, min(suggested_s or 0.0, self.suggested_s_max))


async def call_with_retry(call: Callable[[], Awaitable[T]], backoff: Backoff, *, sleep: Sleep = anyio.sleep) -> T:
    """The call's answer; repeated while the status is UNAVAILABLE. The call must be safe to repeat as it is.

    Args:
        call: makes the same request, with the same request id, each time.
        backoff: how often and how fast.
        sleep: for tests.

    Raises:
        RunEngineError: what the last try ended in.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            decoded = decode_rpc_error(error)
            if not isinstance(decoded, UnavailableError) or attempt >= backoff.attempts_max:
                raise decoded from error
        await sleep(backoff.delay_s(attempt, decoded.retry_after_s))

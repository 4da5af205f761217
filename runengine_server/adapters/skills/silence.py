"""Says what the silence of a runner means for the attempt."""

from typing import Final

import grpc

from runengine_server.domain.failure import HEARTBEAT_TIMEOUT, SKILL_TIMEOUT, SKILL_UNAVAILABLE, Failure
from runengine_server.ports.skill_runner import Failed

ACCEPTED_WITHIN_S: Final = 5.0
SILENT_INTERVALS_MAX: Final = 3


def not_accepted(channel: grpc.aio.Channel, within_s: float) -> Failed:
    """A skill that was never started has not timed out: its runner is not available."""
    is_connected = channel.get_state() is grpc.ChannelConnectivity.READY
    what = "did not accept the call" if is_connected else "could not be reached"
    message = f"The skill's runner {what} within {within_s:g} s"
    return Failed(failure=Failure(code=SKILL_UNAVAILABLE, message=message, retryable=True))


def fell_silent(worker_id: str, *, is_late: bool) -> Failed:
    """An accepted call is over: its time is up (`is_late`), or it has missed its heartbeats."""
    if is_late:
        failure = Failure(code=SKILL_TIMEOUT, message="The skill did not finish in time", retryable=True)
    else:
        failure = Failure(code=HEARTBEAT_TIMEOUT, message="The skill's runner fell silent", retryable=True)
    return Failed(failure=failure, worker_id=worker_id)

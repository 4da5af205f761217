"""Delays between tries grow, are jittered, obey the server and are bounded."""

import anyio
import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from runengine_client.errors import InternalError, UnavailableError
from runengine_client.retry import Backoff, call_with_retry


def rpc_error(code: grpc.StatusCode, retry_after_s: int | None = None) -> grpc.aio.AioRpcError:
    status = status_pb2.Status(code=code.value[0], message="no")
    if retry_after_s is not None:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromSeconds(retry_after_s)
        status.details.add().Pack(info)
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, "no")


def tries(errors: list[grpc.aio.AioRpcError], backoff: Backoff) -> tuple[object, list[float]]:
    delays: list[float] = []
    left = iter(errors)

    async def call() -> str:
        for error in left:
            raise error
        return "done"

    async def sleep(delay_s: float) -> None:
        delays.append(delay_s)

    async def run() -> object:
        try:
            return await call_with_retry(call, backoff, sleep=sleep)
        except Exception as error:
            return error

    return anyio.run(run), delays


def test_delays_grow_to_a_cap():
    """Each delay lies between half and all of a doubling step, and no step exceeds the cap."""
    answer, delays = tries([rpc_error(grpc.StatusCode.UNAVAILABLE)] * 6, Backoff(attempts_max=9, first_s=1, max_s=8))
    assert answer == "done"
    for delay, step in zip(delays, [1, 2, 4, 8, 8, 8], strict=True):
        assert step / 2 <= delay <= step


def test_server_says_when():
    """RetryInfo lengthens the delay, up to a bound."""
    errors = [rpc_error(grpc.StatusCode.UNAVAILABLE, 7), rpc_error(grpc.StatusCode.UNAVAILABLE, 3600)]
    answer, delays = tries(errors, Backoff(first_s=0.1, suggested_s_max=30))
    assert (answer, delays) == ("done", [7, 30])


def test_last_try_raises():
    """After the last try there is no delay, but the error."""
    answer, delays = tries([rpc_error(grpc.StatusCode.UNAVAILABLE)] * 9, Backoff(attempts_max=3))
    assert isinstance(answer, UnavailableError)
    assert len(delays) == 2


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN])
def test_other_statuses_are_final(code):
    """Only UNAVAILABLE is repeated: anything else may say something about the request."""
    answer, delays = tries([rpc_error(code)], Backoff())
    assert isinstance(answer, InternalError)
    assert delays == []

"""Decodes a refused call the way any client would."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


async def refused(call: Any) -> tuple[grpc.aio.AioRpcError, dict[str, Any]]:
    """Await a call that must be refused; the error, and its details by the name of their message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value, details_of(caught.value)


def details_of(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The details of an error by the name of their message; an error without any fails the test."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    details = {}
    for packed in status.details:
        kind = packed.TypeName().rpartition(".")[2]
        message = getattr(error_details_pb2, kind)()
        packed.Unpack(message)
        details[kind] = message
    return details

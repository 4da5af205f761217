"""Keeps conversions that take long away from the event loop."""

from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)
T = TypeVar("T")

_BYTES_ON_LOOP_MAX = 32 * 1024
"""A Struct converts at about 30 µs per KB, so that this is 1 ms; a thread costs 0.1 ms."""


async def read_off_loop(read: Callable[[M], T], request: M) -> T:
    """What `read` makes of the request, in a thread when the request is large."""
    if request.ByteSize() <= _BYTES_ON_LOOP_MAX:
        return read(request)
    return await anyio.to_thread.run_sync(read, request)

"""An answer of many bytes, sent as fast as its reader takes them, and no longer than it takes any."""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractContextManager, aclosing

import anyio
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runengine_server.domain.errors import RunEngineError
from runengine_server.http.disconnect import cancel_when_gone
from runengine_server.http.errors import error_response

READER_S_MAX = 60.0
"""So long a reader may take nothing; a player that was paused comes back for the rest with a range."""

_log = logging.getLogger("runengine.artifacts")


class ContentStream(Response):
    """A Starlette response; a reader that is cut off notices by the length that it was told."""

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        status: int,
        headers: Mapping[str, str],
        counted: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Answer with `chunks`, which are asked for one after another, inside of `counted`."""
        super().__init__(status_code=status)
        self._chunks = chunks
        self._counted = counted
        self.raw_headers = Headers(headers).raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; what is wrong before the first byte is an answer, later it ends the connection."""
        async with aclosing(self._chunks) as chunks, anyio.create_task_group() as tasks:
            with self._counted():
                try:
                    first = await anext(chunks, b"")
                except RunEngineError as error:
                    await error_response(error)(scope, receive, send)
                    return
                tasks.start_soon(cancel_when_gone, receive, tasks.cancel_scope)
                try:
                    await self._send_all(first, chunks, send)
                except (RunEngineError, TimeoutError) as error:
                    _log.warning("[RunEngine] Download broken off: error=%s", type(error).__name__)
                tasks.cancel_scope.cancel()

    async def _send_all(self, first: bytes, chunks: AsyncGenerator[bytes, None], send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        chunk: bytes | None = first
        while chunk is not None:
            with anyio.fail_after(READER_S_MAX):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await anext(chunks, None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

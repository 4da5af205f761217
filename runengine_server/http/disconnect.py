"""Notices that a reader is gone, which sending does not tell."""

import anyio
from starlette.types import Receive


async def cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel the scope once the connection is closed; to be started beside what answers, after the request is read."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()

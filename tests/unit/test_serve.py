"""How a server ends that nobody told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from runengine_server import serve
from runengine_server.config import Settings


def test_an_engine_that_ends_by_itself_says_so(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """A cancellation that comes from within ends the process with status 1 and a line in its log, never with 0."""

    async def fall() -> None:
        await anyio.lowlevel.checkpoint()
        raise asyncio.CancelledError  # as a library may, on its own account

    @asynccontextmanager
    async def falling_engine(*_: Any, **__: Any) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fall)
            yield

    monkeypatch.setattr(serve, "run_engine", falling_engine)
    monkeypatch.setattr(serve, "collect_rarely", lambda: None)
    monkeypatch.setattr(serve, "_announce", lambda *_: None)
    settings = Settings(database_url="postgresql://nowhere/", anonymous=True)
    with pytest.raises(SystemExit) as ended:
        serve.serve_until_stopped(settings, is_development=False)
    assert ended.value.code == 1
    assert "the engine ended without being told to" in capfd.readouterr().out

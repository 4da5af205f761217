"""Scaffolding of tests of skills over HTTP: a scripted runner, an engine that calls it, attempts, and callbacks."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runengine_server.adapters.memory.skill_calls import MemorySkillCalls
from runengine_server.adapters.skills.http_callbacks import HttpCallbacks
from runengine_server.adapters.skills.http_runner import HttpSkillRunner
from runengine_server.adapters.skills.silence import SILENT_INTERVALS_MAX
from runengine_server.adapters.skills.targets import parse_endpoint
from runengine_server.domain.failure import Failure
from runengine_server.ports.skill_runner import Failed, Outcome, SkillCall

from .http_runner import callback_surface, serving

HEARTBEAT_S = 0.2
OUTPUT = {"output": {"x": 1}}


@dataclass
class Script:
    """A runner that answers what the test says, and keeps what it is sent."""

    answer: Callable[[dict[str, Any]], Awaitable[Response]]
    listed: Response = field(default_factory=lambda: Response(status_code=404))
    orders: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    deleted: list[tuple[str, str]] = field(default_factory=list)
    accepted: anyio.Event = field(default_factory=anyio.Event)

    def app(self) -> Starlette:
        """Below `/skills-of`, to see that a path in the base URL is kept."""
        return Starlette(
            routes=[
                Route("/skills-of/execute", self._execute, methods=["POST"]),
                Route("/skills-of/skills", self._list),
                Route("/skills-of/calls/{key:path}", self._delete, methods=["DELETE"]),
            ]
        )

    async def _execute(self, request: Request) -> Response:
        self.orders.append(json.loads(await request.body()))
        self.headers.append(dict(request.headers))
        answer = await self.answer(self.orders[-1])
        if answer.status_code == 202:
            self.accepted.set()
        return answer

    async def _list(self, request: Request) -> Response:
        return self.listed

    async def _delete(self, request: Request) -> Response:
        self.deleted.append((request.path_params["key"], request.headers["runengine-fencing-token"]))
        return Response(status_code=204)


def says(status: int, document: object = b"", **headers: str) -> Script:
    """A runner that always answers this."""

    async def answer(order: dict[str, Any]) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        return Response(content, status_code=status, headers=named)

    return Script(answer)


@asynccontextmanager
async def engine_for(
    script: Script, *, calls: MemorySkillCalls | None = None, **options: Any
) -> AsyncIterator[HttpSkillRunner]:
    """An engine with this runner, and a surface of its own for callbacks."""
    async with AsyncExitStack() as stack:
        callbacks = HttpCallbacks(calls or MemorySkillCalls(), read_s=0.02)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(callbacks.run)
        callbacks.base_url = await stack.enter_async_context(callback_surface(callbacks))
        url = await stack.enter_async_context(serving(script.app()))
        endpoint = parse_endpoint(f"{url}/skills-of/")
        options = {"heartbeat_interval_s": HEARTBEAT_S, **options}
        runner = await stack.enter_async_context(HttpSkillRunner(endpoint, callbacks=callbacks, **options))
        await runner.wait_until_asked()
        yield runner


async def run(runner: HttpSkillRunner, call: SkillCall, progress: list[tuple[float, str]] | None = None) -> Outcome:
    """The attempt's outcome, within 10 s."""
    heard = progress if progress is not None else []
    with anyio.fail_after(10):
        return await runner.execute(call, lambda fraction, message, _: heard.append((fraction, message)))


async def call_back(order: dict[str, Any], kind: str, *, at: str | None = None, **members: Any) -> httpx.Response:
    """The answer to a callback of this order; `at` another engine, `secret` another secret."""
    callback = order["callback"]
    url = callback["url"] if at is None else f"{at}/api{callback['url'].partition('/api')[2]}"
    secret = members.pop("secret", callback["token"])
    content = members.pop("content", None) or json.dumps({"fencingToken": order["fencingToken"], **members}).encode()
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    async with httpx.AsyncClient(timeout=5) as client:
        return await client.post(f"{url}/{kind}", content=content, headers=headers)


@dataclass
class Attempt:
    """An attempt in flight."""

    outcome: Outcome | None = None
    ended: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    progress: list[tuple[float, str]] = field(default_factory=list)

    async def execute(self, runner: HttpSkillRunner, call: SkillCall) -> None:
        """Run it."""
        with self.scope:
            self.outcome = await run(runner, call, self.progress)
        self.ended.set()

    async def result(self) -> Outcome:
        """Its outcome."""
        with anyio.fail_after(5):
            await self.ended.wait()
        assert self.outcome is not None
        return self.outcome


@asynccontextmanager
async def attempt_of(runner: HttpSkillRunner, call: SkillCall, script: Script) -> AsyncIterator[Attempt]:
    """An attempt that its runner has accepted."""
    async with anyio.create_task_group() as tasks:
        attempt = Attempt()
        tasks.start_soon(attempt.execute, runner, call)
        with anyio.fail_after(5):
            await script.accepted.wait()
        yield attempt
        tasks.cancel_scope.cancel()


async def beat(order: dict[str, Any], *, at: str | None = None) -> None:
    """The runner is heard for longer than it might have been silent."""
    for _ in range(2 * SILENT_INTERVALS_MAX + 2):
        assert (await call_back(order, "heartbeat", at=at)).status_code == 200
        await anyio.sleep(HEARTBEAT_S / 2)


async def until_forgotten(order: dict[str, Any]) -> None:
    """Nobody waits for the call any more; whoever did forgets it at its next look."""
    with anyio.fail_after(5):
        while (await call_back(order, "heartbeat")).status_code != 404:  # noqa: ASYNC110 - it says nothing by itself
            await anyio.sleep(0.01)


def failure(outcome: Outcome) -> Failure:
    """The failure it must be."""
    assert isinstance(outcome, Failed), outcome
    return outcome.failure

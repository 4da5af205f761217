"""Sends each skill to the runner its id is mapped to.

The most specific pattern wins: an exact id before any prefix, a longer prefix before a shorter one, `*` last.
"""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import anyio

from runengine_server.adapters.skills.grpc_runner import GrpcSkillRunner
from runengine_server.adapters.skills.http_callbacks import HttpCallbacks
from runengine_server.adapters.skills.local_runner import LocalSkillRunner
from runengine_server.adapters.skills.targets import Endpoint, SkillTarget, TargetError, Transport
from runengine_server.domain.failure import SKILL_UNAVAILABLE, Failure
from runengine_server.domain.ids import SkillId
from runengine_server.ports.skill_runner import (
    Failed,
    Outcome,
    ProgressListener,
    SkillAvailability,
    SkillCall,
    SkillInfo,
    SkillRunner,
)


@runtime_checkable
class HasCatalogue(Protocol):
    """A runner that can list what it offers."""

    def catalogue(self) -> Mapping[str, SkillInfo]:
        """What it last said it offers, by id."""


@runtime_checkable
class Remote(Protocol):
    """A runner elsewhere, to be opened and closed."""

    async def wait_until_asked(self) -> None:
        """It has been asked what it offers, whether or not it answered."""

    async def __aenter__(self) -> Self:
        """Open it."""

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Close it."""


_NO_TARGET = SkillAvailability(has_target=False, is_catalogue_known=False, info=None)
_ROUTES_REMEMBERED_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A pattern (a skill id, a prefix that ends in `.*`, or `*`) and the runner of what it matches."""

    pattern: str
    runner: SkillRunner


class RoutingSkillRunner:
    """Many runners behind one port; `async with` it opens and closes the remote ones."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """Route by these patterns; their order does not matter.

        Raises:
            TargetError: a pattern occurs twice.
        """
        self._exact = {route.pattern: route.runner for route in routes if not route.pattern.endswith("*")}
        prefixes = {route.pattern[:-1]: route.runner for route in routes if route.pattern.endswith("*")}
        if len(self._exact) + len(prefixes) != len(routes):
            raise TargetError("a pattern occurs twice")
        self._prefixes = sorted(prefixes.items(), key=lambda item: len(item[0]), reverse=True)
        self._runners = tuple({id(route.runner): route.runner for route in routes}.values())
        self._found: dict[str, SkillRunner | None] = {}
        self._stack = AsyncExitStack()

    async def execute(self, call: SkillCall, on_progress: ProgressListener) -> Outcome:
        """Run one attempt on the runner its skill is mapped to (see the port)."""
        runner = self._runner_of(call.skill_id)
        if runner is None:
            failure = Failure(code=SKILL_UNAVAILABLE, message=f"No target is configured for {call.skill_id}")
            return Failed(failure=failure)
        return await runner.execute(call, on_progress)

    def execute_at_once(self, call: SkillCall) -> Outcome | None:
        """Ask the runner of the skill (see the port)."""
        runner = self._runner_of(call.skill_id)
        return None if runner is None else runner.execute_at_once(call)

    async def abandon(self, call: SkillCall) -> None:
        """Tell the runner of the skill (see the port)."""
        runner = self._runner_of(call.skill_id)
        if runner is not None:
            await runner.abandon(call)

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        """What is known of a skill, from memory, at once."""
        runner = self._runner_of(skill_id)
        return _NO_TARGET if runner is None else runner.availability(skill_id)

    def catalogue(self) -> Mapping[str, SkillInfo]:
        """What the runners last said they offer, of what is routed to them, by id."""
        offered: dict[str, SkillInfo] = {}
        for runner in self._runners:
            if isinstance(runner, HasCatalogue):
                mine = {key: info for key, info in runner.catalogue().items() if self._runner_of(key) is runner}
                offered.update(mine)
        return offered

    async def __aenter__(self) -> Self:
        """Open every remote runner at once; an unreachable one delays this by 2 s at most and is no error."""
        remote = [runner for runner in self._runners if isinstance(runner, Remote)]
        for runner in remote:
            await self._stack.enter_async_context(runner)
        async with anyio.create_task_group() as group:
            for runner in remote:
                group.start_soon(runner.wait_until_asked)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Close them."""
        return await self._stack.__aexit__(kind, problem, trace)

    def _runner_of(self, skill_id: str) -> SkillRunner | None:
        try:
            return self._found[skill_id]
        except KeyError:
            runner = self._exact.get(skill_id) or self._by_prefix(skill_id)
            if len(self._found) < _ROUTES_REMEMBERED_MAX:
                self._found[skill_id] = runner
            return runner

    def _by_prefix(self, skill_id: str) -> SkillRunner | None:
        return next((runner for prefix, runner in self._prefixes if skill_id.startswith(prefix)), None)


def route_targets(
    targets: Sequence[SkillTarget],
    *,
    tokens: Mapping[Endpoint, str] | None = None,
    local: LocalSkillRunner | None = None,
    callbacks: HttpCallbacks | None = None,
    heartbeat_interval_s: float = 5.0,
) -> RoutingSkillRunner:
    """A runner for a parsed target map, one channel or pool for each endpoint; not opened yet.

    Args:
        targets: the map.
        tokens: bearer tokens by endpoint.
        local: what `local:` means.
        callbacks: where HTTP runners answer later.
        heartbeat_interval_s: what remote runners are asked for.

    Raises:
        TargetError: `local:` is used without a local runner, HTTP without callbacks, or a token belongs to no target.
    """
    tokens = tokens or {}
    endpoints = {target.endpoint for target in targets}
    if tokens.keys() - endpoints:
        raise TargetError("a token is given for an endpoint that no pattern uses")
    runners: dict[Endpoint, SkillRunner] = {}
    for endpoint in endpoints:
        if endpoint.transport.is_http:
            if callbacks is None:
                raise TargetError("an HTTP target is used, but nothing here takes callbacks")
            # Imported when it is configured: aiohttp takes 8 MB.
            from runengine_server.adapters.skills.http_runner import HttpSkillRunner

            runners[endpoint] = HttpSkillRunner(
                endpoint, callbacks=callbacks, token=tokens.get(endpoint), heartbeat_interval_s=heartbeat_interval_s
            )
        elif endpoint.transport is not Transport.LOCAL:
            runners[endpoint] = GrpcSkillRunner(
                endpoint, token=tokens.get(endpoint), heartbeat_interval_s=heartbeat_interval_s
            )
        elif local is not None:
            runners[endpoint] = local
        else:
            raise TargetError("`local:` is used, but no functions are registered in this process")
    return RoutingSkillRunner([Route(pattern=item.pattern, runner=runners[item.endpoint]) for item in targets])

"""Clients of a simulated fleet: they ask, may not hear the answer, and look whether what they were told comes true."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import anyio

from runengine_server.domain.errors import ChangedError, PreconditionError, UnavailableError
from runengine_server.domain.ids import RunId
from runengine_server.domain.states import RunStatus
from runengine_server.service.cancel_run import cancel_run
from runengine_server.service.retry_run import retry_run
from runengine_server.service.trigger_run import trigger_run
from runengine_server.service.trigger_update import trigger_update

from ..support.random_requests import random_retry, random_trigger, random_update, repeated
from ..support.workflow_model import WorkflowModel
from .engine import CALLER, Engine
from .world import ASKED, Asked, World

UseCase = Callable[..., Coroutine[Any, Any, Any]]

_PATIENCE_S = 30.0


class Clients:
    """What clients asked for, and what they were told.

    Attributes:
        refused: the reasons why requests were not answered.
        differing: where what was said and what then was differ.
        compared: how many plans were compared with what was then planned.
        built_on: what was stored of each run that something was built on, at that time.
    """

    def __init__(self, random: Random, world: World, versions: Mapping[str, WorkflowModel]) -> None:
        """Ask for runs of these versions."""
        self._random = random
        self._world = world
        self._versions = versions
        self.refused: list[str] = []
        self.differing: list[str] = []
        self.compared = 0
        self._last: tuple[UseCase, Any] | None = None
        self.built_on: dict[RunId, object] = {}

    async def something(self, engine: Engine) -> None:
        """Ask an engine for one thing or another."""
        world, chance = self._world, self._random.random()
        if self._last is not None and chance > 0.8:
            use_case, request = self._last
            await self._twice(use_case, engine, repeated(request))
            return
        live, bases = world.live_runs(), world.ended_runs(RunStatus.COMPLETED)
        unfinished = world.ended_runs(RunStatus.FAILED, RunStatus.CANCELLED)
        if chance < 0.12 and live:
            run_id = world.tables.runs[self._random.choice(live)].new.id
            await self._asked(cancel_run(engine.cancel, CALLER, run_id, "enough"))
        elif chance < 0.25 and unfinished:
            await self.retry(engine, self._random.choice(unfinished))
        elif chance < 0.65 and bases:
            await self.update(engine, self._random.choice(bases))
        else:
            await self.trigger(engine)

    async def trigger(self, engine: Engine) -> None:
        """A client starts a run."""
        await self._twice(trigger_run, engine, random_trigger(self._random, self._versions))

    async def update(self, engine: Engine, base: RunId) -> None:
        """A client wants something changed."""
        self.built_on.setdefault(base, self._world.stored(base))
        tables = self._world.tables
        model = self._world.models[tables.runs[tables.by_id[base]].new.workflow_digest]
        await self._twice(trigger_update, engine, random_update(self._random, self._versions, base, model))

    async def retry(self, engine: Engine, retried: RunId) -> None:
        """A client wants a failed or cancelled run finished."""
        self.built_on.setdefault(retried, self._world.stored(retried))
        await self._twice(retry_run, engine, random_retry(self._random, retried))

    async def _twice(self, use_case: UseCase, engine: Engine, request: Any) -> None:
        """First ask what would happen, sometimes; it must then happen, unless something else has meanwhile."""
        self._last = use_case, request
        world = self._world
        dry, state = None, world.state(world.now() - world.lag_s)
        if self._random.random() < 0.5:
            dry, _ = await self._ask(use_case, engine, replace(request, validate_only=True))
        if dry is not None and self._random.random() < 0.5:
            request = replace(request, expected_plan_digest=dry.plan.digest)
        made, refusal = await self._ask(use_case, engine, request)
        is_same_state = state == world.state(world.now())
        if is_same_state and refusal == "PLAN_CHANGED":
            self.differing.append(f"a plan changed without cause: {request}")
        if self._random.random() < 0.2:
            again, _ = await self._ask(use_case, engine, request)  # a client that did not hear the answer
            if made and again and request.request_id and (made.run_id != again.run_id or not again.deduplicated):
                self.differing.append(f"run {made.run_id} was started twice")
        if dry is None or made is None or made.plan is None or made.deduplicated or not is_same_state:
            return
        self.compared += 1
        if dry.plan.digest != made.plan.digest:
            self.differing.append(f"run {made.run_id} was planned otherwise than was said")

    async def _ask(self, use_case: UseCase, engine: Engine, request: Any) -> tuple[Any, str]:
        ASKED.set(Asked(request=request, since=self._world.now()))
        return await self._asked(use_case(engine.start, CALLER, request))

    async def _asked(self, request: Coroutine[Any, Any, Any]) -> tuple[Any, str]:
        """The answer, or why there was none."""
        try:
            with anyio.fail_after(_PATIENCE_S):
                return await request, ""
        except TimeoutError:
            refusal = "TIMEOUT"
        except (PreconditionError, UnavailableError, ChangedError) as error:
            refusal = error.reason
        except Exception as error:
            refusal = repr(error)
            self.differing.append(f"a request failed: {refusal}")
        self.refused.append(refusal)
        return None, refusal

"""The judge of the stories sees what it is there for: each way of breaking the engine is found within a few seeds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import anyio
import pytest

from runengine_server.adapters.memory import cold_cache, output_cache
from runengine_server.adapters.memory.run_store import MemoryRunStore
from runengine_server.adapters.memory.step_queue import MemoryEngineRegistry, MemoryStepQueue
from runengine_server.adapters.memory.tables import MemoryTables
from runengine_server.domain.ids import EngineNo
from runengine_server.domain.states import CacheMode, PlanReason
from runengine_server.planner import planning
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.decision import decide
from runengine_server.ports.run_store import NewRun, RequestKey
from runengine_server.ports.step_queue import Completion, StepExecuted, StepReused, TakenBack, Turn
from runengine_server.scheduler import preparation

from .story import random_story
from .virtual_loop import run_virtually

SEEDS = 150

Patch = pytest.MonkeyPatch


def no_early_cutoff(patch: Patch) -> None:
    """A step whose input turns out as the base's is executed all the same."""
    patch.setattr(preparation, "decide", lambda mode, policy, base, *rest: decide(mode, policy, None, *rest))


def base_reused_whatever_the_skill(patch: Patch) -> None:
    """What another version of the skill made counts as the same."""

    def careless(mode: Any, policy: Any, base: Any, input_hash: str, version: str | None) -> object:
        return decide(mode, policy, base and replace(base, cache_version=version), input_hash, version)

    patch.setattr(preparation, "decide", careless)
    patch.setattr(planning, "decide", careless)


def no_widening(patch: Patch) -> None:
    """Steps beyond the declared impact are reused though their input has changed."""
    patch.setattr(planning._Planner, "_widen", lambda self, step: None)


def no_closure(patch: Patch) -> None:
    """What follows a seed is not affected."""
    patch.setattr(CompiledWorkflow, "closure", lambda self, seeds: frozenset(seeds))


def refresh_reads(patch: Patch) -> None:
    """REFRESH and force read the cache like any other mode."""
    for module in (planning, preparation):
        patch.setattr(module, "step_cache_mode", lambda mode, reason: CacheMode.DEFAULT)


def force_forgotten(patch: Patch) -> None:
    """The scheduler does not know that a step is forced."""
    known = preparation.step_cache_mode
    patch.setattr(
        preparation,
        "step_cache_mode",
        lambda mode, reason: known(mode, PlanReason.DOWNSTREAM if reason is PlanReason.FORCED else reason),
    )


def fingerprints_ignored(patch: Patch) -> None:
    """An entry is used whichever version of the skill made it."""
    for module in (cold_cache, output_cache):
        patch.setattr(module, "mismatch", lambda found, wanted: None)


def cache_unread(patch: Patch) -> None:
    """The cold cache never has anything."""
    patch.setattr(cold_cache.MemoryColdCache, "_answer", lambda self, query: output_cache.CacheMiss(reason=None))
    patch.setattr(output_cache.MemoryOutputCache, "_find", lambda self, key: None)


def removals_do_not_reach_the_hot_tier(patch: Patch) -> None:
    """What was removed from the cold tier is still found in the hot one."""

    async def generations(self: cold_cache.MemoryColdCache, workflows: Sequence[Any]) -> Sequence[int]:
        return [0] * len(workflows)

    patch.setattr(cold_cache.MemoryColdCache, "generations", generations)


def no_fence(patch: Patch) -> None:
    """Results of leases that were lost are accepted."""

    def unfence(queue: MemoryStepQueue, engine: EngineNo, completion: Completion) -> None:
        if queued := queue._tables.queue.get((completion.lease.run, completion.lease.step)):
            queued.engine, queued.epoch = engine, completion.lease.epoch

    _before_each_completion(patch, unfence)


def no_reaping(patch: Patch) -> None:
    """Nobody takes back what dead engines hold."""

    async def reap(self: MemoryEngineRegistry) -> TakenBack:
        return TakenBack(runs=(), ended=())

    patch.setattr(MemoryEngineRegistry, "reap", reap)


def no_reconciling(patch: Patch) -> None:
    """Leases whose grant was lost on the way stay with an engine that does not know of them."""

    async def owned(self: MemoryStepQueue, engine: EngineNo) -> None:
        await anyio.sleep_forever()

    patch.setattr(MemoryStepQueue, "owned", owned)
    patch.setattr("runengine_server.adapters.memory.step_queue.OVERDUE_GRACE_S", 1e6)


def requests_forgotten(patch: Patch) -> None:
    """A request that is sent again starts another run."""
    create = MemoryRunStore.create

    async def careless(self: MemoryRunStore, new: NewRun) -> object:
        return await create(self, replace(new, request=RequestKey(rpc="", request_id="", digest="")))

    patch.setattr(MemoryRunStore, "create", careless)


def dependents_too_early(patch: Patch) -> None:
    """A step that waits for two starts when one has finished."""

    def hurry(queue: MemoryStepQueue, engine: EngineNo, completion: Completion) -> None:
        if isinstance(completion, StepExecuted | StepReused):
            waiting_for = queue._tables.runs[completion.lease.run].waiting_for
            for step in completion.dependents.steps:
                waiting_for[step] = min(waiting_for[step], 1)

    _before_each_completion(patch, hurry)


def new_definitions_unnoticed(patch: Patch) -> None:
    """Steps that a new version defines otherwise count as unchanged."""
    patch.setattr(planning, "changed_steps", lambda base, now: frozenset())


def retries_read_what_was_to_be_refreshed(patch: Patch) -> None:
    """A retry of a refreshing run reads the cache for the steps that are left."""
    patch.setattr(
        planning,
        "retry_impact",
        lambda retried, mode, missing: dict.fromkeys(missing, PlanReason.NO_BASE_OUTPUT),
    )


def stopped_runs_still_queued(patch: Patch) -> None:
    """A run that is cancelled or fails leaves its queue rows behind."""
    stop_run = MemoryTables.stop_run

    def careless(self: MemoryTables, run: Any, *how: Any) -> None:
        kept = {place: queued for place, queued in self.queue.items() if place[0] == run.key}
        stop_run(self, run, *how)
        self.queue.update(kept)

    patch.setattr(MemoryTables, "stop_run", careless)


BREAKAGES: list[Callable[[Patch], None]] = [
    no_early_cutoff,
    base_reused_whatever_the_skill,
    no_widening,
    no_closure,
    refresh_reads,
    force_forgotten,
    fingerprints_ignored,
    cache_unread,
    removals_do_not_reach_the_hot_tier,
    no_fence,
    no_reaping,
    no_reconciling,
    requests_forgotten,
    dependents_too_early,
    new_definitions_unnoticed,
    retries_read_what_was_to_be_refreshed,
    stopped_runs_still_queued,
]


def _before_each_completion(patch: Patch, meddle: Callable[[MemoryStepQueue, EngineNo, Completion], None]) -> None:
    tick = MemoryStepQueue.tick

    async def meddling(self: MemoryStepQueue, engine: EngineNo, completions: Sequence[Completion], *rest: Any) -> Turn:
        for completion in completions:
            meddle(self, engine, completion)
        return await tick(self, engine, completions, *rest)

    patch.setattr(MemoryStepQueue, "tick", meddling)


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.__name__)
def test_a_broken_engine_is_found_out(breakage: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """An engine that is broken in one place tells a story that is judged wrong."""
    breakage(monkeypatch)
    assert any(_verdict(seed) for seed in range(SEEDS)), f"{SEEDS} stories are as good as without {breakage.__name__}"


def _verdict(seed: int) -> list[str]:
    random = Random(seed)
    return run_virtually(random, random_story(random)).verdict()

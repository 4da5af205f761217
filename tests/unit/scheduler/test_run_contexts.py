"""What a scheduler knows of a run's base: its results under the numbers of the run's own version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from runengine_server.domain.base_run import BaseResult
from runengine_server.domain.ids import RunId, RunKey, SkillId, StepId, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.states import CacheMode
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.planner.compiled import CompiledWorkflow, compile_workflow
from runengine_server.ports.run_store import RunFacts
from runengine_server.scheduler.run_contexts import BASES_AT_HAND_MAX, RunContexts

from .stage import SystemClock

pytestmark = pytest.mark.anyio

OLD, NEW = WorkflowDigest("aa" * 32), WorkflowDigest("bb" * 32)
BASE, RUN = RunKey(1), RunKey(2)


def version(digest: WorkflowDigest, *step_ids: str, epoch: str = "") -> CompiledWorkflow:
    steps = tuple(StepDefinition(step_id=StepId(each), skill_id=SkillId(f"skill.{each}")) for each in step_ids)
    return compile_workflow(Workflow(name="wf", version="1.0.0", steps=steps, digest=digest, cache_epoch=epoch))


def result(step: int) -> BaseResult:
    return BaseResult(
        producer_run=BASE,
        producer_step=StepNo(step),
        producer_run_id=RunId("base"),
        input_hash=f"{step:064}",
        cache_version="1",
        output_hash="00" * 32,
    )


FACTS = RunFacts(
    run=RUN,
    run_id=RunId("run"),
    tenant=Tenant("acme"),
    workflow_name="wf",
    workflow_digest=NEW,
    cache_mode=CacheMode.DEFAULT,
    payload={},
    change=None,
    base_run=BASE,
    base_digest=OLD,
    plan=[],
    deadline_in_s=None,
)


@dataclass(slots=True)
class Stored:
    """One run with its facts, its base's results and the versions."""

    facts_of_run: RunFacts
    versions: Mapping[WorkflowDigest, CompiledWorkflow]
    results: Mapping[StepNo, BaseResult]

    async def facts(self, runs: Sequence[RunKey]) -> Mapping[RunKey, RunFacts]:
        return dict.fromkeys(runs, self.facts_of_run)

    async def base_results(self, runs: Sequence[RunKey]) -> Mapping[RunKey, Mapping[StepNo, BaseResult]]:
        return {BASE: self.results} if self.results else {}

    async def compiled(self, digest: WorkflowDigest) -> CompiledWorkflow:
        return self.versions[digest]


async def base_of(stored: Stored) -> Mapping[StepNo, BaseResult]:
    contexts = RunContexts(cast(Any, stored), stored, SystemClock(), 10)
    return (await contexts.get([RUN]))[RUN].base


RESULTS = {StepNo(n): result(n) for n in range(3)}


async def test_results_are_found_by_step_id() -> None:
    """A base of another version is seen under this version's numbers; steps only one of them has are left out."""
    stored = Stored(FACTS, {OLD: version(OLD, "a", "b", "gone"), NEW: version(NEW, "new", "b", "a")}, RESULTS)
    assert await base_of(stored) == {1: RESULTS[StepNo(1)], 2: RESULTS[StepNo(0)]}


async def test_results_at_hand_are_not_read() -> None:
    """Whoever created the run in this process had the base's results: they are seen as stored ones would be."""
    stored = Stored(FACTS, {OLD: version(OLD, "a", "b"), NEW: version(NEW, "b", "a")}, results={})
    contexts = RunContexts(cast(Any, stored), stored, SystemClock(), 10)
    contexts.prime(replace(FACTS, base_results={StepNo(0): result(0)}))
    assert (await contexts.get([RUN]))[RUN].base == {1: result(0)}


async def test_results_at_hand_are_few() -> None:
    """Of many runs that wait only the newest keep their base's results; those of the others are read."""
    stored = Stored(FACTS, {OLD: version(OLD, "a", "b"), NEW: version(NEW, "b", "a")}, results={StepNo(1): result(1)})
    contexts = RunContexts(cast(Any, stored), stored, SystemClock(), 100)
    runs = [RunKey(RUN + n) for n in range(BASES_AT_HAND_MAX + 1)]
    for run in runs:
        contexts.prime(replace(FACTS, run=run, base_results={StepNo(0): result(0)}))
    found = await contexts.get(runs)
    assert [found[run].base for run in runs] == [{0: result(1)}, *[{1: result(0)}] * BASES_AT_HAND_MAX]


async def test_a_base_of_the_same_version_is_as_it_is() -> None:
    """Of the same version every result counts, under its own number."""
    stored = Stored(replace(FACTS, base_digest=NEW), {NEW: version(NEW, "a", "b", "c")}, RESULTS)
    assert await base_of(stored) == RESULTS


async def test_what_cannot_be_equal_is_left_out() -> None:
    """A result of another skill, or of another cache epoch, is no answer whatever its input."""
    other = version(NEW, "a", "b", "c").workflow
    steps = (replace(other.steps[0], skill_id=SkillId("skill.other")), *other.steps[1:])
    stored = Stored(
        FACTS, {OLD: version(OLD, "a", "b", "c"), NEW: compile_workflow(replace(other, steps=steps))}, RESULTS
    )
    assert (await base_of(stored)).keys() == {1, 2}
    stored.versions = {OLD: version(OLD, "a", "b", "c"), NEW: version(NEW, "a", "b", "c", epoch="2")}
    assert await base_of(stored) == {}


async def test_a_base_that_is_gone_is_no_base() -> None:
    """Without results, or without the base's version, nothing is reused and nothing fails."""
    versions = {OLD: version(OLD, "a"), NEW: version(NEW, "a")}
    assert await base_of(Stored(FACTS, versions, {})) == {}
    assert await base_of(Stored(replace(FACTS, base_digest=None), versions, RESULTS)) == {}
    assert await base_of(Stored(replace(FACTS, base_run=None, base_digest=None), versions, RESULTS)) == {}

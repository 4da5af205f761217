"""Where the durations of a plan's steps come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from runengine_server.domain.ids import Place, RunKey, StepId, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.plan import PlannedStep, RebuildPlan
from runengine_server.domain.states import PlanAction, PlanReason
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.planner.compiled import CompiledWorkflow, compile_workflow
from runengine_server.ports.run_store import StepDuration
from runengine_server.service.estimates import History, estimated

pytestmark = pytest.mark.anyio

OLD, NEW = WorkflowDigest("aa" * 32), WorkflowDigest("bb" * 32)


@dataclass(slots=True)
class Past:
    """Runs and versions as the store and the catalogue know them."""

    recent: Mapping[RunKey, WorkflowDigest]
    took: Mapping[Place, StepDuration]
    versions: Mapping[WorkflowDigest, CompiledWorkflow] = field(default_factory=dict)
    asked: list[list[Place]] = field(default_factory=list)

    async def recent_runs(self, tenant: Tenant, workflow_name: str, limit: int) -> Mapping[RunKey, WorkflowDigest]:
        assert (tenant, workflow_name) == ("acme", "wf")
        return dict(list(self.recent.items())[:limit])

    async def durations(self, steps: Sequence[Place]) -> Mapping[Place, StepDuration]:
        self.asked.append(list(steps))
        return {place: self.took[place] for place in steps if place in self.took}

    async def compiled(self, digest: WorkflowDigest) -> CompiledWorkflow:
        return self.versions[digest]


def version(digest: WorkflowDigest, *step_ids: str) -> CompiledWorkflow:
    steps = tuple(StepDefinition(step_id=StepId(each), skill_id="x") for each in step_ids)  # type: ignore[arg-type]
    return compile_workflow(Workflow(name="wf", version="1.0.0", steps=steps, digest=digest))


def plan_of(compiled: CompiledWorkflow, *reused: str) -> RebuildPlan:
    return RebuildPlan(
        digest="d",
        steps=tuple(
            PlannedStep(
                step_id=step.step_id,
                action=PlanAction.REUSE if step.step_id in reused else PlanAction.EXECUTE,
                reason=PlanReason.INITIAL,
            )
            for step in compiled.workflow.steps
        ),
    )


async def estimates(past: Past, compiled: CompiledWorkflow, plan: RebuildPlan, base: object = None) -> list[Any]:
    history = History(store=cast(Any, past), versions=cast(Any, past), tenant=Tenant("acme"), base=cast(Any, base))
    shown = await estimated(plan, compiled, history)
    assert replace(shown, steps=plan.steps, estimate_s=None) == plan, "nothing but estimates is filled in"
    return [step.estimate_s for step in shown.steps]


def took(*entries: tuple[int, int, float], is_resumed: bool = False) -> dict[Place, StepDuration]:
    return {
        (RunKey(run), StepNo(step)): StepDuration(seconds=seconds, is_resumed=is_resumed)
        for run, step, seconds in entries
    }


async def test_the_newest_run_counts_and_others_fill_in() -> None:
    """Each step has what it took in the newest run that has it; no run is asked for what is known already."""
    compiled = version(NEW, "a", "b", "c")
    durations = took((9, 0, 1.0), (8, 0, 5.0), (8, 1, 2.0), (7, 2, 3.0))
    past = Past({RunKey(9): NEW, RunKey(8): NEW, RunKey(7): NEW}, durations)
    assert await estimates(past, compiled, plan_of(compiled)) == [1.0, 2.0, 3.0]
    assert [len(places) for places in past.asked] == [3, 2, 1]


async def test_what_is_reused_is_not_asked_for() -> None:
    """Only steps that may execute are looked up; a plan that reuses everything asks nothing."""
    compiled = version(NEW, "a", "b")
    past = Past({RunKey(9): NEW}, took((9, 0, 1.0), (9, 1, 2.0)))
    assert await estimates(past, compiled, plan_of(compiled, "a")) == [None, 2.0]
    assert past.asked == [[(9, 1)]]
    past.asked.clear()
    assert await estimates(past, compiled, plan_of(compiled, "a", "b")) == [None, None]
    assert past.asked == []


async def test_a_whole_attempt_is_preferred() -> None:
    """A duration of an attempt that was taken over counts only when no run has a better one."""
    compiled = version(NEW, "a", "b")
    resumed = took((9, 0, 0.1), (9, 1, 0.2), is_resumed=True)
    past = Past({RunKey(9): NEW, RunKey(8): NEW}, {**resumed, **took((8, 0, 60.0))})
    assert await estimates(past, compiled, plan_of(compiled)) == [60.0, 0.2]


async def test_runs_of_another_version_count_by_step_id() -> None:
    """History of an earlier version is that of the steps with the same id, whatever their numbers there."""
    compiled = version(NEW, "a", "new", "b")
    past = Past({RunKey(9): OLD}, took((9, 0, 2.0), (9, 1, 1.0)), {OLD: version(OLD, "b", "a", "gone")})
    assert await estimates(past, compiled, plan_of(compiled)) == [1.0, None, 2.0]


async def test_the_base_is_the_last_resort() -> None:
    """When no recent run has a step, the base's duration counts, however long ago it ran."""

    @dataclass
    class Base:
        run: RunKey
        workflow_digest: WorkflowDigest

    compiled = version(NEW, "a", "b")
    past = Past({RunKey(9): NEW}, took((9, 0, 1.0), (3, 0, 7.0), (3, 1, 8.0)))
    assert await estimates(past, compiled, plan_of(compiled), Base(RunKey(3), NEW)) == [1.0, 8.0]
    assert await estimates(past, compiled, plan_of(compiled), Base(RunKey(9), NEW)) == [1.0, None]

"""Plans are made from what store and cache answer, large ones beside the event loop."""

import threading
from typing import Any, cast

import pytest

from runengine_server.adapters.memory.run_store import MemoryRunStore
from runengine_server.adapters.memory.tables import MemoryTables
from runengine_server.domain.cache import CacheMiss
from runengine_server.domain.ids import RunId, SkillId, StepId, Tenant, WorkflowDigest
from runengine_server.domain.states import CacheMode, MissReason, PlanAction
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.planner.compiled import compile_workflow
from runengine_server.planner.planning import PlanRequest
from runengine_server.service.planning import PLANNED_INLINE_STEPS_MAX, make_plan

pytestmark = pytest.mark.anyio


class EmptyCache:
    """Has nothing."""

    async def lookup(self, queries: Any) -> list[CacheMiss]:
        return [CacheMiss(reason=MissReason.NEVER_SEEN) for _ in queries]


@pytest.mark.parametrize("count", [PLANNED_INLINE_STEPS_MAX, PLANNED_INLINE_STEPS_MAX + 1])
async def test_a_large_plan_is_made_in_a_thread(count: int) -> None:
    """The event loop is free while many steps are planned; the plan is the same."""
    steps = tuple(StepDefinition(step_id=StepId(f"s{n}"), skill_id=SkillId("x")) for n in range(count))
    threads: set[threading.Thread] = set()

    def cache_version(skill_id: SkillId) -> str:
        threads.add(threading.current_thread())
        return "1"

    request = PlanRequest(
        compiled=compile_workflow(Workflow(name="wf", version="1.0.0", steps=steps, digest=WorkflowDigest("ab" * 32))),
        tenant=Tenant("acme"),
        run_id=RunId("run"),
        payload={},
        mode=CacheMode.DEFAULT,
        cache_version=cache_version,
    )
    store = MemoryRunStore(MemoryTables(cast(Any, None)))
    plan = await make_plan(request, store, cast(Any, EmptyCache()))
    assert plan.count(PlanAction.EXECUTE) == count
    assert (threads == {threading.main_thread()}) is (count == PLANNED_INLINE_STEPS_MAX)

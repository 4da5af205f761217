"""A run is refused where its plan already shows that a skill would not accept its input."""

from collections.abc import Sequence
from uuid import uuid4

import pytest

from runengine_server.domain.errors import InvalidError
from runengine_server.domain.ids import RunId, RunKey, StepId
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import CacheMode, RunStatus
from runengine_server.domain.workflow import Workflow
from runengine_server.planner.compiled import compile_workflow
from runengine_server.planner.planning import PlanRequest
from runengine_server.planner.skill_schema import SkillSchemas
from runengine_server.service.planning import make_plan
from runengine_server.service.skill_inputs import PlannedRun, check_inputs

from ..scheduler.stage import TENANT, Stage, chain, stage, step, workflow

pytestmark = pytest.mark.anyio

NUMBERS: JsonObject = {"properties": {"trigger": {"type": "number"}}}


async def _check(
    on: Stage,
    definition: Workflow,
    payload: JsonObject,
    *,
    base: RunKey | None = None,
    seeds: Sequence[str] = (),
    mode: CacheMode = CacheMode.DEFAULT,
) -> None:
    compiled = compile_workflow(definition)
    change = ChangeRequest(type="change", payload={}) if base is not None else None
    run_id = RunId(str(uuid4()))
    request = PlanRequest(
        compiled=compiled,
        tenant=TENANT,
        run_id=run_id,
        payload=payload,
        mode=mode,
        cache_version=lambda skill_id: on.skills.availability(skill_id).cache_version,
        change=change,
        base=await on.store.base(TENANT, on.ids[base]) if base is not None else None,
        seeds=tuple(compiled.step_no[StepId(seed)] for seed in seeds),
    )
    plan = await make_plan(request, on.store, on.cache)
    run = PlannedRun(compiled=compiled, plan=plan, run_id=run_id, payload=payload, change=change)
    await check_inputs(run, on.skills, SkillSchemas(), on.store)


@pytest.mark.parametrize("mode", [CacheMode.DEFAULT, CacheMode.BYPASS])
@pytest.mark.parametrize("text", ["hunter2", "y" * 20_000], ids=["inline", "in a thread"])
async def test_root_steps_are_checked(mode: CacheMode, text: str) -> None:
    """A step that reads the payload only is checked at once, in every mode; the field names step and place."""
    async with stage(is_running=False) as on:
        on.skills.input_schema = NUMBERS
        with pytest.raises(InvalidError) as refused:
            await _check(on, workflow(step("a", trigger="x"), step("b", trigger="y")), {"x": text, "y": 1}, mode=mode)
    assert refused.value.reason == "VALIDATION_FAILED"
    (violation,) = refused.value.violations
    assert (violation.field, violation.description) == ("steps.a.input/trigger", "must be of type number")
    assert text not in str(refused.value)


async def test_what_is_not_known_yet_is_let_through() -> None:
    """Inputs that read steps which will run, or that cannot be resolved, are left to the execution."""
    async with stage(is_running=False) as on:
        on.skills.input_schema = {"properties": {"a": {"type": "number"}}}
        await _check(on, chain(), {"x": 1})
        await _check(on, chain(), {})


async def test_update_is_checked_with_what_it_reuses() -> None:
    """A step that executes on reused outputs is checked with them; steps that are reused are not checked."""
    async with stage() as on:
        base = await on.start(chain(), {"x": 1})
        assert await on.ended(base) == [RunStatus.COMPLETED]
        on.skills.input_schema = {"not": {"required": ["trigger"]}, "properties": {"a": {"type": "number"}}}
        on.skills.cache_version = "2"
        with pytest.raises(InvalidError) as refused:
            await _check(on, chain(), {"x": 1}, base=base, seeds=["b"])
    assert [violation.field for violation in refused.value.violations] == ["steps.b.input/a"]


async def test_skills_without_schema_cost_nothing() -> None:
    """Where no skill declares one, nothing is resolved or read again."""
    async with stage(is_running=False) as on:
        payload: JsonObject = {"x": 1}
        compiled = compile_workflow(chain())
        request = PlanRequest(
            compiled=compiled, tenant=TENANT, run_id=RunId("r"), payload=payload, mode=CacheMode.DEFAULT,
            cache_version=lambda _: "1",
        )  # fmt: skip
        plan = await make_plan(request, on.store, on.cache)
        run = PlannedRun(compiled=compiled, plan=plan, run_id=RunId("r"), payload=payload, change=None)
        await check_inputs(run, on.skills, SkillSchemas(), None)  # type: ignore[arg-type]

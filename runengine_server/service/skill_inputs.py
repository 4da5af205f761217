"""Refuses a run that would give a skill an input it does not accept, as far as inputs are known when it is planned."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import anyio.to_thread
import orjson

from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import Place, RunId, StepId, StepNo
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import PlanAction
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.skill_schema import INLINE_BYTES_MAX, SkillSchemas
from runengine_server.planner.step_input import (
    RunScope,
    StepInput,
    StepValue,
    change_value,
    resolve_input,
    stored_value,
)
from runengine_server.ports.run_store import RunStore
from runengine_server.ports.skill_runner import SkillRunner

VIOLATIONS_MAX = 50

HeldInput = tuple[StepNo, StepInput, JsonObject]
"""A step, its input, and the schema that its skill declares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """What the inputs of a planned run depend on."""

    compiled: CompiledWorkflow
    plan: RebuildPlan
    run_id: RunId
    payload: JsonObject
    change: ChangeRequest | None


async def check_inputs(run: PlannedRun, skills: SkillRunner, schemas: SkillSchemas, store: RunStore) -> None:
    """Return when every known input of a step that may execute is one its skill accepts; large ones beside the loop.

    Known are inputs that read nothing but the payload and outputs that the plan reuses.

    Raises:
        InvalidError: VALIDATION_FAILED, with a violation for each place.
        UnavailableError: the database cannot be reached.
    """
    declared = dict(_declared(run, skills))
    if not declared:
        return
    reads = {place for step in declared for place in _reads(run, step)}
    stored = await store.outputs(sorted(reads)) if reads else {}
    values = {place: stored_value(output.body, output.artifacts) for place, output in stored.items()}
    held = list(_held(run, declared, values))
    if sum(len(resolved.body) for _, resolved, _ in held) <= INLINE_BYTES_MAX:
        violations = _violations(run, schemas, held)
    else:
        violations = await anyio.to_thread.run_sync(_violations, run, schemas, held)
    if violations:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise InvalidError(
            "VALIDATION_FAILED",
            f"a skill does not accept the input it would get: {first.field}: {first.description}{more}",
            violations=violations,
        )


def _declared(run: PlannedRun, skills: SkillRunner) -> Iterator[tuple[StepNo, JsonObject]]:
    """The schema of each step that may execute and whose input is known."""
    steps = run.compiled.workflow.steps
    infos = {skill_id: skills.availability(skill_id).info for skill_id in {step.skill_id for step in steps}}
    schemas = {key: info.input_schema for key, info in infos.items() if info and info.input_schema is not None}
    if not schemas:
        return
    for number, planned in enumerate(run.plan.steps):
        step = StepNo(number)
        schema = schemas.get(steps[step].skill_id)
        if schema is None or planned.action is PlanAction.REUSE:
            continue
        if all(run.plan.steps[read].action is PlanAction.REUSE for read in run.compiled.reads[step]):
            yield step, schema


def _reads(run: PlannedRun, step: StepNo) -> Iterator[Place]:
    for read in run.compiled.reads[step]:
        binding = run.plan.steps[read].binding
        assert binding is not None, "what is reused has a producer"
        yield binding.producer_run, binding.producer_step


def _held(
    run: PlannedRun, declared: Mapping[StepNo, JsonObject], values: Mapping[Place, StepValue]
) -> Iterator[HeldInput]:
    """What the steps would get; a selector that fails is told when the step runs."""
    for step, schema in declared.items():
        if any(place not in values for place in _reads(run, step)):
            continue  # removed meanwhile
        resolved = resolve_input(run.compiled, step, _scope(run, values))
        if not isinstance(resolved, Failure):
            yield step, resolved, schema


def _scope(run: PlannedRun, values: Mapping[Place, StepValue]) -> RunScope:
    def value_of(step_id: str) -> StepValue:
        binding = run.plan.steps[run.compiled.step_no[StepId(step_id)]].binding
        assert binding is not None, "only steps that read what is reused are resolved"
        return values[binding.producer_run, binding.producer_step]

    return RunScope(
        trigger=run.payload,
        change=change_value(run.change),
        run={"id": run.run_id, "workflowName": run.compiled.workflow.name},
        value_of=value_of,
    )


def _violations(run: PlannedRun, schemas: SkillSchemas, held: list[HeldInput]) -> list[FieldViolation]:
    return [
        FieldViolation(
            field=f"steps.{run.compiled.workflow.steps[step].step_id}.input{problem.pointer}",
            description=problem.message,
        )
        for step, resolved, schema in held
        for problem in schemas.problems(schema, orjson.loads(resolved.body))
    ][:VIOLATIONS_MAX]

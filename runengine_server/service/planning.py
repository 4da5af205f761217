"""Answers a plan's questions from storage and cache; the plan itself is pure."""

import orjson

from runengine_server.domain.plan import RebuildPlan
from runengine_server.planner.planning import Answer, PlanRequest, Question, plan_run
from runengine_server.planner.step_input import StepValue
from runengine_server.ports.output_cache import OutputCache
from runengine_server.ports.run_store import RunStore, StoredOutput


async def make_plan(request: PlanRequest, store: RunStore, cache: OutputCache) -> RebuildPlan:
    """Plan a run; reads, never writes.

    Raises:
        UnavailableError: the database cannot be reached.
    """
    planning = plan_run(request)
    try:
        question = next(planning)
        while True:
            question = planning.send(await _answer(question, store, cache))
    except StopIteration as done:
        plan: RebuildPlan = done.value
        return plan


async def _answer(question: Question, store: RunStore, cache: OutputCache) -> Answer:
    stored = await store.outputs(question.outputs) if question.outputs else {}
    found = await cache.lookup(question.lookups) if question.lookups else ()
    return Answer(
        outputs={place: step_value(output) for place, output in stored.items()},
        cache={query.key: answer for query, answer in zip(question.lookups, found, strict=True)},
    )


def step_value(output: StoredOutput) -> StepValue:
    """What selectors see of a committed output."""
    return StepValue(
        output=orjson.loads(output.body),
        artifacts=tuple(artifact.as_selector_value() for artifact in output.artifacts),
    )

"""Answers a plan's questions from storage and cache; the plan itself is pure."""

from typing import Final

import anyio.to_thread

from runengine_server.domain.plan import RebuildPlan
from runengine_server.planner.planning import Answer, Planning, PlanRequest, Question, plan_run
from runengine_server.planner.step_input import stored_value
from runengine_server.ports.output_cache import OutputCache
from runengine_server.ports.run_store import RunStore

# Planning takes up to 25 µs a step: what would hold the event loop for longer than 15 ms goes to a thread.
PLANNED_INLINE_STEPS_MAX: Final = 500


async def make_plan(request: PlanRequest, store: RunStore, cache: OutputCache) -> RebuildPlan:
    """Plan a run; reads, never writes.

    Raises:
        UnavailableError: the database cannot be reached.
    """
    planning, answer = plan_run(request), None
    is_large = len(request.compiled.workflow.steps) > PLANNED_INLINE_STEPS_MAX
    while True:
        if is_large:
            reached = await anyio.to_thread.run_sync(_advance, planning, answer)
        else:
            reached = _advance(planning, answer)
        if isinstance(reached, RebuildPlan):
            return reached
        answer = await _answer(reached, store, cache)


def _advance(planning: Planning, answer: Answer | None) -> Question | RebuildPlan:
    """The next question, or the plan; as an exception it would not get out of a thread."""
    try:
        return next(planning) if answer is None else planning.send(answer)
    except StopIteration as done:
        plan: RebuildPlan = done.value
        return plan


async def _answer(question: Question, store: RunStore, cache: OutputCache) -> Answer:
    stored = await store.outputs(question.outputs) if question.outputs else {}
    found = await cache.lookup(question.lookups) if question.lookups else ()
    return Answer(
        outputs={place: stored_value(output.body, output.artifacts) for place, output in stored.items()},
        cache={query.key: answer for query, answer in zip(question.lookups, found, strict=True)},
    )

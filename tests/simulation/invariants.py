"""Invariants I1 to I12 over the tables in memory, as tests/support/invariants.sql has them for PostgreSQL."""

from collections.abc import Iterator
from itertools import pairwise

from runengine_server.adapters.memory.tables import COUNTED, MemoryTables, RunRecord
from runengine_server.domain.ids import StepNo
from runengine_server.domain.states import STEP_TRANSITIONS, OutputSource, RunEventType, RunStatus, StepStatus

from ..support.workflow_model import WorkflowModel
from .skills import SkillServers

_SUCCESSES = (StepStatus.COMPLETED, StepStatus.SKIPPED)
_RUN_TRANSITIONS = {
    RunStatus.QUEUED: {RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED},
    RunStatus.RUNNING: {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED},
}


def violations(tables: MemoryTables, models: dict[str, WorkflowModel], skills: SkillServers) -> list[str]:
    """Everything that is wrong, once every run has ended."""
    found = []
    for run in tables.runs.values():
        model = models[run.new.workflow_digest]
        for check in (_results, _events, _end, _order):
            found += [f"{check.__name__[1:]} of run {run.key}: {problem}" for problem in check(tables, run, model)]
    found += [f"cache: {problem}" for problem in _cache(tables)]
    found += [f"ledger: {problem}" for problem in _ledger(tables, skills)]
    found += [f"{place} is still leased by engine {q.engine}" for place, q in tables.queue.items() if q.engine]
    return found


def _results(tables: MemoryTables, run: RunRecord, model: WorkflowModel) -> Iterator[str]:
    """I1, I2, I9, I11: a step ends once, with the last of its epochs, after no more tries than allowed."""
    leases = [e.step for e in run.events if e.type is RunEventType.STEP_STATUS and e.to_status == StepStatus.RUNNING]
    for number, step in enumerate(model.steps.values()):
        place = run.key, StepNo(number)
        result = tables.results.get(place)
        ends = [e.to_status for e in run.events if e.step == number and (e.to_status or 0) >= StepStatus.COMPLETED]
        ends = [end for end in ends if end is not None]
        if ends != ([result.status] if result else []):
            yield f"step {number} ends as {ends}, result {result and result.status}"
        if result is None:
            continue
        if place in tables.queue:
            yield f"step {number} has ended and is queued"
        if (place in tables.outputs) is not (result.status is StepStatus.COMPLETED):
            yield f"step {number} is {result.status.name}, output {place in tables.outputs}"
        if (result.source is OutputSource.EXECUTED) is not (result.status is StepStatus.COMPLETED):
            yield f"step {number} is {result.status.name} from {result.source}"
        epochs = [failed.epoch for failed in tables.tries if failed.place == place]
        if result.status is not StepStatus.FAILED and result.epoch is not None:
            epochs.append(result.epoch)
        if any(before >= after for before, after in pairwise(epochs)):
            yield f"epochs of step {number} do not grow: {epochs}"
        if result.epoch is not None and leases.count(number) != result.epoch:
            yield f"step {number} was leased {leases.count(number)} times, its epoch is {result.epoch}"
        if result.attempt > step.definition.retry_policy.max_attempts:
            yield f"step {number} was tried {result.attempt} times"


def _events(tables: MemoryTables, run: RunRecord, _: WorkflowModel) -> Iterator[str]:
    """I4, I5: numbered without gap, each going on where the one before ended, counting what there is."""
    if [event.sequence for event in run.events] != list(range(1, len(run.events) + 1)):
        yield "events have gaps"
    states: dict[int | None, int | None] = {}
    for event in run.events:
        if event.type is RunEventType.ARTIFACT:
            continue
        before = states.get(event.step, None if event.step is None else StepStatus.PENDING)
        if event.from_status != before:
            yield f"event {event.sequence} goes on from {event.from_status}, not {before}"
        if event.step is not None and event.to_status not in STEP_TRANSITIONS[StepStatus(event.from_status or 0)]:
            yield f"event {event.sequence} is no legal move of a step"
        if event.step is None and before is not None and event.to_status not in _RUN_TRANSITIONS[RunStatus(before)]:
            yield f"event {event.sequence} is no legal move of a run"
        states[event.step] = event.to_status
    ended = [result.status for place, result in tables.results.items() if place[0] == run.key]
    recount = {status: ended.count(status) for status in COUNTED}
    if run.counts != recount or run.events[-1].counts != tuple(recount[status] for status in COUNTED):
        yield f"counts {run.counts}, recount {recount}, last event {run.events[-1].counts}"


def _end(tables: MemoryTables, run: RunRecord, model: WorkflowModel) -> Iterator[str]:
    """I6: a terminal run has one terminal event, its last, and an end of each step."""
    ends = [e for e in run.events if e.type is RunEventType.RUN_STATUS and RunStatus(e.to_status or 0).is_terminal]
    if len(ends) != 1 or ends[0] is not run.events[-1] or ends[0].to_status != run.status:
        yield f"is {run.status.name}, terminal events {ends}"
    results = [tables.results.get((run.key, StepNo(n))) for n in range(len(model.steps))]
    if None in results:
        yield "is terminal, and steps are not"
    if run.status is RunStatus.COMPLETED and any(r is not None and r.status not in _SUCCESSES for r in results):
        yield "is completed, and steps are not"
    if run.status is RunStatus.FAILED and run.error is None:
        yield "failed without an error"


def _order(tables: MemoryTables, run: RunRecord, model: WorkflowModel) -> Iterator[str]:
    """I3: nothing becomes ready before everything it needs has succeeded."""
    names = list(model.steps)
    done: set[str] = set()
    for event in run.events:
        if event.step is None or event.type is not RunEventType.STEP_STATUS:
            continue
        name = names[event.step]
        if event.to_status in (StepStatus.READY, StepStatus.RUNNING) and not model.steps[name].needs <= done:
            yield f"step {name} moved on before {sorted(model.steps[name].needs - done)}"
        if event.to_status in _SUCCESSES:
            done.add(name)


def _cache(tables: MemoryTables) -> Iterator[str]:
    """I8: an entry leads to a success that was executed with its input."""
    for (_, _, step_id, input_hash), (fingerprint, place) in tables.filed.items():
        made = tables.results.get(place)
        if made is None or made.status is not StepStatus.COMPLETED:
            yield f"the entry of {step_id} leads to no success"
        elif (made.input_hash, made.cache_version) != (input_hash, fingerprint.cache_version):
            yield f"the entry of {step_id} leads to another input or version"


def _ledger(tables: MemoryTables, skills: SkillServers) -> Iterator[str]:
    """I7: what counts as executed was executed, with that very output; within the plan, and after its lease."""
    for place, body in tables.outputs.items():
        run, step_id = tables.runs[place[0]], tables.runs[place[0]].new.plan[place[1]].step_id
        key = f"{run.new.id}/{step_id}/{tables.results[place].input_hash}"
        if body not in skills.outputs.get(key, ()):
            yield f"nobody ever executed {key} with that output"
    plans = {run.new.id: {step.step_id: step for step in run.new.plan} for run in tables.runs.values()}
    for call in skills.ledger:
        if plans[call.run_id][call.step_id].binding is not None:
            yield f"{call.idempotency_key} was executed though its plan reuses it"

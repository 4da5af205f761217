"""From what is known of a step to sentences a person reads: why it ran, was reused, waits or failed. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runengine_server.domain.failure import RUN_DEADLINE_EXCEEDED, UPSTREAM_FAILED
from runengine_server.domain.ids import RunId, StepId
from runengine_server.domain.run import Run, Step
from runengine_server.domain.states import (
    CacheMode,
    CacheOutcome,
    OutputSource,
    PlanReason,
    StepStatus,
    TriggerType,
)
from runengine_server.planner.input_changes import InputChange, InputChanges
from runengine_server.planner.wording import (
    cache_sentence,
    change_phrase,
    failure_phrase,
    moment,
    named,
    one_line,
    span,
)

CHANGES_SHOWN_MAX = 8

_OF_A_FILE = re.compile(r"/(?:contentHash|sizeBytes|uri)$")
_HASH = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A step it directly waits for; `is_changed` compares its output with the base run's, None where one has none."""

    step_id: StepId
    status: StepStatus
    source: OutputSource | None = None
    is_changed: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseStep:
    """The same step in the run's base; `changes` is None when the inputs can no longer be derived."""

    run_id: RunId
    workflow_version: str
    has_output: bool
    input_hash: str
    cache_version: str
    changes: InputChanges | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """What is known of a step.

    `mode`: the step's own cache mode. `nearest`: how its input differs from that of the run its cache decision names.
    `is_held`: its attempt still waits for a free slot of its skill.
    """

    step: Step
    run: Run
    mode: CacheMode
    reason: PlanReason
    cache_version: str = ""
    dependencies: Sequence[Dependency] = ()
    base: BaseStep | None = None
    nearest: InputChanges | None = None
    is_held: bool = False


def explain(facts: StepFacts) -> tuple[str, ...]:
    """Return the sentences, the most important first; one or more."""
    match facts.step.status:
        case StepStatus.PENDING:
            told = _pending(facts)
        case StepStatus.READY:
            told = _ready(facts)
        case StepStatus.RUNNING:
            told = _running(facts)
        case StepStatus.COMPLETED:
            told = _completed(facts)
        case StepStatus.SKIPPED:
            told = _skipped(facts)
        case StepStatus.FAILED:
            told = _failed(facts)
        case StepStatus.CANCELLED:
            told = _cancelled(facts)
    return (*told, *_troubles(facts.step))


def _pending(facts: StepFacts) -> Iterator[str]:
    awaited = [f"{d.step_id} ({d.status.name.lower()})" for d in facts.dependencies if not _is_done(d)]
    yield f"{facts.step.step_id} waits for {named(awaited) or 'its dependencies'}."
    yield from _plan(facts)


def _ready(facts: StepFacts) -> Iterator[str]:
    step = facts.step
    if step.next_attempt_at is not None:
        attempt = f"attempt {step.attempt + 1} of {step.max_attempts}"
        yield f"{step.step_id} waits until {moment(step.next_attempt_at)} for {attempt}."
    elif step.cache is not None and step.cache.outcome is CacheOutcome.JOINED:
        leader = f" of run {step.cache.source_run_id}" if step.cache.source_run_id else ""
        yield f"{step.step_id} waits for the identical step{leader}, which is under way, and will use its output."
    else:
        since = f" since {moment(step.ready_at)}" if step.ready_at else ""
        yield f"{step.step_id} has been ready{since} and waits in the queue for an engine with a free slot."
    yield from _plan(facts)


def _running(facts: StepFacts) -> Iterator[str]:
    step = facts.step
    since = f" since {moment(step.started_at)}" if step.started_at else ""
    doing = f"waits for a free slot of its skill {step.skill_id}" if facts.is_held else "is running"
    yield f"{step.step_id} {doing}{since}: attempt {step.attempt} of {step.max_attempts}."
    if step.progress is not None:
        said = f": {one_line(step.progress.message)}" if step.progress.message else ""
        yield f"Its skill reports {step.progress.fraction:.0%}{said}."
    yield from _why_executed(facts, "It is executed")


def _completed(facts: StepFacts) -> Iterator[str]:
    step = facts.step
    yield from _why_executed(facts, f"{step.step_id} was executed")
    took = "" if step.duration_ms is None else f" in {span(step.duration_ms / 1000)}"
    yield f"It succeeded{took} at attempt {step.attempt} of {step.max_attempts}."


def _skipped(facts: StepFacts) -> Iterator[str]:
    step, decision = facts.step, facts.step.cache
    producer = f"run {step.source_run_id}" if step.source_run_id else "a run that is no longer retained"
    match step.output_source:
        case OutputSource.BASE_RUN:
            yield from _reused_base(facts, producer)
        case OutputSource.CACHE_HOT | OutputSource.CACHE_COLD:
            tier = "hot" if step.output_source is OutputSource.CACHE_HOT else "cold"
            age = f"{span(decision.age_s)} " if decision is not None and decision.age_s is not None else ""
            found = f"the {tier} cache has the output of this very input, which {producer} produced {age}earlier"
            yield f"{step.step_id} was not executed: {found}."
            yield from _plan(facts)
        case _:
            yield f"{step.step_id} joined the identical step of {producer}, which was under way, and uses its output."
            yield from _plan(facts)


def _reused_base(facts: StepFacts, producer: str) -> Iterator[str]:
    step, base = facts.step, facts.base
    executed = f", executed by {producer}" if base is None or step.source_run_id != base.run_id else ""
    reused = f"{step.step_id} was reused from {_base_name(facts)}{executed}"
    if facts.reason is PlanReason.UNAFFECTED:
        is_retry = facts.run.trigger_type is TriggerType.RETRY
        yield f"{reused}: {'it had finished there' if is_retry else f'{_change(facts)} does not reach it'}."
        return
    yield f"{reused}: its input is the same as there."
    same = [d.step_id for d in facts.dependencies if d.source is OutputSource.EXECUTED and d.is_changed is False]
    if same:
        yield f"{named(same)} executed again and gave the same output as before (early cutoff)."
    yield from _plan(facts)


def _failed(facts: StepFacts) -> Iterator[str]:
    step, error = facts.step, facts.step.error
    what = failure_phrase(error)
    if step.attempt == 0:
        yield f"{step.step_id} failed before its skill was called{what}."
        return
    yield f"{step.step_id} failed at attempt {step.attempt} of {step.max_attempts}{what}."
    if error is not None and step.attempt < step.max_attempts:
        why = "its retry policy excludes it, or its run was failing" if error.retryable else "trying again cannot help"
        yield f"It was not tried again: {why}."
    yield from _why_executed(facts, "It was executed")


def _cancelled(facts: StepFacts) -> Iterator[str]:
    step, run = facts.step, facts.run
    if run.error is not None and run.error.code == RUN_DEADLINE_EXCEEDED:
        why = "because the deadline of the run passed"
    elif step.error is not None and step.error.code == UPSTREAM_FAILED:
        why = f"because {run.failed_step or 'another step'} of the run failed"
    else:
        why = f"with its run: {one_line(run.cancel_reason)}" if run.cancel_reason else "with its run"
    yield f"{step.step_id} was cancelled {why}."
    if step.attempt:
        yield f"It had begun attempt {step.attempt} of {step.max_attempts}."


def _why_executed(facts: StepFacts, subject: str) -> Iterator[str]:
    """Each cause of the execution, then what the cache had to do with it."""
    first, *further = [*_causes(facts)] or ["nothing could be reused"]
    yield f"{subject} because {first}."
    for cause in further:
        yield f"Also, {cause}."
    decision, base = facts.step.cache, facts.base
    sentence = cache_sentence(decision, facts.mode)
    if sentence:
        yield sentence
    nearest = None if decision is None else decision.nearest_run_id
    if nearest is not None and (base is None or nearest != base.run_id):
        differences = [*_changes(facts.nearest, verb="differs", is_update=False)]
        yield f"The nearest earlier success is that of run {nearest}" + (":" if differences else ".")
        yield from (f"{difference}." for difference in differences)


def _causes(facts: StepFacts) -> Iterator[str]:
    """Why it was executed, as phrases; what a request or definition says outright comes before what follows from it."""
    base, version = facts.base, facts.run.workflow_version
    match facts.reason:
        case PlanReason.FORCED:
            yield "the request forces it"
        case PlanReason.NO_BASE_OUTPUT:
            yield f"{_base_name(facts)} has no output of it"
        case PlanReason.DEFINITION_CHANGED:
            other = "that" if base is None else base.workflow_version
            yield f"version {version} defines it differently from version {other} of {_base_name(facts)}"
        case _:
            pass
    if base is not None:
        yield from _changes(base.changes, verb="changed", is_update=facts.run.trigger_type is TriggerType.UPDATE)
        is_same_input = base.input_hash == facts.step.input_hash != ""
        if is_same_input and facts.cache_version and base.cache_version != facts.cache_version:
            yield f"the cache version of its skill changed: {base.cache_version} -> {facts.cache_version}"
    is_told = base is not None and base.changes is not None and bool(base.changes.changes)
    reach = _reach(facts)
    if reach and not (is_told and facts.reason is PlanReason.DOWNSTREAM):
        yield reach
    if facts.mode in (CacheMode.REFRESH, CacheMode.BYPASS) and facts.reason is not PlanReason.FORCED:
        yield f"the cache mode {facts.mode.name.lower()} reuses nothing"
    if facts.reason is PlanReason.INITIAL:
        yield "the run is an initial one, with no base run to build on"


def _changes(changes: InputChanges | None, *, verb: str, is_update: bool) -> Iterator[str]:
    if changes is None:
        return
    for change in sorted(changes.changes, key=_says_little)[:CHANGES_SHOWN_MAX]:
        yield f"its input {verb} at {change_phrase(change, is_update=is_update)}"
    left = len(changes.changes) - CHANGES_SHOWN_MAX
    if left > 0:
        yield f"its input {verb} in {left} further places{' at least' if changes.is_cut else ''}"


def _says_little(change: InputChange) -> bool:
    """True of a hash, or where else another file only shows that it is another one: no cause a person can read."""
    is_hash = any(value is not None and _HASH.search(value) for value in (change.before, change.after))
    return is_hash or _OF_A_FILE.search(change.pointer) is not None


def _plan(facts: StepFacts) -> Iterator[str]:
    """How the change reaches a step that was not executed, where it does."""
    reach = _reach(facts)
    if reach:
        yield f"It was looked at because {reach}."


def _reach(facts: StepFacts) -> str:
    match facts.reason:
        case PlanReason.SEED:
            return f"{_change(facts)} names it"
        case PlanReason.WIDENED:
            return f"{_change(facts)} reaches it although it is not declared to (the impact was widened)"
        case PlanReason.DOWNSTREAM:
            changed = [d.step_id for d in facts.dependencies if d.is_changed]
            if changed:
                return f"it depends on {named(changed)}, whose output changed"
            affected = [d.step_id for d in facts.dependencies if d.source is not OutputSource.BASE_RUN]
            return f"it depends on {named(affected)}, which {_change(facts)} reaches" if affected else ""
        case _:
            return ""


def _troubles(step: Step) -> Iterator[str]:
    for tried in step.attempts:
        lasted = "" if tried.ended_at is None else f" after {span((tried.ended_at - tried.started_at).total_seconds())}"
        yield f"Attempt {tried.attempt} failed{lasted}{failure_phrase(tried.error)}."
    if step.lease_losses:
        times = "once" if step.lease_losses == 1 else f"{step.lease_losses} times"
        yield f"The engine that ran it was lost {times}; that does not count as an attempt."


def _change(facts: StepFacts) -> str:
    change = facts.run.change_request
    return "the change" if change is None else f"the change request {change.type}"


def _base_name(facts: StepFacts) -> str:
    kind = "the retried run" if facts.run.trigger_type is TriggerType.RETRY else "base run"
    return f"{kind} {facts.run.base_run_id}" if facts.run.base_run_id else "the base run"


def _is_done(dependency: Dependency) -> bool:
    return dependency.status in (StepStatus.COMPLETED, StepStatus.SKIPPED)

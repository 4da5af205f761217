"""From leases to decisions: resolve inputs, compare with the base, ask the cache; all of it in batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runengine_server.domain.cache import (
    CacheAnswer,
    CacheDecision,
    CacheFlight,
    CacheHit,
    CacheKey,
    CacheMiss,
    CacheQuery,
    Fingerprint,
    FlightId,
)
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import Place, RunKey, StepId, StepNo
from runengine_server.domain.states import CacheMode, CacheOutcome, MissReason, OutputSource, PlanAction
from runengine_server.domain.value import value
from runengine_server.domain.workflow import StepDefinition
from runengine_server.planner.binding import hit_decision, hit_source
from runengine_server.planner.decision import (
    Decision,
    ExecuteNow,
    KnownResult,
    LookUp,
    ReuseBase,
    decide,
    step_cache_mode,
)
from runengine_server.planner.step_input import RunScope, StepInput, StepValue, resolve_input, stored_value
from runengine_server.ports.clock import Clock
from runengine_server.ports.output_cache import OutputCache
from runengine_server.ports.skill_runner import SkillRunner
from runengine_server.ports.step_queue import CacheQuestion, Lease
from runengine_server.ports.tracer import UNTRACED, Tracer
from runengine_server.scheduler.cache_knowledge import CacheKnowledge
from runengine_server.scheduler.run_contexts import RunContext, RunContexts
from runengine_server.scheduler.values import StepValues


@value()
class Execute:
    """The step calls its skill; `generation` is of the cache's miss (see CacheEntry), `flight` the one it leads."""

    lease: Lease
    context: RunContext
    input: StepInput
    decision: CacheDecision
    mode: CacheMode
    generation: int | None = None
    flight: FlightId | None = None


@dataclass(frozen=True, slots=True)
class Reuse:
    """The step uses an existing output; `value` is at hand when it came from the cache."""

    lease: Lease
    context: RunContext
    input: StepInput
    source: OutputSource
    producer: Place
    cache_version: str
    output_hash: str
    decision: CacheDecision | None
    value: StepValue | None
    size_bytes: int
    flight: FlightId | None = None


@dataclass(frozen=True, slots=True)
class Follow:
    """Another step executes the very same: this one gives its lease up and waits for the end of the flight."""

    lease: Lease
    context: RunContext
    flight: FlightId


@dataclass(frozen=True, slots=True)
class CannotResolve:
    """The step has no input."""

    lease: Lease
    context: RunContext
    failure: Failure


Prepared = Execute | Reuse | Follow | CannotResolve


@value()
class Foreseen:
    """A step that will ask the cache once it is leased: input and question are known before."""

    context: RunContext
    input: StepInput
    mode: CacheMode
    question: CacheQuestion
    generation: int | None


class Preparation:
    """Prepares leased steps in batches."""

    def __init__(
        self,
        contexts: RunContexts,
        values: StepValues,
        cache: OutputCache,
        skills: SkillRunner,
        clock: Clock,
        tracer: Tracer = UNTRACED,
    ) -> None:
        """Use what the process shares."""
        self._contexts = contexts
        self._values = values
        self._cache = cache
        self._skills = skills
        self._clock = clock
        self._tracer = tracer
        self._knowledge = CacheKnowledge(clock)

    async def prepare(self, leases: Sequence[Lease]) -> list[Prepared]:
        """Decide what to do with each lease; leases of runs that no longer exist are left out.

        Raises:
            UnavailableError: the database cannot be reached; nothing has happened.
        """
        contexts = await self._contexts.get([lease.run for lease in leases])
        known = [(lease, contexts[lease.run]) for lease in leases if lease.run in contexts]
        values = await self._values.get(place for lease, context in known for place in _reads(lease, context))
        prepared: list[Prepared] = []
        lookups: list[tuple[Lease, RunContext, StepInput, CacheMode, CacheQuery]] = []
        for lease, context in known:
            resolved = resolve_input(context.compiled, lease.step, _scope(lease.run, context, values))
            if isinstance(resolved, Failure):
                prepared.append(CannotResolve(lease, context, resolved))
                continue
            self._decide(lease, context, resolved, prepared, lookups)
        if lookups:
            asked_at = self._clock.monotonic()
            answers = await self._cache.lookup([query for *_, query in lookups])
            took_s = self._clock.monotonic() - asked_at
            for (lease, context, *_), answer in zip(lookups, answers, strict=True):
                self._trace_answer(lease, context, answer, took_s)
            prepared += [self._after_lookup(*lookup, answer) for lookup, answer in zip(lookups, answers, strict=True)]
        return prepared

    def foresee(self, place: Place, context: RunContext, values: Mapping[Place, StepValue]) -> Foreseen | None:
        """What a step that is not leased yet will ask the cache, given all that it reads; None if it will not ask."""
        run, step = place
        resolved = resolve_input(context.compiled, step, _scope(run, context, values))
        if isinstance(resolved, Failure):
            return None
        decision, mode, version = self._decision_for(step, context, resolved)
        if not isinstance(decision, LookUp) or version is None or mode is not CacheMode.DEFAULT:
            return None
        query = _query(step, context, resolved, version, mode)
        generation = self._knowledge.generation(query.key)
        question = CacheQuestion(
            query, query.flight, is_step_known=self._knowledge.has_step(query.key), wants_generation=generation is None
        )
        return Foreseen(context, resolved, mode, question, generation)

    def after_miss(self, lease: Lease, foreseen: Foreseen, miss: CacheMiss) -> Execute:
        """The step, leased and asked about in one turn: there is nothing in the cache, and it leads its flight."""
        query = foreseen.question.query
        self._trace_answer(lease, foreseen.context, miss, 0.0)  # it took no time of its own
        self._knowledge.note(query.key, miss)
        return Execute(
            lease, foreseen.context, foreseen.input, _decision(CacheOutcome.MISS, miss.reason), foreseen.mode,
            miss.generation if foreseen.generation is None else foreseen.generation,
            foreseen.question.flight,
        )  # fmt: skip

    def _trace_answer(self, lease: Lease, context: RunContext, answer: CacheAnswer, seconds: float) -> None:
        if context.facts.trace is not None:
            step = context.compiled.workflow.steps[lease.step]
            self._tracer.cache_answered(context.facts, step, lease, answer, seconds)

    def _decision_for(
        self, step: StepNo, context: RunContext, resolved: StepInput
    ) -> tuple[Decision, CacheMode, str | None]:
        definition = context.compiled.workflow.steps[step]
        action, reason = context.facts.plan[step]
        mode = step_cache_mode(context.facts.cache_mode, reason)
        version = self._skills.availability(definition.skill_id).cache_version
        # What was planned to be executed is, also when the skill has gone back to the version the base was made with.
        base = context.base.get(step) if action is PlanAction.UNKNOWN else None
        known = KnownResult(input_hash=base.input_hash, cache_version=base.cache_version) if base else None
        return decide(mode, definition.cache_policy, known, resolved.hash, version), mode, version

    def _decide(
        self,
        lease: Lease,
        context: RunContext,
        resolved: StepInput,
        prepared: list[Prepared],
        lookups: list[tuple[Lease, RunContext, StepInput, CacheMode, CacheQuery]],
    ) -> None:
        decision, mode, version = self._decision_for(lease.step, context, resolved)
        match decision:
            case ReuseBase():
                base = context.base.get(lease.step)
                assert base is not None, "only a base can be reused"
                prepared.append(
                    Reuse(
                        lease, context, resolved, OutputSource.BASE_RUN, (base.producer_run, base.producer_step),
                        base.cache_version, base.output_hash, None, None, 0,
                    )
                )  # fmt: skip
            case LookUp():
                assert version is not None, "an unknown version is never looked up"
                lookups.append((lease, context, resolved, mode, _query(lease.step, context, resolved, version, mode)))
            case ExecuteNow(outcome, miss_reason):
                prepared.append(Execute(lease, context, resolved, _decision(outcome, miss_reason), mode))

    def _after_lookup(
        self,
        lease: Lease,
        context: RunContext,
        resolved: StepInput,
        mode: CacheMode,
        query: CacheQuery,
        answer: CacheAnswer,
    ) -> Prepared:
        if isinstance(answer, CacheFlight):
            return Follow(lease, context, answer.flight)
        flight = query.flight if query.claimant else None
        if not isinstance(answer, CacheHit):
            self._knowledge.note(query.key, answer)
            outcome = CacheOutcome.MISS if answer.reason is not None else CacheOutcome.LOOKUP_FAILED
            return Execute(lease, context, resolved, _decision(outcome, answer.reason), mode, answer.generation, flight)
        entry = answer.entry
        age_s = max(0.0, (self._clock.now() - entry.created_at).total_seconds())
        value = stored_value(entry.output, entry.artifacts)
        source, decision = hit_source(answer), hit_decision(answer, age_s)
        if lease.is_follower:
            source, decision = OutputSource.JOINED, replace(decision, outcome=CacheOutcome.JOINED)
        return Reuse(
            lease, context, resolved, source, (entry.producer.run, entry.producer.step),
            entry.fingerprint.cache_version, entry.output_hash, decision, value, len(entry.output), flight,
        )  # fmt: skip


def cache_key(context: RunContext, definition: StepDefinition, input_hash: str) -> CacheKey:
    """What the step's output is filed under."""
    return CacheKey(
        tenant=context.facts.tenant,
        workflow_name=context.facts.workflow_name,
        step_id=definition.step_id,
        input_hash=input_hash,
    )


_PLAIN: dict[tuple[CacheOutcome, MissReason | None], CacheDecision] = {}


def _decision(outcome: CacheOutcome, miss_reason: MissReason | None) -> CacheDecision:
    """One shared value per kind; the key is derivable and not repeated."""
    decision = _PLAIN.get((outcome, miss_reason))
    if decision is None:
        decision = _PLAIN[outcome, miss_reason] = CacheDecision(outcome=outcome, miss_reason=miss_reason)
    return decision


def _query(step: StepNo, context: RunContext, resolved: StepInput, version: str, mode: CacheMode) -> CacheQuery:
    facts, definition = context.facts, context.compiled.workflow.steps[step]
    is_to_execute = facts.plan[step][0] is PlanAction.EXECUTE
    return CacheQuery(
        key=cache_key(context, definition, resolved.hash),
        fingerprint=Fingerprint(
            skill_id=definition.skill_id,
            cache_version=version,
            cache_epoch=context.compiled.workflow.cache_epoch,
        ),
        hot_ttl_s=definition.cache_policy.hot_ttl_s,
        verify_artifacts=definition.verify_artifacts,
        claimant=(facts.run, step) if mode is CacheMode.DEFAULT else None,
        # Should the skill go back to an earlier version, what its entries were then is still turned down.
        filed_after=facts.cache_after if is_to_execute else None,
        is_promoted=mode.writes,
    )


def _reads(lease: Lease, context: RunContext) -> list[Place]:
    return [(lease.run, read) for read in context.compiled.reads[lease.step]]


def _scope(run: RunKey, context: RunContext, values: Mapping[Place, StepValue]) -> RunScope:
    step_no: Mapping[StepId, StepNo] = context.compiled.step_no
    return RunScope(
        trigger=context.facts.payload,
        change=context.change,
        run=context.run,
        value_of=lambda step_id: values[run, step_no[StepId(step_id)]],
    )

"""The plan of a run: EXECUTE, REUSE or UNKNOWN for every step, level by level, without I/O.

`plan_run` is a generator: it yields what it must know (outputs, cache answers) and is sent the answers, so the same
code plans a dry run, a real one and a test.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from runengine_server.domain.base_run import BaseResult, BaseRun
from runengine_server.domain.cache import (
    CacheAnswer,
    CacheDecision,
    CacheEntry,
    CacheHit,
    CacheKey,
    CacheQuery,
    Fingerprint,
)
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, RunKey, SkillId, StepId, StepNo, Tenant
from runengine_server.domain.json_pointer import changed_pointers
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import PlannedStep, RebuildPlan, ReuseBinding
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import (
    CacheMode,
    CacheOutcome,
    CacheTier,
    OutputSource,
    PlanAction,
    PlanReason,
)
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.decision import (
    ExecuteNow,
    KnownResult,
    LookUp,
    ReuseBase,
    decide,
    is_execution_certain,
    step_cache_mode,
)
from runengine_server.planner.plan_digest import plan_digest
from runengine_server.planner.step_input import RunScope, StepInput, StepValue, change_value, resolve_input

CAUSES_MAX = 16
CHANGES_MAX = 64
Place = tuple[RunKey, StepNo]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What to plan: a workflow, the effective payload, and for a rebuild its base and seeds.

    `cache_version` says what a skill's runner declares now, None while it is not known.
    """

    compiled: CompiledWorkflow
    tenant: Tenant
    run_id: RunId
    payload: JsonObject
    mode: CacheMode
    cache_version: Callable[[SkillId], str | None]
    change: ChangeRequest | None = None
    base: BaseRun | None = None
    seeds: tuple[StepNo, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the plan needs next: outputs of producers and answers of the cache."""

    outputs: Sequence[Place] = ()
    lookups: Sequence[CacheQuery] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answers, by place and by key."""

    outputs: Mapping[Place, StepValue] = field(default_factory=dict)
    cache: Mapping[CacheKey, CacheAnswer] = field(default_factory=dict)


Planning = Generator[Question, Answer, RebuildPlan]


def plan_run(request: PlanRequest) -> Planning:
    """Plan a run; see the module."""
    return _Planner(request).plan()


class _Planner:
    def __init__(self, request: PlanRequest) -> None:
        self._request = request
        self._compiled = request.compiled
        self._steps = request.compiled.workflow.steps
        self._base = request.base
        self._planned: dict[StepNo, PlannedStep] = {}
        self._values: dict[Place, StepValue] = {}
        self._affected: dict[StepNo, PlanReason] = self._declared_impact()
        self._changed_payload = _changes(request.base.payload, request.payload) if request.base is not None else []

    def plan(self) -> Planning:
        for level in self._steps_by_level():
            yield from self._plan_level(level)
        steps = tuple(self._planned[StepNo(number)] for number in range(len(self._steps)))
        request = self._request
        return RebuildPlan(
            steps=steps,
            digest=plan_digest(
                base_run_id=request.base.run_id if request.base else None,
                workflow_digest=self._compiled.workflow.digest,
                payload=request.payload,
                mode=request.mode,
                steps=steps,
            ),
            seed_step_ids=tuple(self._steps[seed].step_id for seed in request.seeds),
            base_run_id=request.base.run_id if request.base else None,
            estimate_s=self._critical_path_s(),
        )

    def _declared_impact(self) -> dict[StepNo, PlanReason]:
        if self._base is None:
            return {StepNo(number): PlanReason.INITIAL for number in range(len(self._steps))}
        affected = dict.fromkeys(self._compiled.closure(self._request.seeds), PlanReason.DOWNSTREAM)
        affected.update(dict.fromkeys(self._request.seeds, PlanReason.SEED))
        missing = [StepNo(number) for number in range(len(self._steps)) if StepNo(number) not in self._base.results]
        for step in missing:
            affected.setdefault(step, PlanReason.NO_BASE_OUTPUT)
        for step in self._compiled.closure(missing):  # what nobody has may turn out otherwise than what they read
            affected.setdefault(step, PlanReason.DOWNSTREAM)
        return affected

    def _steps_by_level(self) -> list[list[StepNo]]:
        levels: list[list[StepNo]] = [[] for _ in range(max(self._compiled.levels, default=-1) + 1)]
        for number, level in enumerate(self._compiled.levels):
            levels[level].append(StepNo(number))
        return levels

    def _plan_level(self, level: Sequence[StepNo]) -> Generator[Question, Answer, None]:
        suspects = [step for step in level if step not in self._affected and self._reads_what_changed(step)]
        candidates = [step for step in level if step in self._affected and self._settle_without_input(step) is None]
        resolvable = [step for step in candidates if all(self._producer(read) for read in self._reads(step))]
        yield from self._fetch_values([*suspects, *resolvable])
        for step in suspects:
            if self._widen(step):
                resolvable.append(step)
        yield from self._settle_with_input(resolvable)
        for step in level:
            if step in self._planned:
                continue
            if step in self._affected:
                self._planned[step] = self._unknown(step)
            else:
                self._planned[step] = self._reuse_base(step, PlanReason.UNAFFECTED)

    def _settle_without_input(self, step: StepNo) -> PlannedStep | None:
        """EXECUTE where nothing may be read, or where nothing could be reused whatever the input."""
        policy = self._steps[step].cache_policy
        has_base = self._base is not None and step in self._base.results
        if is_execution_certain(self._mode(step)) or (not policy.is_shared and not has_base):
            self._planned[step] = self._execute(step)
            return self._planned[step]
        return None

    def _settle_with_input(self, steps: Sequence[StepNo]) -> Generator[Question, Answer, None]:
        lookups: dict[StepNo, tuple[CacheQuery, StepInput]] = {}
        for step in steps:
            resolved = self._resolve(step, self._request.run_id)
            if isinstance(resolved, Failure):
                self._planned[step] = self._execute(step)
                continue
            definition = self._steps[step]
            version = self._request.cache_version(definition.skill_id)
            if version is None:
                continue  # nothing can be said before the skill's runner has been heard
            base = self._base_result(step)
            known = KnownResult(input_hash=base.input_hash, cache_version=base.cache_version) if base else None
            match decide(self._mode(step), definition.cache_policy, known, resolved.hash, version):
                case ReuseBase():
                    self._planned[step] = self._reuse_base(step, PlanReason.INPUT_UNCHANGED)
                case LookUp():
                    lookups[step] = (self._query(step, resolved.hash, version), resolved)
                case ExecuteNow():
                    self._planned[step] = self._execute(step)
        if not lookups:
            return
        answer = yield Question(lookups=[query for query, _ in lookups.values()])
        for step, (query, resolved) in lookups.items():
            found = answer.cache[query.key]
            if isinstance(found, CacheHit):
                self._planned[step] = self._reuse_cached(step, found, resolved)
            else:
                self._planned[step] = self._execute(step)

    def _fetch_values(self, steps: Sequence[StepNo]) -> Generator[Question, Answer, None]:
        wanted = {
            place
            for step in steps
            for read in self._reads(step)
            if (place := self._producer(read)) is not None and place not in self._values
        }
        if wanted:
            answer = yield Question(outputs=sorted(wanted))
            self._values.update(answer.outputs)

    def _widen(self, step: StepNo) -> bool:
        """Add a step outside the declared impact to it when its input changed all the same."""
        base = self._base_result(step)
        assert base is not None, "a step without a base result is always affected"
        resolved = self._resolve(step, base.producer_run_id)  # reads of `run` do not count as a change
        if not isinstance(resolved, Failure) and resolved.hash == base.input_hash:
            return False
        for downstream in self._compiled.closure([step]):
            self._affected.setdefault(downstream, PlanReason.DOWNSTREAM)
        self._affected[step] = PlanReason.WIDENED
        return True

    def _reads_what_changed(self, step: StepNo) -> bool:
        reads = self._compiled.selectors[step].reads
        if reads.is_change_read:
            return True
        return any(_overlaps(read, changed) for read in reads.trigger for changed in self._changed_payload)

    def _mode(self, step: StepNo) -> CacheMode:
        return step_cache_mode(self._request.mode, self._affected[step])

    def _base_result(self, step: StepNo) -> BaseResult | None:
        return self._base.results.get(step) if self._base is not None else None

    def _reads(self, step: StepNo) -> tuple[StepNo, ...]:
        return self._compiled.reads[step]

    def _producer(self, step: StepNo) -> Place | None:
        binding = self._planned[step].binding
        return (binding.producer_run, binding.producer_step) if binding else None

    def _resolve(self, step: StepNo, run_id: RunId) -> StepInput | Failure:
        scope = RunScope(
            trigger=self._request.payload,
            change=change_value(self._request.change),
            run={"id": run_id, "workflowName": self._compiled.workflow.name},
            value_of=self._value_of,
        )
        return resolve_input(self._compiled, step, scope)

    def _value_of(self, step_id: str) -> StepValue:
        place = self._producer(self._compiled.step_no[StepId(step_id)])
        assert place is not None, "only resolvable steps are resolved"
        return self._values[place]

    def _query(self, step: StepNo, input_hash: str, version: str) -> CacheQuery:
        workflow, definition = self._compiled.workflow, self._steps[step]
        return CacheQuery(
            key=CacheKey(
                tenant=self._request.tenant,
                workflow_name=workflow.name,
                step_id=definition.step_id,
                input_hash=input_hash,
            ),
            fingerprint=Fingerprint(
                skill_id=definition.skill_id, cache_version=version, cache_epoch=workflow.cache_epoch
            ),
            hot_ttl_s=definition.cache_policy.hot_ttl_s,
        )

    def _not_reused(self, steps: Sequence[StepNo]) -> tuple[StepId, ...]:
        return tuple(self._steps[step].step_id for step in steps if self._planned[step].action is not PlanAction.REUSE)[
            :CAUSES_MAX
        ]

    def _execute(self, step: StepNo) -> PlannedStep:
        return self._not_reusable(step, PlanAction.EXECUTE)

    def _unknown(self, step: StepNo) -> PlannedStep:
        return self._not_reusable(step, PlanAction.UNKNOWN)

    def _not_reusable(self, step: StepNo, action: PlanAction) -> PlannedStep:
        base = self._base_result(step)
        waits_for = self._not_reused(self._compiled.dependencies[step])
        return PlannedStep(
            step_id=self._steps[step].step_id,
            action=action,
            reason=self._affected[step],
            caused_by=waits_for,
            unknown_until=waits_for if action is PlanAction.UNKNOWN else (),
            estimate_s=base.duration_s if base else None,
        )

    def _reuse_base(self, step: StepNo, reason: PlanReason) -> PlannedStep:
        base = self._base_result(step)
        assert base is not None, "a step without a base result is always affected"
        return PlannedStep(
            step_id=self._steps[step].step_id,
            action=PlanAction.REUSE,
            reason=reason,
            estimate_s=0.0,
            binding=ReuseBinding(
                producer_run=base.producer_run,
                producer_step=base.producer_step,
                producer_run_id=base.producer_run_id,
                source=OutputSource.BASE_RUN,
                input_hash=base.input_hash,
                cache_version=base.cache_version,
                output_hash=base.output_hash,
            ),
        )

    def _reuse_cached(self, step: StepNo, hit: CacheHit, resolved: StepInput) -> PlannedStep:
        entry = hit.entry
        return PlannedStep(
            step_id=self._steps[step].step_id,
            action=PlanAction.REUSE,
            reason=PlanReason.CACHED,
            estimate_s=0.0,
            binding=ReuseBinding(
                producer_run=entry.producer.run,
                producer_step=entry.producer.step,
                producer_run_id=entry.producer.run_id,
                source=hit_source(hit),
                input_hash=resolved.hash,
                cache_version=entry.fingerprint.cache_version,
                output_hash=entry.output_hash,
                decision=hit_decision(hit),
                cache=(entry.key, hit.tier),
            ),
        )

    def _critical_path_s(self) -> float | None:
        """The longest chain of estimates; None when a step that may execute has none."""
        ends: dict[StepNo, float] = {}
        for step in self._compiled.order:
            estimate = self._planned[step].estimate_s
            if estimate is None:
                return None
            ends[step] = estimate + max((ends[d] for d in self._compiled.dependencies[step]), default=0.0)
        return max(ends.values(), default=0.0)


def hit_source(hit: CacheHit) -> OutputSource:
    """Where an output comes from that the cache had."""
    return OutputSource.CACHE_HOT if hit.tier is CacheTier.HOT else OutputSource.CACHE_COLD


def hit_decision(hit: CacheHit, age_s: float | None = None) -> CacheDecision:
    """The decision to record for a hit."""
    entry: CacheEntry = hit.entry
    return CacheDecision(
        outcome=CacheOutcome.HIT,
        tier=hit.tier,
        key=str(entry.key),
        source_run_id=entry.producer.run_id,
        source_step_id=entry.producer.step_id,
        age_s=age_s,
    )


def _changes(before: JsonObject, after: JsonObject) -> list[str]:
    """Where the payloads differ; the whole payload when that is in more places than are worth listing."""
    changed = changed_pointers(before, after, limit=CHANGES_MAX)
    return changed if len(changed) < CHANGES_MAX else [""]


def _overlaps(read: str, changed: str) -> bool:
    """True when one pointer is the other or lies below it."""
    return read == changed or read.startswith(changed + "/") or changed.startswith(read + "/")

"""The plan of a run: EXECUTE, REUSE or UNKNOWN for every step, level by level, without I/O.

`plan_run` is a generator: it yields what it must know (outputs, cache answers) and is sent the answers, so the same
code plans a dry run, a real one and a test.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from runengine_server.domain.base_run import BaseResult, BaseRun
from runengine_server.domain.cache import CacheAnswer, CacheHit, CacheKey, CacheMiss, CacheQuery, Fingerprint
from runengine_server.domain.canonical_json import parse_json
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import Place, RunId, SkillId, StepId, StepNo, Tenant
from runengine_server.domain.json_pointer import overlap
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import PlannedStep, RebuildPlan
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import CacheMode, PlanAction, PlanReason
from runengine_server.planner.base_inputs import BaseInputs, input_changes, payload_changes, shown_pointers
from runengine_server.planner.binding import base_binding, cache_binding
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
from runengine_server.planner.impact import Impact, extend_impact, initial_impact, retry_impact, update_impact
from runengine_server.planner.plan_digest import plan_digest
from runengine_server.planner.step_input import RunScope, StepInput, StepValue, change_value, resolve_input
from runengine_server.planner.version_match import (
    changed_steps,
    comparable_results,
    continued_results,
    continued_steps,
)

CAUSES_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What to plan: a workflow, the effective payload, and for a rebuild its base and what it affects.

    Attributes:
        cache_version: says what a skill's runner declares now, None while it is not known.
        base: the run to build on, its results by number in its own version.
        base_compiled: the base's version; None when it is `compiled`.
        seeds: the steps the change type names.
        forced: steps that execute whatever could be reused.
        is_retry: whether everything the base finished stays as it is, and nothing else is affected.
    """

    compiled: CompiledWorkflow
    tenant: Tenant
    run_id: RunId
    payload: JsonObject
    mode: CacheMode
    cache_version: Callable[[SkillId], str | None]
    change: ChangeRequest | None = None
    base: BaseRun | None = None
    base_compiled: CompiledWorkflow | None = None
    seeds: tuple[StepNo, ...] = ()
    forced: tuple[StepNo, ...] = ()
    is_retry: bool = False


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
    return (yield from _Planner(request).plan())


class _Planner:
    def __init__(self, request: PlanRequest) -> None:
        self._request = request
        self._compiled = request.compiled
        self._steps = request.compiled.workflow.steps
        self._planned: dict[StepNo, PlannedStep] = {}
        self._values: dict[Place, StepValue] = {}
        self._changes: dict[StepNo, tuple[str, ...]] = {}
        self._outdated: list[datetime] = []
        self._base = base = request.base
        base_compiled = request.base_compiled or request.compiled
        self._base_step = continued_steps(base_compiled, self._compiled) if base else {}
        self._results = continued_results(base_compiled, self._compiled, base.results) if base else {}
        self._comparable = comparable_results(base_compiled, self._compiled, base.results) if base else {}
        self._base_inputs = BaseInputs(base, base_compiled) if base else None
        self._redefined = changed_steps(base_compiled, self._compiled) if base else frozenset()
        self._affected = self._declared_impact()
        self._changed_payload = payload_changes(base.payload, request.payload) if base else []
        # Looked up for each of up to 10,000 steps, several times.
        self._modes = {reason: step_cache_mode(request.mode, reason) for reason in PlanReason}

    def plan(self) -> Planning:
        for level in self._steps_by_level():
            yield from self._plan_level(level)
        request = self._request
        steps = tuple(self._planned[StepNo(number)] for number in range(len(self._steps)))
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
            cache_after=max(self._outdated, default=None),
        )

    def _declared_impact(self) -> Impact:
        request = self._request
        if request.base is None:
            return initial_impact(self._compiled, forced=request.forced)
        missing = [StepNo(number) for number in range(len(self._steps)) if StepNo(number) not in self._results]
        if request.is_retry:
            return retry_impact(request.base.plan, request.mode, missing)
        return update_impact(
            self._compiled,
            seeds=request.seeds,
            forced=request.forced,
            changed=self._redefined,
            missing=missing,
        )

    def _steps_by_level(self) -> list[list[StepNo]]:
        levels: list[list[StepNo]] = [[] for _ in range(max(self._compiled.levels, default=-1) + 1)]
        for number, level in enumerate(self._compiled.levels):
            levels[level].append(StepNo(number))
        return levels

    def _plan_level(self, level: Sequence[StepNo]) -> Generator[Question, Answer, None]:
        affected = [step for step in level if step in self._affected]
        suspects = [step for step in level if step not in self._affected and self._reads_what_changed(step)]
        certain = {step for step in affected if self._is_certain(step)}
        # of a step that executes whatever its input, that is wanted only to say how it differs from the base's
        wanted = [step for step in affected if step not in certain or step in self._results]
        known = [step for step in wanted if self._is_all_read_bound(step)]
        same = {step for step in known if self._reads_what_base_read(step)}
        resolvable = [step for step in known if step not in same]
        yield from self._fetch(self._bound_reads([*suspects, *resolvable]))
        widened = {step: found for step in suspects if (found := self._widen(step)) is not None}
        certain |= {step for step in widened if self._is_certain(step)}
        inputs = {step: self._resolve(step, self._request.run_id) for step in resolvable}
        for step, found in widened.items():
            is_run_read = self._compiled.selectors[step].reads.is_run_read
            inputs[step] = self._resolve(step, self._request.run_id) if is_run_read else found
        yield from self._find_changes({**inputs, **widened})
        hashes = {step: found if isinstance(found, Failure) else found.hash for step, found in inputs.items()}
        hashes.update((step, self._results[step].input_hash) for step in same)
        yield from self._settle({step: found for step, found in hashes.items() if step not in certain})
        for step in level:
            if step in self._planned:
                continue
            if step not in self._affected:
                self._planned[step] = self._reuse_base(step, PlanReason.UNAFFECTED)
            else:
                self._planned[step] = self._open(step, PlanAction.EXECUTE if step in certain else PlanAction.UNKNOWN)

    def _is_certain(self, step: StepNo) -> bool:
        """Whether the step executes whatever its input: nothing may be read, or nothing could be reused."""
        is_shared = self._steps[step].cache_policy.is_shared
        return is_execution_certain(self._mode(step)) or (not is_shared and step not in self._comparable)

    def _settle(self, inputs: Mapping[StepNo, str | Failure]) -> Generator[Question, Answer, None]:
        """Decide about steps whose input's hash is known."""
        lookups: dict[StepNo, CacheQuery] = {}
        for step, input_hash in inputs.items():
            if isinstance(input_hash, Failure):
                self._planned[step] = self._open(step, PlanAction.EXECUTE)
                continue
            definition = self._steps[step]
            version = self._request.cache_version(definition.skill_id)
            if version is None:
                continue  # nothing can be said before the skill's runner has been heard
            base = self._comparable.get(step)
            known = KnownResult(input_hash=base.input_hash, cache_version=base.cache_version) if base else None
            match decide(self._mode(step), definition.cache_policy, known, input_hash, version):
                case ReuseBase():
                    self._planned[step] = self._reuse_base(step, PlanReason.INPUT_UNCHANGED)
                case LookUp():
                    lookups[step] = self._query(step, input_hash, version)
                case ExecuteNow():
                    self._planned[step] = self._open(step, PlanAction.EXECUTE)
        if not lookups:
            return
        answer = yield Question(lookups=list(lookups.values()))
        for step, query in lookups.items():
            found = answer.cache[query.key]
            if isinstance(found, CacheHit):
                self._planned[step] = self._reuse_cached(step, found)
                continue
            self._planned[step] = self._open(step, PlanAction.EXECUTE)
            if isinstance(found, CacheMiss) and found.outdated_at is not None:
                self._outdated.append(found.outdated_at)

    def _fetch(self, places: Collection[Place]) -> Generator[Question, Answer, None]:
        wanted = {place for place in places if place not in self._values}
        if wanted:
            answer = yield Question(outputs=sorted(wanted))
            self._values.update(answer.outputs)

    def _widen(self, step: StepNo) -> StepInput | Failure | None:
        """Add a step outside the declared impact to it when its input, which is returned, changed all the same."""
        base = self._results[step]
        resolved = self._resolve(step, base.producer_run_id)  # reads of `run` do not count as a change
        if not isinstance(resolved, Failure) and resolved.hash == base.input_hash:
            return None
        self._affected[step] = PlanReason.WIDENED
        extend_impact(self._affected, self._compiled, step)
        return resolved

    def _reads_what_base_read(self, step: StepNo) -> bool:
        """Whether the input is the base's, which need not be resolved to be known: all it reads is the same."""
        if step not in self._results or step in self._redefined or self._reads_what_changed(step):
            return False
        if self._compiled.selectors[step].reads.is_run_read:
            return False
        for read in self._reads(step):
            binding, result = self._planned[read].binding, self._results.get(read)
            if binding is None or result is None:
                return False
            if binding.producer_step != result.producer_step or binding.producer_run != result.producer_run:
                return False
        return True

    def _is_all_read_bound(self, step: StepNo) -> bool:
        return all(self._planned[read].binding is not None for read in self._reads(step))

    def _reads_what_changed(self, step: StepNo) -> bool:
        reads = self._compiled.selectors[step].reads
        if reads.is_change_read:
            return True
        for read in reads.trigger:  # loops: `any` costs three times that, and there are 10,000 steps
            for changed in self._changed_payload:
                if overlap(read, changed):
                    return True
        return False

    def _find_changes(self, inputs: Mapping[StepNo, StepInput | Failure]) -> Generator[Question, Answer, None]:
        """Note where inputs differ from the base's, as far as both are known."""
        if self._base_inputs is None:
            return
        places: set[Place] = set()
        differing: dict[StepNo, StepInput] = {}
        for step, now in inputs.items():
            base = self._results.get(step)
            if base is None:
                continue
            if isinstance(now, Failure):
                self._changes[step] = shown_pointers([str((now.details or {}).get("pointer", ""))])
            elif now.hash != base.input_hash:
                differing[step] = now
                places.update(self._base_inputs.places(self._base_step[step]))
        yield from self._fetch(places)
        for step, now in differing.items():
            before = self._base_inputs.input(self._base_step[step], self._values)
            if before is not None:
                self._changes[step] = input_changes(before, parse_json(now.body))
            elif self._affected[step] is PlanReason.WIDENED:
                self._changes[step] = self._changed_reads(step)

    def _changed_reads(self, step: StepNo) -> tuple[str, ...]:
        """Where a step's input reads what changed: what can be said when the base's input is gone."""
        return shown_pointers(
            [
                leaf.pointer
                for leaf in self._compiled.selectors[step].leaves
                if leaf.reads.is_change_read
                or any(overlap(read, changed) for read in leaf.reads.trigger for changed in self._changed_payload)
            ]
        )

    def _mode(self, step: StepNo) -> CacheMode:
        return self._modes[self._affected[step]]

    def _reads(self, step: StepNo) -> tuple[StepNo, ...]:
        return self._compiled.reads[step]

    def _bound_reads(self, steps: Sequence[StepNo]) -> set[Place]:
        return {place for step in steps for read in self._reads(step) if (place := self._producer(read)) is not None}

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
            verify_artifacts=definition.verify_artifacts,
            is_promoted=self._request.mode.writes,
        )

    def _open(self, step: StepNo, action: PlanAction) -> PlannedStep:
        """A step that executes, or may."""
        needs = self._compiled.dependencies[step]
        unsettled = (needed for needed in needs if self._planned[needed].action is not PlanAction.REUSE)
        waits_for = tuple(self._steps[needed].step_id for needed in islice(unsettled, CAUSES_MAX))
        return PlannedStep(
            step_id=self._steps[step].step_id,
            action=action,
            reason=self._affected[step],
            caused_by=waits_for,
            changed_pointers=self._changes.get(step, ()),
            unknown_until=waits_for if action is PlanAction.UNKNOWN else (),
        )

    def _reuse_base(self, step: StepNo, reason: PlanReason) -> PlannedStep:
        base: BaseResult = self._results[step]
        return PlannedStep(
            step_id=self._steps[step].step_id,
            action=PlanAction.REUSE,
            reason=reason,
            binding=base_binding(base),
            skill_id=self._steps[step].skill_id,
        )

    def _reuse_cached(self, step: StepNo, hit: CacheHit) -> PlannedStep:
        is_widened = self._affected[step] is PlanReason.WIDENED  # stays visible: the declared impact was too small
        return PlannedStep(
            step_id=self._steps[step].step_id,
            action=PlanAction.REUSE,
            reason=PlanReason.WIDENED if is_widened else PlanReason.CACHED,
            changed_pointers=self._changes.get(step, ()),
            binding=cache_binding(hit),
            skill_id=self._steps[step].skill_id,
        )

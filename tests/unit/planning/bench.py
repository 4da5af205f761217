"""Runs of deterministic skills without any store: plans are answered from dictionaries and carried out as SPEC says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from runengine_server.domain.base_run import BaseResult, BaseRun
from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheHit, CacheKey, CacheMiss, Fingerprint, Producer
from runengine_server.domain.canonical_json import canonical_bytes, content_hash, parse_json
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import Place, RunId, RunKey, SkillId, StepId, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import PlannedStep, RebuildPlan
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import (
    CacheMode,
    CacheScope,
    CacheTier,
    FailurePolicy,
    MissReason,
    PlanAction,
    RunStatus,
)
from runengine_server.domain.workflow import CachePolicy, StepDefinition, Workflow
from runengine_server.planner.compiled import CompiledWorkflow, compile_workflow
from runengine_server.planner.decision import ExecuteNow, KnownResult, LookUp, ReuseBase, decide, step_cache_mode
from runengine_server.planner.planning import Answer, PlanRequest, Question, plan_run
from runengine_server.planner.step_input import RunScope, StepInput, StepValue, change_value, resolve_input
from runengine_server.planner.version_match import comparable_results

TENANT = Tenant("acme")
CACHED = CachePolicy()
Skill = Callable[[str, JsonObject], JsonObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A carried-out run: what each step was given and produced, which were executed, and the run as a base."""

    base: BaseRun
    plan: RebuildPlan
    inputs: Mapping[str, JsonObject]
    outputs: Mapping[str, JsonObject]
    executed: frozenset[str]


@dataclass(slots=True, kw_only=True)
class Bench:
    """One tenant's runs of one workflow; `versions` are the skills' cache versions (None: not known)."""

    workflow: Workflow
    skill: Skill
    versions: dict[str, str | None] = field(default_factory=dict)
    compiled: CompiledWorkflow = field(init=False)
    values: dict[Place, StepValue] = field(default_factory=dict)
    cache: dict[CacheKey, CacheEntry] = field(default_factory=dict)
    runs: int = 0
    questions: list[Question] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.compiled = compile_workflow(self.workflow)

    def request(
        self,
        payload: JsonObject,
        *,
        base: BaseRun | None = None,
        seeds: Sequence[str] = (),
        forced: Sequence[str] = (),
        mode: CacheMode = CacheMode.DEFAULT,
        run: int | None = None,
        base_of: CompiledWorkflow | None = None,
    ) -> PlanRequest:
        return PlanRequest(
            compiled=self.compiled,
            tenant=TENANT,
            run_id=RunId(f"run-{self.runs + 1 if run is None else run}"),
            payload=payload,
            mode=mode,
            cache_version=self._version,
            change=ChangeRequest(type="change", payload={}) if base else None,
            base=base,
            base_compiled=base_of,
            seeds=self._numbers(seeds),
            forced=self._numbers(forced),
        )

    def plan(self, request: PlanRequest) -> RebuildPlan:
        """The plan, its questions answered from what is there."""
        planning = plan_run(request)
        try:
            question = next(planning)
            while True:
                self.questions.append(question)
                question = planning.send(
                    Answer(
                        outputs={place: self.values[place] for place in question.outputs},
                        cache={query.key: self._answer(query.key, query.fingerprint) for query in question.lookups},
                    )
                )
        except StopIteration as stop:
            plan: RebuildPlan = stop.value
            return plan

    def carry_out(self, request: PlanRequest, plan: RebuildPlan | None = None) -> Done:
        """Do what the plan says, and where it leaves something open what `decide` says; alone on the machine."""
        plan = plan or self.plan(request)
        self.runs += 1
        run = RunKey(self.runs)
        results: dict[StepNo, BaseResult] = {}
        executed: set[str] = set()
        for step in self.compiled.order:
            planned = plan.steps[step]
            if planned.binding is not None:
                bound = planned.binding
                place = bound.producer_run, bound.producer_step
                self.values[run, step] = self.values[place]
                results[step] = self._result(place, bound.producer_run_id, bound.input_hash, bound.cache_version)
                continue
            results[step], is_executed = self._decide(request, planned, run, step)
            if is_executed:
                executed.add(planned.step_id)
        steps = self.workflow.steps
        return Done(
            base=BaseRun(
                run=run,
                root_run=run,
                run_id=request.run_id,
                status=RunStatus.COMPLETED,
                workflow_name=self.workflow.name,
                workflow_digest=self.workflow.digest,
                payload=request.payload,
                change=request.change,
                cache_mode=request.mode,
                failure_policy=FailurePolicy.FINISH_RUNNING,
                priority=0,
                labels={},
                plan=[(planned.action, planned.reason) for planned in plan.steps],
                results=results,
            ),
            plan=plan,
            inputs={
                steps[number].step_id: _input(self._in_run(request, run, number)) for number in self.compiled.order
            },
            outputs={steps[number].step_id: self._output(run, number) for number in self.compiled.order},
            executed=frozenset(executed),
        )

    def start(self, payload: JsonObject, **options: object) -> Done:
        """Plan and carry out a run."""
        return self.carry_out(self.request(payload, **options))  # type: ignore[arg-type]

    def from_scratch(self, request: PlanRequest) -> dict[str, JsonObject]:
        """What every step would produce if all of them were executed now."""
        outputs: dict[str, JsonObject] = {}
        for step in self.compiled.order:
            resolved = self._resolve(request, step, lambda step_id: StepValue(outputs[step_id]))
            step_id = self.workflow.steps[step].step_id
            outputs[step_id] = self.skill(step_id, _input(resolved))
        return outputs

    def _decide(self, request: PlanRequest, planned: PlannedStep, run: RunKey, step: StepNo) -> tuple[BaseResult, bool]:
        definition = self.workflow.steps[step]
        resolved = self._in_run(request, run, step)
        version = self._version(definition.skill_id)
        mode = step_cache_mode(request.mode, planned.reason)
        base = self._comparable(request).get(step)
        known = KnownResult(input_hash=base.input_hash, cache_version=base.cache_version) if base else None
        match decide(mode, definition.cache_policy, known, resolved.hash, version):
            case ReuseBase():
                assert base is not None
                self.values[run, step] = self.values[base.producer_run, base.producer_step]
                return base, False
            case LookUp():
                assert version is not None
                found = self._answer(self._key(definition, resolved), self._fingerprint(definition, version))
                if isinstance(found, CacheHit):
                    producer = found.entry.producer
                    place = producer.run, producer.step
                    self.values[run, step] = self.values[place]
                    return self._result(place, producer.run_id, resolved.hash, version), False
            case ExecuteNow():
                pass
        return self._execute(request, definition, run, step, resolved, mode), True

    def _comparable(self, request: PlanRequest) -> Mapping[StepNo, BaseResult]:
        if request.base is None:
            return {}
        return comparable_results(request.base_compiled or self.compiled, self.compiled, request.base.results)

    def _execute(
        self,
        request: PlanRequest,
        definition: StepDefinition,
        run: RunKey,
        step: StepNo,
        resolved: StepInput,
        mode: CacheMode,
    ) -> BaseResult:
        output = self.skill(definition.step_id, _input(resolved))
        body = canonical_bytes(output)
        version = self._version(definition.skill_id) or "reported"
        self.values[run, step] = StepValue(output)
        if mode.writes and definition.cache_policy.is_shared:
            key = self._key(definition, resolved)
            self.cache[key] = CacheEntry(
                key=key,
                fingerprint=self._fingerprint(definition, version),
                producer=Producer(run=run, step=step, run_id=request.run_id, step_id=definition.step_id),
                output=body,
                output_hash=content_hash(body),
                artifacts=(),
                created_at=datetime(2026, 1, 1, tzinfo=UTC),
            )
        return self._result((run, step), request.run_id, resolved.hash, version)

    def _in_run(self, request: PlanRequest, run: RunKey, step: StepNo) -> StepInput:
        return self._resolve(request, step, lambda read: self.values[run, self.compiled.step_no[StepId(read)]])

    def _resolve(self, request: PlanRequest, step: StepNo, value_of: Callable[[str], StepValue]) -> StepInput:
        scope = RunScope(
            trigger=request.payload,
            change=change_value(request.change),
            run={"id": request.run_id, "workflowName": self.workflow.name},
            value_of=value_of,
        )
        resolved = resolve_input(self.compiled, step, scope)
        assert not isinstance(resolved, Failure), resolved
        return resolved

    def _numbers(self, step_ids: Sequence[str]) -> tuple[StepNo, ...]:
        return tuple(self.compiled.step_no[StepId(step_id)] for step_id in step_ids)

    def _result(self, place: Place, run_id: RunId, input_hash: str, version: str) -> BaseResult:
        return BaseResult(
            producer_run=place[0],
            producer_step=place[1],
            producer_run_id=run_id,
            input_hash=input_hash,
            cache_version=version,
            output_hash=content_hash(canonical_bytes(self.values[place].output)),
        )

    def _output(self, run: RunKey, step: StepNo) -> JsonObject:
        output = self.values[run, step].output
        assert isinstance(output, dict)
        return output

    def _answer(self, key: CacheKey, fingerprint: Fingerprint) -> CacheAnswer:
        entry = self.cache.get(key)
        if entry is None:
            return CacheMiss(reason=MissReason.NEVER_SEEN)
        if entry.fingerprint != fingerprint:
            return CacheMiss(reason=MissReason.SKILL_CHANGED, outdated_at=entry.created_at)
        return CacheHit(entry=entry, tier=CacheTier.COLD)

    def _key(self, definition: StepDefinition, resolved: StepInput) -> CacheKey:
        return CacheKey(
            tenant=TENANT,
            workflow_name=self.workflow.name,
            step_id=definition.step_id,
            input_hash=resolved.hash,
        )

    def _fingerprint(self, definition: StepDefinition, version: str) -> Fingerprint:
        return Fingerprint(skill_id=definition.skill_id, cache_version=version, cache_epoch=self.workflow.cache_epoch)

    def _version(self, skill_id: SkillId) -> str | None:
        return self.versions.get(skill_id.removeprefix("skill."), "1")


def step(
    step_id: str,
    *needs: str,
    reads: Sequence[str] | None = None,
    trigger: Sequence[str] = (),
    cache: CachePolicy = CACHED,
    **expressions: str,
) -> StepDefinition:
    """A step that reads what it needs (or `reads`), fields of the payload, and further expressions by name."""
    selector: JsonObject = {f"of_{read}": _leaf(f"steps.{read}.output") for read in (needs if reads is None else reads)}
    selector |= {f"t_{name}": _leaf(f"trigger.{name}") for name in trigger}
    selector |= {name: _leaf(expression) for name, expression in expressions.items()}
    return StepDefinition(
        step_id=StepId(step_id),
        skill_id=SkillId(f"skill.{step_id}"),
        depends_on=tuple(map(StepId, needs)),
        input_selector=selector,
        cache_policy=cache,
    )


def workflow(*steps: StepDefinition) -> Workflow:
    """A workflow of these steps."""
    return Workflow(name="wf", version="1.0.0", steps=steps, digest=WorkflowDigest("ab" * 32))


def echo(step_id: str, value: JsonObject) -> JsonObject:
    """Every other input gives another output."""
    return {"of": step_id, "hash": content_hash(canonical_bytes(value))}


def constant(step_id: str, value: JsonObject) -> JsonObject:
    """Every input gives the same output."""
    return {"of": step_id}


def actions(plan: RebuildPlan) -> dict[str, str]:
    """What the plan says of each step, as `ACTION REASON`."""
    return {planned.step_id: f"{planned.action.name} {planned.reason.name}" for planned in plan.steps}


def named(plan: RebuildPlan, step_id: str) -> PlannedStep:
    """The plan of one step."""
    return next(planned for planned in plan.steps if planned.step_id == step_id)


def to_execute(plan: RebuildPlan) -> set[str]:
    """The steps that may be executed."""
    return {planned.step_id for planned in plan.steps if planned.action is not PlanAction.REUSE}


RUN_ONLY = CachePolicy(scope=CacheScope.RUN_ONLY)
DISABLED = CachePolicy(enabled=False)


def _leaf(expression: str) -> str:
    return f"${{{{ {expression} }}}}"


def _input(resolved: StepInput) -> JsonObject:
    value = parse_json(resolved.body)
    assert isinstance(value, dict)
    return value

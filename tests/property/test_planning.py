"""Plans of random workflows, changes and skills: what a plan promises is what then happens, and reuse is sound.

Skills are pure functions of their input, coarse enough that outputs often stay the same (early cutoff).
"""

import hashlib
from dataclasses import dataclass, replace

from hypothesis import event, given
from hypothesis import strategies as st

from runengine_server.domain.canonical_json import canonical_bytes
from runengine_server.domain.ids import RunId, SkillId, StepId, StepNo, WorkflowDigest
from runengine_server.domain.json_pointer import changed_pointers
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.states import CacheMode, CacheScope, PlanAction, PlanReason, RunStatus
from runengine_server.domain.workflow import CachePolicy, StepDefinition, Workflow
from runengine_server.planner.compiled import CompiledWorkflow, compile_workflow
from runengine_server.service.trigger_update import update_message

from ..unit.planning.bench import Bench, Done

KEYS = ("k0", "k1", "k2", "k3")
POLICIES = (CachePolicy(), CachePolicy(), CachePolicy(scope=CacheScope.RUN_ONLY), CachePolicy(enabled=False))
STEPS_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A change of the last run, or of an earlier one."""

    base: int
    payload: JsonObject
    seeds: tuple[str, ...]
    forced: tuple[str, ...]
    mode: CacheMode
    versions: dict[str, str | None]


payloads = st.fixed_dictionaries({key: st.integers(0, 2) for key in KEYS})


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    """Up to eight steps in topological order; each reads any ancestors, payload keys and perhaps the run or change."""
    steps: list[StepDefinition] = []
    ancestors: list[set[int]] = []
    for number in range(draw(st.integers(1, STEPS_MAX))):
        needs = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        above = needs.union(*(ancestors[need] for need in needs))
        ancestors.append(above)
        reads = draw(st.sets(st.sampled_from(sorted(above)), max_size=3)) if above else set()
        selector: JsonObject = {f"s{read}": f"${{{{ steps.s{read}.output }}}}" for read in reads}
        selector |= {key: f"${{{{ trigger.{key} }}}}" for key in draw(st.sets(st.sampled_from(KEYS), max_size=2))}
        extra = draw(st.sampled_from(["", "", "", "", "run.id", "run.workflowName", "change"]))
        if extra:
            selector["extra"] = f"${{{{ {extra} }}}}"
        steps.append(
            StepDefinition(
                step_id=StepId(f"s{number}"),
                skill_id=SkillId(f"skill.s{number}"),
                depends_on=tuple(StepId(f"s{need}") for need in sorted(needs)),
                input_selector=selector,
                cache_policy=draw(st.sampled_from(POLICIES)),
            )
        )
    return Workflow(name="wf", version="1.0.0", steps=tuple(steps), digest=WorkflowDigest("ab" * 32))


@st.composite
def histories(draw: st.DrawFn) -> tuple[Workflow, tuple[int, ...], JsonObject, list[Update]]:
    """A workflow, how many different outputs each skill has, a first payload and a few updates."""
    workflow = draw(workflows())
    names = [step.step_id for step in workflow.steps]
    variety = tuple(draw(st.sampled_from([1, 2, 1000])) for _ in names)
    updates = [
        Update(
            base=draw(st.integers(0, number)),
            payload=draw(payloads),
            seeds=tuple(draw(st.lists(st.sampled_from(names), unique=True, max_size=3))),
            forced=tuple(draw(st.lists(st.sampled_from(names), unique=True, max_size=1))),
            mode=draw(st.sampled_from(CacheMode)),
            versions=dict.fromkeys(
                draw(st.sets(st.sampled_from(names), max_size=2)), draw(st.sampled_from(["1", "2", None]))
            ),
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    return workflow, variety, draw(payloads), updates


@given(histories())
def test_what_is_planned_is_what_happens(history: tuple[Workflow, tuple[int, ...], JsonObject, list[Update]]) -> None:
    """Through any chain of updates: reuse equals execution, EXECUTE executes, nothing else but UNKNOWN may."""
    workflow, variety, payload, updates = history
    bench = Bench(workflow=workflow, skill=lambda step_id, value: _output(variety, step_id, value))
    done = [bench.start(payload)]
    _check(bench, bench.request(payload, run=1), done[0])
    for update in updates:
        bench.versions.update(update.versions)
        base = done[update.base]
        request = bench.request(
            update.payload, base=base.base, seeds=update.seeds, forced=update.forced, mode=update.mode
        )
        dry = bench.plan(replace(request, run_id=RunId("another")))
        made = bench.carry_out(request)
        assert dry.digest == made.plan.digest, "a dry run and the real one differ"
        assert made.executed >= set(update.forced)
        _check(bench, request, made)
        _check_pointers(bench, base, made)
        done.append(made)


@given(histories(), st.data())
def test_a_retry_finishes_what_is_left(
    history: tuple[Workflow, tuple[int, ...], JsonObject, list[Update]], data: st.DataObject
) -> None:
    """However far a run came, its retry repeats nothing that was finished, and ends as the run would have."""
    workflow, variety, payload, updates = history
    bench = Bench(workflow=workflow, skill=lambda step_id, value: _output(variety, step_id, value))
    first, update = bench.start(payload), updates[0]
    request = bench.request(update.payload, base=first.base, seeds=update.seeds, forced=update.forced, mode=update.mode)
    plan = bench.plan(request)
    cache = dict(bench.cache)
    whole = bench.carry_out(request, plan)
    open_steps = [number for number, step in enumerate(plan.steps) if step.action is not PlanAction.REUSE]
    failed = data.draw(st.sets(st.sampled_from(open_steps), min_size=1)) if open_steps else set()
    lost = bench.compiled.closure(map(StepNo, failed)).intersection(map(StepNo, open_steps))
    bench.cache = cache  # at worst none of what was executed got into the cache
    results = {number: result for number, result in whole.base.results.items() if number not in lost}
    base = replace(whole.base, status=RunStatus.FAILED, results=results)
    again = bench.request(base.payload, base=base, mode=base.cache_mode)
    made = bench.carry_out(replace(again, change=base.change, is_retry=True))
    lost_ids = {workflow.steps[number].step_id for number in lost}
    assert made.executed <= lost_ids
    assert made.executed >= {workflow.steps[n].step_id for n in lost if plan.steps[n].reason is PlanReason.FORCED}
    for name in made.outputs.keys() - lost_ids:
        assert made.outputs[name] == whole.outputs[name]
    for name in made.outputs.keys() - _steps_that_know_their_run(bench.compiled):
        assert made.outputs[name] == whole.outputs[name]


def _check(bench: Bench, request: object, made: Done) -> None:
    plan = {planned.step_id: planned for planned in made.plan.steps}
    assert made.executed <= {name for name, step in plan.items() if step.action is not PlanAction.REUSE}
    assert made.executed >= {name for name, step in plan.items() if step.action is PlanAction.EXECUTE}
    count = sum(step.action is not PlanAction.REUSE for step in plan.values())
    assert f" {count} steps" in update_message(made.plan)
    scratch = bench.from_scratch(request)  # type: ignore[arg-type]
    of_run = _steps_that_know_their_run(bench.compiled)
    for name, step in plan.items():
        if name not in of_run:
            assert made.outputs[name] == scratch[name], f"{name} is not what executing it gives"
        event(f"{step.action.name} {step.reason.name}")


def _check_pointers(bench: Bench, base: Done, made: Done) -> None:
    """What the plan says of changed inputs is so, and it says it wherever both inputs were known."""
    of_run = _steps_that_know_their_run(bench.compiled)
    plan = {planned.step_id: planned for planned in made.plan.steps}
    for number, planned in enumerate(made.plan.steps):
        read = bench.compiled.selectors[number].step_ids
        if planned.step_id in of_run:
            continue
        changed = tuple(changed_pointers(base.inputs[planned.step_id], made.inputs[planned.step_id]))
        if all(plan[name].action is PlanAction.REUSE for name in read):
            assert planned.changed_pointers == changed
            event("changed" if changed else "the same")
        else:
            assert planned.changed_pointers == ()
        assert planned.reason is not PlanReason.WIDENED or changed


def _steps_that_know_their_run(compiled: CompiledWorkflow) -> set[str]:
    """Steps whose output may differ from run to run because they, or what they read, read run.id."""
    knowing: set[str] = set()
    for number in compiled.order:
        step = compiled.workflow.steps[number]
        selector = compiled.selectors[number]
        if "run.id" in str(step.input_selector.get("extra")) or knowing.intersection(selector.step_ids):
            knowing.add(step.step_id)
    return knowing


def _output(variety: tuple[int, ...], step_id: str, value: JsonObject) -> JsonObject:
    digest = hashlib.sha256(canonical_bytes(value)).digest()
    return {"of": step_id, "kind": int.from_bytes(digest[:4], "big") % variety[int(step_id[1:])]}


def test_the_search_reaches_every_kind_of_plan() -> None:
    """The generator is not blind: hand-picked histories of its shape reach reuse, execution and early cutoff."""
    steps = tuple(
        StepDefinition(
            step_id=StepId(f"s{n}"),
            skill_id=SkillId(f"skill.s{n}"),
            depends_on=(StepId(f"s{n - 1}"),) if n else (),
            input_selector={"s": f"${{{{ steps.s{n - 1}.output }}}}"} if n else {"k": "${{ trigger.k0 }}"},
        )
        for n in range(3)
    )
    workflow = Workflow(name="wf", version="1.0.0", steps=steps, digest=WorkflowDigest("ab" * 32))
    assert compile_workflow(workflow).levels == (0, 1, 2)
    bench = Bench(workflow=workflow, skill=lambda step_id, value: _output((1, 1000, 1000), step_id, value))
    base = bench.start({"k0": 0}).base
    update = bench.start({"k0": 1}, base=base, seeds=["s0"])
    assert (update.executed, update.plan.to_execute_count) == ({"s0"}, 3)

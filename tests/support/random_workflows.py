"""Random workflows, payloads and changes, small enough that values come back and large enough that everything happens.

All draws come from the `random` given: seeded it repeats, and Hypothesis may hold it to shrink what it finds.
"""

from collections.abc import Mapping
from random import Random
from typing import Any

from runengine_server.domain.ids import SkillId, StepId, WorkflowDigest
from runengine_server.domain.states import CacheMode, CacheScope, FailurePolicy
from runengine_server.domain.workflow import CachePolicy, ChangeRule, RetryPolicy, StepDefinition, Workflow

from .workflow_model import Change, Leaf, MissingPathError, SkillModel, StepModel, View, WorkflowModel, digest

STEPS_MAX = 12
KEYS = ("k0", "k1", "k2", "k3")
WORKFLOW_NAME = "random.workflow"

_POLICIES = (
    CachePolicy(),
    CachePolicy(),
    CachePolicy(),
    CachePolicy(scope=CacheScope.RUN_ONLY),
    CachePolicy(enabled=False),
)
_VARIETIES = (1, 2, 3, 1000, 1000, None)


def random_model(random: Random, *, steps_max: int = STEPS_MAX, is_faulty: bool = True) -> WorkflowModel:
    """A workflow; unless `is_faulty` every selector finds what it reads."""
    steps: dict[str, StepModel] = {}
    for number in range(random.randint(1, steps_max)):
        name = f"s{number}"
        steps[name] = _step(random, name, steps, _skill(random), is_faulty=is_faulty)
    return _model(random, "1.0.0", steps, "")


def random_next_version(random: Random, model: WorkflowModel, *, is_faulty: bool = True) -> WorkflowModel:
    """The next version of a workflow: most steps as they were, some defined otherwise, some gone, some new."""
    steps: dict[str, StepModel] = {}
    for name, step in model.steps.items():
        chance = random.random()
        if chance < 0.1 and len(model.steps) > 1:
            continue
        if chance < 0.75 and step.needs <= steps.keys():
            steps[name] = step
        elif chance < 0.9:
            steps[name] = _step(random, name, steps, step.skill, is_faulty=is_faulty)
        else:
            steps[name] = _step(random, name, steps, _skill(random), skill_id=f"skill.{name}.b", is_faulty=is_faulty)
    if not steps or random.random() < 0.3:
        steps["new"] = _step(random, "new", steps, _skill(random), is_faulty=is_faulty)
    return _model(random, "1.1.0", steps, random.choice(["", "", "", "e2"]))


def random_payload(random: Random) -> dict[str, Any]:
    """A trigger payload."""
    payload: dict[str, Any] = {key: random.randint(0, 2) for key in KEYS}
    payload["style"] = {"tempo": random.randint(0, 1)}
    if random.random() < 0.3:
        payload["opt"] = random.randint(0, 2)
    return payload


def random_change(random: Random, model: WorkflowModel) -> Change:
    """A change of a type the workflow knows; what it changes need not be what its type declares."""
    rule = random.choice(model.workflow.change_rules)
    payload: dict[str, Any] = {}
    if rule.type in KEYS and random.random() < 0.8:
        payload[rule.type] = random.randint(0, 2)
    if random.random() < 0.3:
        payload[random.choice(KEYS)] = random.randint(0, 2)
    if random.random() < 0.2:
        payload["style"] = {"tempo": random.randint(0, 1)}
    if random.random() < 0.2:
        payload["opt"] = random.choice([None, 0, 1])
    return Change(type=rule.type, payload=payload, mode=random_mode(random))


def random_mode(random: Random) -> CacheMode | None:
    """A cache mode; as a rule none, which leaves it to the workflow."""
    return random.choice([None, None, None, None, *CacheMode])


def random_steps(random: Random, model: WorkflowModel) -> list[str]:
    """Steps to force; as a rule none."""
    return random.sample(list(model.steps), 1) if random.random() < 0.15 else []


def _model(random: Random, version: str, steps: Mapping[str, StepModel], epoch: str) -> WorkflowModel:
    definitions = tuple(step.definition for step in steps.values())
    rules = tuple(_rules(random, steps))
    policy = random.choice(list(FailurePolicy))
    workflow = Workflow(
        name=WORKFLOW_NAME,
        version=version,
        steps=definitions,
        change_rules=rules,
        cache_epoch=epoch,
        failure_policy=policy,
        digest=WorkflowDigest(digest([version, repr(definitions), repr(rules), policy.name, epoch])),
    )
    return WorkflowModel(workflow=workflow, steps=steps)


def _step(
    random: Random,
    name: str,
    earlier: Mapping[str, StepModel],
    skill: SkillModel,
    *,
    skill_id: str = "",
    is_faulty: bool,
) -> StepModel:
    """A step that needs some of the earlier ones and reads any of those it comes after."""
    needs = random.sample(list(earlier), min(len(earlier), random.choice([0, 1, 1, 2, 3])))
    above = set(needs)
    for other, step in reversed(earlier.items()):
        if other in above:
            above |= step.needs
    leaves = _leaves(random, {other: earlier[other].skill for other in sorted(above)}, is_faulty=is_faulty)
    definition = StepDefinition(
        step_id=StepId(name),
        skill_id=SkillId(skill_id or f"skill.{name}"),
        depends_on=tuple(StepId(need) for need in sorted(needs)),
        input_selector={key: f"${{{{ {leaf.text} }}}}" for key, leaf in leaves.items()},
        cache_policy=random.choice(_POLICIES),
        retry_policy=RetryPolicy(
            max_attempts=random.randint(1, 4), backoff_ms=random.choice([10, 50]), max_backoff_ms=100
        ),
        timeout_s=random.choice([None, 4.0, 8.0]),
    )
    return StepModel(definition=definition, leaves=leaves, skill=skill)


def _skill(random: Random) -> SkillModel:
    return SkillModel(
        variety=random.choice(_VARIETIES),
        publishes=random.random() < 0.25,
        limit=random.choice([0, 0, 0, 1, 2]),
        is_inline=random.random() < 0.1,
        is_cacheable=random.random() < 0.95,
    )


def _leaves(random: Random, ancestors: Mapping[str, SkillModel], *, is_faulty: bool) -> dict[str, Leaf]:
    leaves = {}
    for read in random.sample(list(ancestors), min(len(ancestors), random.randint(0, 3))):
        leaves[f"of_{read}"] = _read(random, read, ancestors[read])
    for key in random.sample(KEYS, random.choice([0, 1, 1, 2])):
        leaves[f"t_{key}"] = _payload_key(key)
    chance = random.random()
    if chance < 0.1:
        leaves["tempo"] = Leaf(text="trigger.style.tempo", value=lambda view: view.payload["style"]["tempo"])
    elif chance < 0.2:
        leaves["opt"] = Leaf(
            text="has(trigger.opt) ? trigger.opt : trigger.k0",
            value=lambda view: view.payload.get("opt", view.payload["k0"]),
        )
    elif chance < 0.26:
        leaves["change"] = Leaf(text="change", value=lambda view: view.change)
    elif chance < 0.3:
        leaves["type"] = Leaf(
            text="change == null ? 'none' : change.type",
            value=lambda view: "none" if view.change is None else view.change["type"],
        )
    elif chance < 0.34:
        leaves["run"] = Leaf(text="run.id", value=lambda view: view.run_id)
    elif chance < 0.38:
        leaves["name"] = Leaf(text="run.workflowName", value=lambda view: WORKFLOW_NAME)
    elif chance < 0.39 and is_faulty:
        leaves["missing"] = Leaf(text="trigger.opt", value=_optional)
    return leaves


def _read(random: Random, step: str, skill: SkillModel) -> Leaf:
    reads = frozenset({step})
    chance = random.random()
    if skill.publishes and chance < 0.4:
        return Leaf(
            text=f"steps.{step}.artifacts[0].contentHash",
            value=lambda view: _first_artifact(view, step)["contentHash"],
            reads=reads,
        )
    if chance < 0.5:
        return Leaf(text=f"steps.{step}.output.kind", value=lambda view: view.outputs[step]["kind"], reads=reads)
    if chance < 0.6:
        return Leaf(text=f"size(steps.{step}.artifacts)", value=lambda view: len(view.artifacts[step]), reads=reads)
    return Leaf(text=f"steps.{step}.output", value=lambda view: view.outputs[step], reads=reads)


def _payload_key(key: str) -> Leaf:
    return Leaf(text=f"trigger.{key}", value=lambda view: view.payload[key])


def _first_artifact(view: View, step: str) -> Any:
    if not view.artifacts[step]:
        raise MissingPathError
    return view.artifacts[step][0]


def _optional(view: View) -> Any:
    if "opt" not in view.payload:
        raise MissingPathError
    return view.payload["opt"]


def _rules(random: Random, steps: Mapping[str, StepModel]) -> list[ChangeRule]:
    """For each key a type that declares the steps that read it, as a rule; for some, others or fewer."""
    names = list(steps)
    rules = [ChangeRule(type="all", seed_step_ids=("*",), cache_mode=random.choice([None, CacheMode.REFRESH]))]
    for key in KEYS:
        readers = [name for name, step in steps.items() if f"t_{key}" in step.leaves]
        if random.random() < 0.3:
            readers = random.sample(names, random.randint(0, min(2, len(names))))
        rules.append(ChangeRule(type=key, seed_step_ids=tuple(readers)))
    return rules

"""What can be said without a server to be wrong with a workflow; the server checks all of it again, and more."""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta

from runengine_client.errors import FieldViolation
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow.dag import Dag, dag_of, step_numbers
from runengine_client.workflow.step_reads import find_reads

STEPS_MAX = 10_000
EDGES_MAX = 100_000
ATTEMPTS_MAX = 20
BACKOFF_MS_DEFAULT = 1_000
BACKOFF_MS_MAX = 24 * 3_600_000
HOT_TTL_RANGE = (timedelta(hours=24), timedelta(hours=48))
TIMEOUT_RANGE = (timedelta(milliseconds=1), timedelta(days=7))

_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,127}")
_STEP_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SKILL_ID = re.compile(r"[a-z][a-z0-9_.]{0,127}")
_CHANGE_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_NUMERIC = r"(?:0|[1-9][0-9]*)"
_ALPHANUMERIC = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = re.compile(
    rf"{_NUMERIC}\.{_NUMERIC}\.{_NUMERIC}(?:-{_ALPHANUMERIC}(?:\.{_ALPHANUMERIC})*)?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_CYCLE_STEPS_SHOWN = 50

_Violations = Iterator[FieldViolation]


def check_workflow(workflow: workflow_pb2.Workflow) -> list[FieldViolation]:
    """Everything that is wrong with ids, limits, references, dependencies and change requests; empty if nothing is.

    The field paths are those of the server. Skills, expressions and the trigger schema are left to it.
    """
    violations = [*_header(workflow)]
    too_large = [*_sizes(workflow)]
    if too_large:
        return violations + too_large
    numbers = step_numbers(workflow)
    for number, step in enumerate(workflow.steps):
        violations += _step(step, f"steps[{number}]", numbers[step.step_id], number)
        violations += _dependencies(step, f"steps[{number}].dependsOn", numbers)
    dag = dag_of(workflow)
    violations += _cycles(workflow, dag)
    violations += _reads(workflow, dag, numbers)
    violations += _rules(workflow, numbers)
    return violations


def _violation(field: str, description: str) -> FieldViolation:
    return FieldViolation(field=field, description=description)


def _header(workflow: workflow_pb2.Workflow) -> _Violations:
    if not _NAME.fullmatch(workflow.name):
        yield _violation("workflowName", f"must match {_NAME.pattern}")
    if not _SEMVER.fullmatch(workflow.version):
        yield _violation("version", f"{workflow.version!r} is not a SemVer version such as 1.0.0")


def _sizes(workflow: workflow_pb2.Workflow) -> _Violations:
    edges = sum(len(step.depends_on) for step in workflow.steps)
    if not workflow.steps:
        yield _violation("steps", "must be at least one")
    if len(workflow.steps) > STEPS_MAX:
        yield _violation("steps", f"must be at most {STEPS_MAX}; there are {len(workflow.steps)}")
    if edges > EDGES_MAX:
        yield _violation("steps", f"must have at most {EDGES_MAX} dependencies in all, not {edges}")


def _step(step: workflow_pb2.StepDefinition, path: str, first: int, number: int) -> _Violations:
    if not _STEP_ID.fullmatch(step.step_id):
        yield _violation(f"{path}.stepId", f"must match {_STEP_ID.pattern}")
    if first != number:
        yield _violation(f"{path}.stepId", f"'{step.step_id}' is already the id of steps[{first}]")
    if not _SKILL_ID.fullmatch(step.skill_id):
        yield _violation(f"{path}.skillId", f"must match {_SKILL_ID.pattern}")
    if step.HasField("timeout") and not TIMEOUT_RANGE[0] <= step.timeout.ToTimedelta() <= TIMEOUT_RANGE[1]:
        yield _violation(f"{path}.timeout", "must be 1 ms to 7 days")
    if step.cache_policy.HasField("hot_ttl"):
        least, most = HOT_TTL_RANGE
        hot_ttl = step.cache_policy.hot_ttl.ToTimedelta()
        if not least <= hot_ttl <= most or hot_ttl.microseconds:
            yield _violation(f"{path}.cachePolicy.hotTtl", "must be 24 h to 48 h, in whole seconds")
    yield from _retry(step.retry_policy, f"{path}.retryPolicy")


def _retry(policy: workflow_pb2.RetryPolicy, path: str) -> _Violations:
    backoff_ms = policy.backoff_ms or BACKOFF_MS_DEFAULT
    if policy.max_attempts > ATTEMPTS_MAX:
        yield _violation(f"{path}.maxAttempts", f"must be 1 to {ATTEMPTS_MAX}; it is {policy.max_attempts}")
    if backoff_ms > BACKOFF_MS_MAX:
        yield _violation(f"{path}.backoffMs", f"must be 1 to {BACKOFF_MS_MAX} ms (24 h); it is {backoff_ms}")
    if policy.max_backoff_ms and not backoff_ms <= policy.max_backoff_ms <= BACKOFF_MS_MAX:
        description = f"must be backoffMs ({backoff_ms}) to {BACKOFF_MS_MAX} ms (24 h); it is {policy.max_backoff_ms}"
        yield _violation(f"{path}.maxBackoffMs", description)
    for index, code in enumerate(policy.non_retryable_codes):
        if not _CODE.fullmatch(code):
            description = f"must be upper snake case ({_CODE.pattern}), as in CONTENT_REFUSED"
            yield _violation(f"{path}.nonRetryableCodes[{index}]", description)


def _dependencies(step: workflow_pb2.StepDefinition, path: str, numbers: dict[str, int]) -> _Violations:
    seen: set[str] = set()
    for index, dependency in enumerate(step.depends_on):
        if dependency in seen:
            yield _violation(f"{path}[{index}]", f"'{dependency}' is listed more than once")
        elif dependency == step.step_id:
            yield _violation(f"{path}[{index}]", f"step '{dependency}' depends on itself")
        elif dependency not in numbers:
            yield _violation(f"{path}[{index}]", f"there is no step '{dependency}' in this workflow")
        seen.add(dependency)


def _cycles(workflow: workflow_pb2.Workflow, dag: Dag) -> _Violations:
    for cycle in dag.cycles():
        ids = [workflow.steps[number].step_id for number in cycle]
        shown = [*ids[:_CYCLE_STEPS_SHOWN], *(["…"] if len(ids) > _CYCLE_STEPS_SHOWN else []), ids[0]]
        index = list(workflow.steps[cycle[0]].depends_on).index([*ids, ids[0]][1])
        yield _violation(
            f"steps[{cycle[0]}].dependsOn[{index}]",
            f"these steps form a cycle, each waiting for the next: {' → '.join(shown)}",
        )


def _reads(workflow: workflow_pb2.Workflow, dag: Dag, numbers: dict[str, int]) -> _Violations:
    ordered = set(dag.order)
    for number, step in enumerate(workflow.steps):
        for read in find_reads(step.input_selector):
            other = numbers.get(read.step_id)
            field = f"steps[{number}].inputSelector{read.pointer}"
            if not read.step_id or (other is not None and other in dag.parents[number]):
                continue
            if other is None:
                yield _violation(field, f"reads step '{read.step_id}', which this workflow does not have")
            elif read.step_id == step.step_id:
                yield _violation(field, f"reads step '{read.step_id}' itself, which has no output yet")
            elif number in ordered and not dag.ancestors[number] >> other & 1:
                description = (
                    f"reads step '{read.step_id}', which may not have finished when '{step.step_id}' starts; "
                    f"add '{read.step_id}' to dependsOn of '{step.step_id}'"
                )
                yield _violation(field, description)


def _rules(workflow: workflow_pb2.Workflow, numbers: dict[str, int]) -> _Violations:
    seen: set[str] = set()
    for rule in workflow.change_requests:
        path = f"changeRequests[{json.dumps(rule.type)}]"
        if not _CHANGE_TYPE.fullmatch(rule.type):
            yield _violation(path, f"the type must match {_CHANGE_TYPE.pattern}, as in audio.update")
        if rule.type in seen:
            yield _violation(path, "there is more than one rule for this type; keep one")
        seen.add(rule.type)
        yield from _seeds(f"{path}.seedStepIds", rule.seed_step_ids, numbers)


def _seeds(path: str, seeds: Sequence[str], numbers: dict[str, int]) -> _Violations:
    if not seeds:
        yield _violation(path, "must name at least one step, or '*' for every step")
    seen: set[str] = set()
    for index, seed in enumerate(seeds):
        if seed in seen:
            yield _violation(f"{path}[{index}]", f"'{seed}' is listed more than once")
        elif seed == "*":
            if len(seeds) > 1:
                yield _violation(f"{path}[{index}]", "'*' means every step and must stand alone")
        elif seed not in numbers:
            yield _violation(f"{path}[{index}]", f"there is no step '{seed}' in this workflow")
        seen.add(seed)

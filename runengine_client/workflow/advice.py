"""What is allowed in a workflow and still hardly meant; warnings, never errors."""

from collections.abc import Iterator

from runengine_client.errors import FieldViolation
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow.dag import Dag, dag_of, seed_numbers, step_numbers
from runengine_client.workflow.step_reads import find_reads


def advise(workflow: workflow_pb2.Workflow) -> list[FieldViolation]:
    """Warnings about a workflow that can be read, each with the field path it is about."""
    dag = dag_of(workflow)
    return [*_unreached(workflow, dag), *_alone(workflow, dag), *_inputs(workflow), *_policies(workflow)]


def _unreached(workflow: workflow_pb2.Workflow, dag: Dag) -> Iterator[FieldViolation]:
    if not workflow.change_requests:
        return
    seeds = set().union(*(seed_numbers(workflow, rule) for rule in workflow.change_requests))
    reached = dag.downstream(seeds)
    for number, step in enumerate(workflow.steps):
        if number not in reached:
            description = f"no change request reaches '{step.step_id}', so no update ever executes it again"
            yield FieldViolation(field=f"steps[{number}]", description=description)


def _alone(workflow: workflow_pb2.Workflow, dag: Dag) -> Iterator[FieldViolation]:
    for number, step in enumerate(workflow.steps):
        if len(workflow.steps) > 1 and not dag.parents[number] and not dag.children[number]:
            description = f"'{step.step_id}' waits for no step, and no step waits for it"
            yield FieldViolation(field=f"steps[{number}]", description=description)


def _inputs(workflow: workflow_pb2.Workflow) -> Iterator[FieldViolation]:
    numbers = step_numbers(workflow)
    for number, step in enumerate(workflow.steps):
        if not step.HasField("input_selector"):
            continue
        reads = list(find_reads(step.input_selector))
        read_ids = {read.step_id for read in reads}
        for index, dependency in enumerate(step.depends_on):
            if dependency not in read_ids and dependency in numbers:
                description = (
                    f"'{step.step_id}' waits for '{dependency}' but reads nothing of it; "
                    "a change there makes this step part of the impact"
                )
                yield FieldViolation(field=f"steps[{number}].dependsOn[{index}]", description=description)
        if _is_cached(step):
            for read in reads:
                if not read.step_id:
                    description = "reads run.id, which differs in every run, so the cache can never hit"
                    field = f"steps[{number}].inputSelector{read.pointer}"
                    yield FieldViolation(field=field, description=description)


def _policies(workflow: workflow_pb2.Workflow) -> Iterator[FieldViolation]:
    for number, step in enumerate(workflow.steps):
        if step.cache_policy.HasField("hot_ttl") and not _is_cached(step):
            description = "has no effect: the step is not kept in the cache"
            yield FieldViolation(field=f"steps[{number}].cachePolicy.hotTtl", description=description)
        if step.retry_policy.max_attempts == 1 and (step.retry_policy.backoff_ms or step.retry_policy.max_backoff_ms):
            description = "has no effect: with maxAttempts 1 there is no second try"
            field = "backoffMs" if step.retry_policy.backoff_ms else "maxBackoffMs"
            yield FieldViolation(field=f"steps[{number}].retryPolicy.{field}", description=description)


def _is_cached(step: workflow_pb2.StepDefinition) -> bool:
    if not step.HasField("cache_policy"):
        return True
    return step.cache_policy.enabled and step.cache_policy.scope != workflow_pb2.CACHE_SCOPE_RUN_ONLY

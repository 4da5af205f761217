"""Workflows off and onto the wire, defaults filled in both ways."""

from dataclasses import replace

from google.protobuf import duration_pb2

from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_server.domain.ids import SkillId, StepId
from runengine_server.domain.states import CacheMode, CacheScope, FailurePolicy
from runengine_server.domain.workflow import CachePolicy, ChangeRule, RetryPolicy, StepDefinition, Workflow
from runengine_server.rpc.conversion.json_struct import read_object, struct_of
from runengine_server.rpc.conversion.problems import Problems
from runengine_server.rpc.conversion.scalar import duration_of, read_duration_s, read_enum, timestamp_of
from runengine_server.rpc.conversion.workflow_digest import workflow_digest


def read_workflow(proto: workflow_pb2.Workflow) -> Workflow:
    """The workflow with defaults and digest filled in; what it says is not checked, only that it can be said.

    Field paths in violations are those of the message, such as `steps[3].input_selector/brief/x`.

    Raises:
        InvalidError: WORKFLOW_INVALID with everything that cannot be read.
        ExhaustedError: PAYLOAD_TOO_LARGE for an input selector or the trigger schema.
    """
    problems = Problems()
    workflow = Workflow(
        name=proto.name,
        version=proto.version,
        description=proto.description,
        steps=tuple(_step(step, f"steps[{index}]", problems) for index, step in enumerate(proto.steps)),
        change_rules=tuple(
            _rule(rule, f"change_requests[{index}]", problems) for index, rule in enumerate(proto.change_requests)
        ),
        trigger_schema=(
            read_object(proto.trigger_schema, "trigger_schema", problems) if proto.HasField("trigger_schema") else None
        ),
        cache_epoch=proto.cache_epoch,
        failure_policy=read_enum(FailurePolicy, proto.failure_policy, "failure_policy", problems)
        or FailurePolicy.FINISH_RUNNING,
        labels=dict(proto.labels),
    )
    problems.raise_if_any("WORKFLOW_INVALID", "the workflow")
    return replace(workflow, digest=workflow_digest(workflow))


def workflow_to_proto(workflow: Workflow) -> workflow_pb2.Workflow:
    """The workflow with every default written out; reading it back gives the same digest."""
    return workflow_pb2.Workflow(
        name=workflow.name,
        version=workflow.version,
        digest=workflow.digest,
        description=workflow.description,
        steps=[_step_to_proto(step) for step in workflow.steps],
        change_requests=[_rule_to_proto(rule) for rule in workflow.change_rules],
        created_at=timestamp_of(workflow.created_at),
        trigger_schema=struct_of(workflow.trigger_schema),
        cache_epoch=workflow.cache_epoch,
        failure_policy=workflow_pb2.FailurePolicy.ValueType(workflow.failure_policy),
        labels=workflow.labels,
    )


def _step(proto: workflow_pb2.StepDefinition, path: str, problems: Problems) -> StepDefinition:
    return StepDefinition(
        step_id=StepId(proto.step_id),
        skill_id=SkillId(proto.skill_id),
        depends_on=tuple(StepId(each) for each in proto.depends_on),
        input_selector=read_object(proto.input_selector, f"{path}.input_selector", problems),
        cache_policy=_cache_policy(proto, f"{path}.cache_policy", problems),
        retry_policy=_retry_policy(proto.retry_policy),
        timeout_s=read_duration_s(proto, "timeout", f"{path}.timeout", problems),
        description=proto.description,
        verify_artifacts=proto.verify_artifacts,
    )


def _cache_policy(step: workflow_pb2.StepDefinition, path: str, problems: Problems) -> CachePolicy:
    """The policy; a step without one is cached, one with a policy is cached only if that says so."""
    default = CachePolicy()
    if not step.HasField("cache_policy"):
        return default
    proto = step.cache_policy
    hot_ttl_s = read_duration_s(proto, "hot_ttl", f"{path}.hot_ttl", problems)
    if hot_ttl_s is None:
        hot_ttl_s = default.hot_ttl_s
    elif not hot_ttl_s.is_integer():
        problems.add(f"{path}.hot_ttl", "must be whole seconds")
    return CachePolicy(
        enabled=proto.enabled,
        scope=read_enum(CacheScope, proto.scope, f"{path}.scope", problems) or default.scope,
        hot_ttl_s=int(hot_ttl_s),
    )


def _retry_policy(proto: workflow_pb2.RetryPolicy) -> RetryPolicy:
    """The policy; an unset one is a message of zeros, and zero means the default."""
    default = RetryPolicy()
    return RetryPolicy(
        max_attempts=proto.max_attempts or default.max_attempts,
        backoff_ms=proto.backoff_ms or default.backoff_ms,
        max_backoff_ms=proto.max_backoff_ms or default.max_backoff_ms,
        non_retryable_codes=tuple(proto.non_retryable_codes),
    )


def _rule(proto: workflow_pb2.ChangeRequestRule, path: str, problems: Problems) -> ChangeRule:
    return ChangeRule(
        type=proto.type,
        seed_step_ids=tuple(proto.seed_step_ids),
        cache_mode=read_enum(CacheMode, proto.cache_mode, f"{path}.cache_mode", problems),
        description=proto.description,
    )


def _step_to_proto(step: StepDefinition) -> workflow_pb2.StepDefinition:
    cache, retry = step.cache_policy, step.retry_policy
    return workflow_pb2.StepDefinition(
        step_id=step.step_id,
        skill_id=step.skill_id,
        depends_on=step.depends_on,
        input_selector=struct_of(step.input_selector),
        cache_policy=workflow_pb2.CachePolicy(
            enabled=cache.enabled,
            scope=workflow_pb2.CacheScope.ValueType(cache.scope),
            hot_ttl=duration_pb2.Duration(seconds=cache.hot_ttl_s),
        ),
        retry_policy=workflow_pb2.RetryPolicy(
            max_attempts=retry.max_attempts,
            backoff_ms=retry.backoff_ms,
            max_backoff_ms=retry.max_backoff_ms,
            non_retryable_codes=retry.non_retryable_codes,
        ),
        timeout=duration_of(step.timeout_s),
        description=step.description,
        verify_artifacts=step.verify_artifacts,
    )


def _rule_to_proto(rule: ChangeRule) -> workflow_pb2.ChangeRequestRule:
    return workflow_pb2.ChangeRequestRule(
        type=rule.type,
        seed_step_ids=rule.seed_step_ids,
        cache_mode=workflow_pb2.CacheMode.ValueType(rule.cache_mode or CacheMode.DEFAULT),
        description=rule.description,
    )

"""The file format of a workflow: one JSON document to the contract's message and back."""

from enum import StrEnum

from runengine_client.conversion import enum_of
from runengine_client.errors import FieldViolation
from runengine_client.payload import JsonObject, JsonValue, from_struct
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.states import CacheMode, CacheScope, FailurePolicy
from runengine_client.workflow.durations import format_duration
from runengine_client.workflow.reading import Fields, WorkflowDocumentError, read_texts


def workflow_of(document: object, source: str = "") -> workflow_pb2.Workflow:
    """The message a document describes; what it leaves out stays unset, and the server fills in its defaults.

    Args:
        document: a JSON value with the keys of the file format.
        source: the file, for the error.

    Raises:
        WorkflowDocumentError: unknown keys, missing or wrong values; all of them at once.
    """
    violations: list[FieldViolation] = []
    fields = Fields(document, "", violations)
    workflow = workflow_pb2.Workflow(
        name=fields.text("workflowName", is_required=True),
        version=fields.text("version", is_required=True),
        description=fields.text("description"),
        steps=[_step(step) for step in fields.list_of("steps")],
        change_requests=[_rule(*entry, violations) for entry in fields.entries("changeRequests")],
        trigger_schema=fields.struct("triggerSchema"),
        cache_epoch=fields.text("cacheEpoch"),
        failure_policy=fields.choice("failurePolicy", workflow_pb2.FailurePolicy),
        labels=fields.text_map("labels"),
    )
    fields.finish()
    if violations:
        raise WorkflowDocumentError(violations, source)
    return workflow


def _step(fields: Fields) -> workflow_pb2.StepDefinition:
    step = workflow_pb2.StepDefinition(
        step_id=fields.text("stepId", is_required=True),
        skill_id=fields.text("skillId", is_required=True),
        depends_on=fields.texts("dependsOn"),
        input_selector=fields.struct("inputSelector"),
        cache_policy=_cache_policy(fields.nested("cachePolicy")),
        retry_policy=_retry_policy(fields.nested("retryPolicy")),
        timeout=fields.duration("timeout"),
        description=fields.text("description"),
        verify_artifacts=fields.boolean("verifyArtifacts"),
    )
    fields.finish()
    return step


def _cache_policy(fields: Fields | None) -> workflow_pb2.CachePolicy | None:
    if fields is None:
        return None
    policy = workflow_pb2.CachePolicy(
        enabled=fields.boolean("enabled", default=True),
        scope=fields.choice("scope", workflow_pb2.CacheScope),
        hot_ttl=fields.duration("hotTtl"),
    )
    fields.finish()
    return policy


def _retry_policy(fields: Fields | None) -> workflow_pb2.RetryPolicy | None:
    if fields is None:
        return None
    policy = workflow_pb2.RetryPolicy(
        max_attempts=fields.integer("maxAttempts", least=1),
        backoff_ms=fields.integer("backoffMs", least=0),
        max_backoff_ms=fields.integer("maxBackoffMs", least=0),
        non_retryable_codes=fields.texts("nonRetryableCodes"),
    )
    fields.finish()
    return policy


def _rule(
    change_type: str, path: str, value: object, violations: list[FieldViolation]
) -> workflow_pb2.ChangeRequestRule:
    if isinstance(value, list | tuple):
        return workflow_pb2.ChangeRequestRule(type=change_type, seed_step_ids=read_texts(value, path, violations))
    fields = Fields(value, path, violations)
    rule = workflow_pb2.ChangeRequestRule(
        type=change_type,
        seed_step_ids=fields.texts("seedStepIds"),
        cache_mode=fields.choice("cacheMode", workflow_pb2.CacheMode),
        description=fields.text("description"),
    )
    fields.finish()
    return rule


def document_of(workflow: workflow_pb2.Workflow) -> JsonObject:
    """The document that describes a workflow; reading it gives the same message, but for digest and created_at."""
    document: JsonObject = {"workflowName": workflow.name, "version": workflow.version}
    if workflow.description:
        document["description"] = workflow.description
    document["steps"] = [_step_document(step) for step in workflow.steps]
    rules: JsonObject = {rule.type: _rule_document(rule) for rule in workflow.change_requests}
    further: dict[str, JsonValue] = {
        "changeRequests": rules,
        "cacheEpoch": workflow.cache_epoch,
        "failurePolicy": _word(enum_of(FailurePolicy, workflow_pb2.FailurePolicy, workflow.failure_policy)),
        "labels": dict(workflow.labels),
    }
    document |= {key: value for key, value in further.items() if value}
    if workflow.HasField("trigger_schema"):
        document["triggerSchema"] = from_struct(workflow.trigger_schema)
    return document


def _step_document(step: workflow_pb2.StepDefinition) -> JsonObject:
    document: JsonObject = {"stepId": step.step_id, "skillId": step.skill_id}
    if step.description:
        document["description"] = step.description
    if step.depends_on:
        document["dependsOn"] = list(step.depends_on)
    if step.HasField("input_selector"):
        document["inputSelector"] = from_struct(step.input_selector)
    if step.HasField("cache_policy"):
        policy: dict[str, JsonValue] = {"enabled": step.cache_policy.enabled}
        if step.cache_policy.scope:
            policy["scope"] = _word(enum_of(CacheScope, workflow_pb2.CacheScope, step.cache_policy.scope))
        if step.cache_policy.HasField("hot_ttl"):
            policy["hotTtl"] = format_duration(step.cache_policy.hot_ttl.ToTimedelta())
        document["cachePolicy"] = policy
    if step.HasField("retry_policy"):
        retry: dict[str, JsonValue] = {
            "maxAttempts": step.retry_policy.max_attempts,
            "backoffMs": step.retry_policy.backoff_ms,
            "maxBackoffMs": step.retry_policy.max_backoff_ms,
            "nonRetryableCodes": list(step.retry_policy.non_retryable_codes),
        }
        document["retryPolicy"] = {key: value for key, value in retry.items() if value}
    if step.HasField("timeout"):
        document["timeout"] = format_duration(step.timeout.ToTimedelta())
    if step.verify_artifacts:
        document["verifyArtifacts"] = True
    return document


def _rule_document(rule: workflow_pb2.ChangeRequestRule) -> JsonObject:
    document: JsonObject = {"seedStepIds": list(rule.seed_step_ids)}
    if rule.cache_mode:
        document["cacheMode"] = _word(enum_of(CacheMode, workflow_pb2.CacheMode, rule.cache_mode))
    if rule.description:
        document["description"] = rule.description
    return document


def _word(member: StrEnum | None) -> str | None:
    """The member as plain text: YAML writers refuse a subclass of str."""
    return None if member is None else member.value

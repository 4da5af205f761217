"""How a workflow lies in `workflow_definitions.definition`: lossless JSON; digest and time have their own columns."""

from datetime import datetime
from typing import Final, TypedDict, cast

import orjson

from runengine_server.domain.ids import SkillId, StepId, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.states import CacheMode, CacheScope, FailurePolicy
from runengine_server.domain.workflow import CachePolicy, ChangeRule, RetryPolicy, StepDefinition, Workflow

_FORMAT: Final = 1


class _Step(TypedDict):
    stepId: str
    skillId: str
    dependsOn: list[str]
    inputSelector: JsonObject
    cacheEnabled: bool
    cacheScope: int
    hotTtlS: int
    maxAttempts: int
    backoffMs: int
    maxBackoffMs: int
    nonRetryableCodes: list[str]
    timeoutS: float | None
    description: str
    verifyArtifacts: bool


class _Rule(TypedDict):
    type: str
    seedStepIds: list[str]
    cacheMode: int | None
    description: str


class _Definition(TypedDict):
    format: int
    name: str
    version: str
    description: str
    steps: list[_Step]
    changeRules: list[_Rule]
    triggerSchema: JsonObject | None
    cacheEpoch: str
    failurePolicy: int
    labels: dict[str, str]


def encode_workflow(workflow: Workflow) -> bytes:
    """The bytes of a validated workflow's content."""
    definition: _Definition = {
        "format": _FORMAT,
        "name": workflow.name,
        "version": workflow.version,
        "description": workflow.description,
        "steps": [_step_fields(step) for step in workflow.steps],
        "changeRules": [_rule_fields(rule) for rule in workflow.change_rules],
        "triggerSchema": workflow.trigger_schema,
        "cacheEpoch": workflow.cache_epoch,
        "failurePolicy": int(workflow.failure_policy),
        "labels": dict(workflow.labels),
    }
    return orjson.dumps(definition)


def decode_workflow(data: bytes, *, digest: WorkflowDigest, created_at: datetime | None) -> Workflow:
    """The workflow whose content `encode_workflow` wrote.

    Raises:
        ValueError: a newer release wrote it.
    """
    definition = cast(_Definition, orjson.loads(data))
    if definition["format"] != _FORMAT:
        raise ValueError(
            f"workflow {digest} is stored in format {definition['format']}, which this release cannot read"
        )
    return Workflow(
        name=definition["name"],
        version=definition["version"],
        description=definition["description"],
        steps=tuple(_step(fields) for fields in definition["steps"]),
        change_rules=tuple(_rule(fields) for fields in definition["changeRules"]),
        trigger_schema=definition["triggerSchema"],
        cache_epoch=definition["cacheEpoch"],
        failure_policy=FailurePolicy(definition["failurePolicy"]),
        labels=definition["labels"],
        digest=digest,
        created_at=created_at,
    )


def _step_fields(step: StepDefinition) -> _Step:
    cache, retry = step.cache_policy, step.retry_policy
    return {
        "stepId": step.step_id,
        "skillId": step.skill_id,
        "dependsOn": list(step.depends_on),
        "inputSelector": step.input_selector,
        "cacheEnabled": cache.enabled,
        "cacheScope": int(cache.scope),
        "hotTtlS": cache.hot_ttl_s,
        "maxAttempts": retry.max_attempts,
        "backoffMs": retry.backoff_ms,
        "maxBackoffMs": retry.max_backoff_ms,
        "nonRetryableCodes": list(retry.non_retryable_codes),
        "timeoutS": step.timeout_s,
        "description": step.description,
        "verifyArtifacts": step.verify_artifacts,
    }


def _step(fields: _Step) -> StepDefinition:
    return StepDefinition(
        step_id=StepId(fields["stepId"]),
        skill_id=SkillId(fields["skillId"]),
        depends_on=tuple(map(StepId, fields["dependsOn"])),
        input_selector=fields["inputSelector"],
        cache_policy=CachePolicy(
            enabled=fields["cacheEnabled"], scope=CacheScope(fields["cacheScope"]), hot_ttl_s=fields["hotTtlS"]
        ),
        retry_policy=RetryPolicy(
            max_attempts=fields["maxAttempts"],
            backoff_ms=fields["backoffMs"],
            max_backoff_ms=fields["maxBackoffMs"],
            non_retryable_codes=tuple(fields["nonRetryableCodes"]),
        ),
        timeout_s=fields["timeoutS"],
        description=fields["description"],
        verify_artifacts=fields["verifyArtifacts"],
    )


def _rule_fields(rule: ChangeRule) -> _Rule:
    return {
        "type": rule.type,
        "seedStepIds": list(rule.seed_step_ids),
        "cacheMode": None if rule.cache_mode is None else int(rule.cache_mode),
        "description": rule.description,
    }


def _rule(fields: _Rule) -> ChangeRule:
    mode = fields["cacheMode"]
    return ChangeRule(
        type=fields["type"],
        seed_step_ids=tuple(fields["seedStepIds"]),
        cache_mode=None if mode is None else CacheMode(mode),
        description=fields["description"],
    )

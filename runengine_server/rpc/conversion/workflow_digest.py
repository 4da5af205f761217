"""The digest of a workflow: SHA-256 of the RFC 8785 form of its proto JSON with defaults filled in.

Written out by hand rather than through protobuf's JSON printer (a test holds the two equal): it needs the domain only,
and another protobuf release must not change a digest.
"""

from runengine_server.domain.canonical_json import canonical_bytes, content_hash
from runengine_server.domain.ids import WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.states import CacheMode
from runengine_server.domain.workflow import ChangeRule, StepDefinition, Workflow

_NANOS_PER_S = 1_000_000_000


def workflow_digest(workflow: Workflow) -> WorkflowDigest:
    """The lower-case hex digest; `digest` and `created_at` do not count, the order of steps and rules does.

    Raises:
        NotCanonical: an input selector or the trigger schema holds a value without an RFC 8785 form.

    Source: SPEC, Workflow.
    """
    return WorkflowDigest(content_hash(canonical_bytes(workflow_json(workflow))))


def workflow_json(workflow: Workflow) -> JsonObject:
    """The workflow as proto JSON: camelCase names, enum value names, durations as seconds with an `s`."""
    json: JsonObject = {
        "name": workflow.name,
        "version": workflow.version,
        "description": workflow.description,
        "steps": [_step_json(step) for step in workflow.steps],
        "changeRequests": [_rule_json(rule) for rule in workflow.change_rules],
        "cacheEpoch": workflow.cache_epoch,
        "failurePolicy": f"FAILURE_POLICY_{workflow.failure_policy.name}",
        "labels": dict(workflow.labels),
    }
    if workflow.trigger_schema is not None:
        json["triggerSchema"] = workflow.trigger_schema
    return json


def _step_json(step: StepDefinition) -> JsonObject:
    cache, retry = step.cache_policy, step.retry_policy
    json: JsonObject = {
        "stepId": step.step_id,
        "skillId": step.skill_id,
        "dependsOn": list(step.depends_on),
        "inputSelector": step.input_selector,
        "cachePolicy": {
            "enabled": cache.enabled,
            "scope": f"CACHE_SCOPE_{cache.scope.name}",
            "hotTtl": _duration_json(cache.hot_ttl_s),
        },
        "retryPolicy": {
            "maxAttempts": retry.max_attempts,
            "backoffMs": retry.backoff_ms,
            "maxBackoffMs": retry.max_backoff_ms,
            "nonRetryableCodes": list(retry.non_retryable_codes),
        },
        "description": step.description,
        "verifyArtifacts": step.verify_artifacts,
    }
    if step.timeout_s is not None:
        json["timeout"] = _duration_json(step.timeout_s)
    return json


def _rule_json(rule: ChangeRule) -> JsonObject:
    return {
        "type": rule.type,
        "seedStepIds": list(rule.seed_step_ids),
        "cacheMode": f"CACHE_MODE_{(rule.cache_mode or CacheMode.DEFAULT).name}",
        "description": rule.description,
    }


def _duration_json(seconds: float) -> str:
    """Seconds with 0, 3, 6 or 9 decimals, as few as hold the nanoseconds (protobuf's JSON form)."""
    nanos = round(seconds * _NANOS_PER_S)
    sign = "-" if nanos < 0 else ""
    whole, fraction = divmod(abs(nanos), _NANOS_PER_S)
    digits = f"{fraction:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{sign}{whole}{'.' if digits else ''}{digits}s"

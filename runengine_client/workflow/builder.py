"""Builds a workflow in Python, step by step, with the same checks and the same result as a file."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Self, TypedDict, Unpack

from runengine_client.keywords import refuse_unknown
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.states import CacheMode, CacheScope, FailurePolicy
from runengine_client.workflow.document import workflow_of
from runengine_client.workflow.durations import format_duration

Span = str | timedelta
"""A duration: a text such as "60s", or a timedelta."""


class WorkflowOptions(TypedDict, total=False):
    """What else a workflow may say; see the file format."""

    description: str
    trigger_schema: Mapping[str, object]
    cache_epoch: str
    failure_policy: FailurePolicy | str
    labels: Mapping[str, str]


class StepOptions(TypedDict, total=False):
    """What else a step may say; what is left out stays out, and the server decides.

    Keys:
        needs: ids of the steps it waits for.
        input: JSON template of its input; see `expression`.
        cache: True or "global", "run_only", or False.
        hot_ttl: how long the hot tier keeps its output, 24 h to 48 h.
        max_attempts: tries in all, 1 to 20.
        backoff_ms: least delay before the second try.
        max_backoff_ms: cap of the delay.
        non_retryable_codes: failure codes that end it at once.
        timeout: longest time of one attempt.
        description: what it is for.
        verify_artifacts: probe a cached output's artifacts before it is used; see docs/cache.md.
    """

    needs: Sequence[str]
    input: Mapping[str, object]
    cache: bool | CacheScope | str
    hot_ttl: Span
    max_attempts: int
    backoff_ms: int
    max_backoff_ms: int
    non_retryable_codes: Sequence[str]
    timeout: Span
    description: str
    verify_artifacts: bool


def expression(text: str) -> str:
    """A leaf of an input template that the engine evaluates, such as `expression("trigger.brief")`."""
    return f"${{{{ {text} }}}}"


class WorkflowBuilder:
    """Collects a workflow; every method returns the builder, `build` the message."""

    def __init__(self, name: str, *, version: str, **options: Unpack[WorkflowOptions]) -> None:
        """Start a workflow with its name and SemVer version."""
        refuse_unknown(options, WorkflowOptions)
        self._steps: list[object] = []
        self._changes: dict[str, object] = {}
        self._document: dict[str, object] = {
            "workflowName": name,
            "version": version,
            "description": options.get("description"),
            "steps": self._steps,
            "changeRequests": self._changes,
            "triggerSchema": options.get("trigger_schema"),
            "cacheEpoch": options.get("cache_epoch"),
            "failurePolicy": options.get("failure_policy"),
            "labels": options.get("labels"),
        }

    def step(self, step_id: str, *, skill: str, **options: Unpack[StepOptions]) -> Self:
        """Add a step that calls a skill; the order of steps is the order of lists and plans."""
        refuse_unknown(options, StepOptions)
        retry = {
            "maxAttempts": options.get("max_attempts"),
            "backoffMs": options.get("backoff_ms"),
            "maxBackoffMs": options.get("max_backoff_ms"),
            "nonRetryableCodes": options.get("non_retryable_codes"),
        }
        self._steps.append(
            {
                "stepId": step_id,
                "skillId": skill,
                "dependsOn": options.get("needs"),
                "inputSelector": options.get("input"),
                "cachePolicy": _cache(options.get("cache"), options.get("hot_ttl")),
                "retryPolicy": retry if any(value is not None for value in retry.values()) else None,
                "timeout": _span(options.get("timeout")),
                "description": options.get("description"),
                "verifyArtifacts": options.get("verify_artifacts"),
            }
        )
        return self

    def change(
        self,
        change_type: str,
        *,
        seeds: Sequence[str],
        cache_mode: CacheMode | str | None = None,
        description: str | None = None,
    ) -> Self:
        """Add a change request: its type and the steps it touches directly; `["*"]` (or "*") means every step.

        Raises:
            ValueError: the type is already there.
        """
        if change_type in self._changes:
            raise ValueError(f"the change request {change_type!r} is already defined")
        self._changes[change_type] = {
            "seedStepIds": [seeds] if isinstance(seeds, str) else list(seeds),
            "cacheMode": cache_mode,
            "description": description,
        }
        return self

    def build(self) -> workflow_pb2.Workflow:
        """The workflow, for `register_workflow`.

        Raises:
            WorkflowDocumentError: something in it is not of the kind it must be; all of it at once.
        """
        return workflow_of(self._document)


def _cache(cache: bool | CacheScope | str | None, hot_ttl: Span | None) -> dict[str, object] | None:
    if cache is None and hot_ttl is None:
        return None
    return {
        "enabled": cache is not False,
        "scope": cache if isinstance(cache, str) else None,
        "hotTtl": _span(hot_ttl),
    }


def _span(value: Span | None) -> str | None:
    return format_duration(value) if isinstance(value, timedelta) else value

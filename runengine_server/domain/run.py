"""A run and its steps as callers see them: read models, derived and never stored as such."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.events import StepProgress, StepsSummary
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, SkillId, StepId, WorkflowDigest
from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.domain.states import OutputSource, RunStatus, StepStatus, TriggerType


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRequest:
    """What someone wants changed: a type the workflow knows and a payload merged onto the base's."""

    type: str
    payload: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """What reuse saved: skipped steps and the seconds their producers took."""

    skipped_steps: int
    seconds_saved: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a workflow; `trigger_payload` is the effective one, None in the BASIC view."""

    id: RunId
    workflow_name: str
    workflow_version: str
    workflow_digest: WorkflowDigest
    status: RunStatus
    trigger_type: TriggerType
    steps_summary: StepsSummary
    created_at: datetime
    updated_at: datetime
    last_sequence: int
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error: Failure | None = None
    base_run_id: RunId | None = None
    root_run_id: RunId | None = None
    trigger_payload: JsonObject | None = None
    change_request: ChangeRequest | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    cancel_reason: str = ""
    request_id: str = ""
    principal: str = ""
    deadline: datetime | None = None
    priority: int = 0
    failed_step: StepId | None = None
    savings: Savings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAttempt:
    """One failed try of a step's skill."""

    attempt: int
    started_at: datetime
    ended_at: datetime | None
    error: Failure | None
    worker_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a run; `input`, `output` and `attempts` only in the FULL view."""

    run_id: RunId
    step_id: StepId
    skill_id: SkillId
    status: StepStatus
    depends_on: tuple[StepId, ...]
    level: int
    attempt: int
    max_attempts: int
    lease_losses: int = 0
    input_hash: str = ""
    cache_key: str = ""
    output_source: OutputSource | None = None
    source_run_id: RunId | None = None
    progress: StepProgress | None = None
    error: Failure | None = None
    ready_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    next_attempt_at: datetime | None = None
    duration_ms: int | None = None
    input: JsonObject | None = None
    output: JsonValue = None
    attempts: tuple[StepAttempt, ...] = ()
    cache: CacheDecision | None = None
    output_artifact_ids: tuple[str, ...] = ()

"""What the client returns: runs, steps, artifacts and plans as frozen values.

A field that the server left unset is None (or empty, for collections and texts); times are aware UTC. An enum value
that this client does not know yet reads `unknown`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from runengine_client.payload import JsonObject
from runengine_client.states import (
    CacheOutcome,
    CacheTier,
    MissReason,
    OutputSource,
    PlanAction,
    PlanReason,
    RunStatus,
    StepStatus,
    TriggerType,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsSummary:
    """The steps of a run by status; `pending` counts ready ones too."""

    total: int = 0
    pending: int = 0
    running: int = 0
    completed: int = 0
    skipped: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt, a step or a run failed; `code` is stable upper snake case."""

    code: str
    message: str = ""
    retryable: bool = False
    details: JsonObject | None = None
    step_id: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRequest:
    """What an update changed; `payload` is None in the basic view."""

    type: str
    payload: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """What reuse saved so far."""

    skipped_steps: int = 0
    seconds_saved: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a workflow; `trigger_payload` is the effective one, None in the basic view."""

    id: str
    workflow_name: str
    workflow_version: str
    workflow_digest: str
    status: RunStatus
    trigger_type: TriggerType
    steps_summary: StepsSummary
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    updated_at: datetime | None = None
    deadline: datetime | None = None
    error: Failure | None = None
    failed_step: str = ""
    base_run_id: str = ""
    root_run_id: str = ""
    trigger_payload: JsonObject | None = None
    change_request: ChangeRequest | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    cancel_reason: str = ""
    request_id: str = ""
    principal: str = ""
    last_sequence: int = 0
    savings: Savings = Savings()

    @property
    def duration(self) -> timedelta | None:
        """From the first lease to the end; None until both are known."""
        if self.started_at is None or self.completed_at is None:
            return None
        return self.completed_at - self.started_at


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheDecision:
    """What the step cache did for a step, and why."""

    outcome: CacheOutcome
    tier: CacheTier | None = None
    key: str = ""
    source_run_id: str = ""
    source_step_id: str = ""
    age: timedelta | None = None
    miss_reason: MissReason | None = None
    changed_pointers: tuple[str, ...] = ()
    nearest_run_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgress:
    """How far a running skill says it is; `fraction` 0 to 1."""

    fraction: float = 0.0
    message: str = ""
    reported_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAttempt:
    """One try of a step's skill."""

    attempt: int
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: Failure | None = None
    worker_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of one run; `input`, `output` and `attempts` only in the full view."""

    run_id: str
    step_id: str
    skill_id: str
    status: StepStatus
    depends_on: tuple[str, ...] = ()
    level: int = 0
    attempt: int = 0
    max_attempts: int = 0
    lease_losses: int = 0
    input_hash: str = ""
    cache_key: str = ""
    cache: CacheDecision | None = None
    output_source: OutputSource | None = None
    source_run_id: str = ""
    progress: StepProgress | None = None
    error: Failure | None = None
    ready_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    next_attempt_at: datetime | None = None
    duration_ms: int = 0
    input: JsonObject | None = None
    output: JsonObject | None = None
    attempts: tuple[StepAttempt, ...] = ()
    output_artifact_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something a step published: a reference to bytes kept elsewhere."""

    id: str
    run_id: str
    step_id: str
    type: str
    uri: str
    content_hash: str
    size_bytes: int = 0
    filename: str = ""
    metadata: JsonObject | None = None
    created_at: datetime | None = None
    source: OutputSource | None = None
    source_run_id: str = ""
    skill_id: str = ""
    skill_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """What a plan does with one step, and why."""

    step_id: str
    action: PlanAction
    reason: PlanReason
    caused_by: tuple[str, ...] = ()
    changed_pointers: tuple[str, ...] = ()
    unknown_until: tuple[str, ...] = ()
    estimate: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildPlan:
    """What a run will execute and reuse; pass `digest` as `expected_plan_digest` to run exactly this."""

    steps: tuple[PlannedStep, ...]
    execute_count: int
    reuse_count: int
    unknown_count: int
    seed_step_ids: tuple[str, ...] = ()
    digest: str = ""
    base_run_id: str = ""
    estimate: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The server's answer to a trigger, an update or a retry; `run_id` is empty when it only planned."""

    run_id: str
    status: RunStatus
    message: str
    is_deduplicated: bool = False
    plan: RebuildPlan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The run after Cancel, and the server's word on what the call did."""

    run: Run
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepExplanation:
    """Why a step ran, was reused, waits or failed, in sentences."""

    step: Step
    text: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDiff:
    """One step in two runs, None where a run has none; `input_pointers` lead to what differs in its input."""

    step_id: str
    left: Step | None = None
    right: Step | None = None
    input_pointers: tuple[str, ...] = ()
    output_changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Two runs step by step; the root causes differ on their own account, the others only in consequence."""

    steps: tuple[StepDiff, ...]
    root_cause_step_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchToken:
    """What reads one run until it expires: `?access_token=` of the run's HTTP resources. A secret until then."""

    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageEdge:
    """A step made one artifact from another."""

    from_artifact_id: str
    to_artifact_id: str
    step_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where an artifact comes from: the one asked for first, and what was made from what."""

    artifacts: tuple[Artifact, ...]
    edges: tuple[LineageEdge, ...] = ()

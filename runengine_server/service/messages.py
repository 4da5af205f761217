"""What goes into and comes out of the use cases: transport-neutral requests and answers, parsed but not yet checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.events import RunEvent
from runengine_server.domain.ids import RunId, StepId
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.run import Run, Step
from runengine_server.domain.states import CacheMode, FailurePolicy, RunStatus, StepStatus, TriggerType
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.artifact_store import ArtifactBytes, BytesElsewhere
from runengine_server.ports.cache_admin import FiledEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerRequest:
    """Start a run; empty `workflow_version` means the highest; `deadline_s` in seconds from now."""

    workflow_name: str
    trigger_payload: JsonObject
    request_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    workflow_version: str = ""
    validate_only: bool = False
    deadline_s: float | None = None
    priority: int = 0
    cache_mode: CacheMode | None = None
    failure_policy: FailurePolicy | None = None
    force_step_ids: Sequence[str] = ()
    expected_plan_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerUpdateRequest:
    """Partially rebuild a completed run; empty `workflow_version` means the base's."""

    base_run_id: str
    change_type: str
    change_payload: JsonObject
    request_id: str = ""
    validate_only: bool = False
    cache_mode: CacheMode | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    deadline_s: float | None = None
    priority: int = 0
    force_step_ids: Sequence[str] = ()
    expected_plan_digest: str = ""
    strict_impact: bool = False
    workflow_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRunRequest:
    """Finish a failed or cancelled run in a new one."""

    run_id: str
    request_id: str = ""
    validate_only: bool = False
    expected_plan_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerAnswer:
    """What Trigger, TriggerUpdate and RetryRun say; `run_id` is None for validate-only."""

    run_id: RunId | None
    status: RunStatus | None
    message: str
    deduplicated: bool = False
    plan: RebuildPlan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswer:
    """The run after Cancel, and whether this call changed it, in words."""

    run: Run
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRunsRequest:
    """Filter and page of runs, newest first."""

    page_size: int = 0
    page_token: str = ""
    workflow_name: str = ""
    statuses: Sequence[RunStatus] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    base_run_id: str = ""
    created_after: datetime | None = None
    created_before: datetime | None = None
    trigger_type: TriggerType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Runs, newest first; empty token on the last page."""

    runs: tuple[Run, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListStepsRequest:
    """Filter and page of a run's steps, in definition order; `is_full` adds input, output and attempts."""

    run_id: str
    page_size: int = 0
    page_token: str = ""
    statuses: Sequence[StepStatus] = ()
    is_full: bool = False
    step_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPage:
    """Steps in definition order, as of an event sequence."""

    steps: tuple[Step, ...]
    next_page_token: str
    as_of_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListArtifactsRequest:
    """Page of a run's artifacts, in definition order of their steps."""

    run_id: str
    page_size: int = 0
    page_token: str = ""
    step_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPage:
    """Artifacts; empty token on the last page."""

    artifacts: tuple[Artifact, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepExplanation:
    """A step in the BASIC view and why it is as it is, in sentences, the most important first."""

    step: Step
    text: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDiff:
    """A step in two runs, None where a run has none; `input_pointers` as far as they were looked at."""

    step_id: StepId
    left: Step | None
    right: Step | None
    input_pointers: tuple[str, ...]
    output_changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """The steps of two runs, in order of the right one's definition, and those that differ on their own account."""

    steps: tuple[StepDiff, ...]
    root_cause_step_ids: tuple[StepId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowPage:
    """Workflows by name, highest version first; empty token on the last page."""

    workflows: tuple[Workflow, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterWorkflowAnswer:
    """The registered workflow, whether it is new, and warnings for a person."""

    workflow: Workflow
    is_created: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCacheEntriesRequest:
    """Filter and page of cache entries, newest first; an empty name means any."""

    page_size: int = 0
    page_token: str = ""
    workflow_name: str = ""
    step_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntryPage:
    """Cache entries, newest first; empty token on the last page."""

    entries: tuple[FiledEntry, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidateCacheRequest:
    """Remove the entries that match every field that is set, or only count them; `reason` is for the audit log."""

    key: str = ""
    workflow_name: str = ""
    step_id: str = ""
    source_run_id: str = ""
    skill_id: str = ""
    cache_version: str = ""
    created_before: datetime | None = None
    validate_only: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """How the cache served one step of one workflow."""

    workflow_name: str
    step_id: StepId
    hot_hits: int
    cold_hits: int
    misses: int
    joined: int

    @property
    def hit_rate(self) -> float:
        """Answers that saved an execution per question, 0 … 1; 0 without any."""
        served = self.hot_hits + self.cold_hits + self.joined
        return served / (served + self.misses) if served else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactContent:
    """An artifact and its bytes, or where they can be had."""

    artifact: Artifact
    found: ArtifactBytes | BytesElsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchToken:
    """A token that reads one run until it expires; never logged."""

    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequest:
    """Watch a run; `after_sequence` None asks for a snapshot first; interval in seconds, 5 to 60."""

    run_id: str
    after_sequence: int | None = None
    include_progress: bool = False
    heartbeat_interval_s: float = 15.0
    step_ids: Sequence[str] = ()


class EncodedOnce:
    """What many watchers are told: a surface encodes it for the first of them and keeps the bytes for the others."""

    __slots__ = ("_encodings",)
    _encodings: dict[object, bytes]

    def encoded(self, encode: Callable[[Self], bytes]) -> bytes:
        """What `encode`, which must be a plain function, makes of it."""
        try:
            encodings = self._encodings
        except AttributeError:
            encodings = {}
            object.__setattr__(self, "_encodings", encodings)
        found = encodings.get(encode)
        if found is None:
            found = encodings[encode] = encode(self)
        return found


@dataclass(frozen=True, slots=True)
class ToldEvent(EncodedOnce):
    """An event in the messages that carry it."""

    event: RunEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSnapshot:
    """The run and (part of) its steps at the message's sequence; the last part has `more` false."""

    run: Run
    steps: tuple[Step, ...]
    reason: str  # "INITIAL" | "HISTORY_COMPACTED" | "SLOW_CONSUMER"
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvents:
    """At most 200 events, in order."""

    told: tuple[ToldEvent, ...]

    @property
    def events(self) -> tuple[RunEvent, ...]:
        """The events themselves."""
        return tuple(one.event for one in self.told)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchBookmark:
    """Nothing new up to the message's sequence."""

    server_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEnd:
    """The run is terminal and everything was delivered."""

    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchMessage(EncodedOnce):
    """One message of a watch; `sequence` is the resume token, except in a snapshot's parts before the last."""

    run_id: RunId
    sequence: int
    kind: WatchSnapshot | WatchEvents | WatchBookmark | WatchEnd

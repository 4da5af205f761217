"""The closed sets of the contract, as lower-case string enums: what a person reads and the HTTP surface prints."""

from enum import StrEnum


class RunStatus(StrEnum):
    """Where a run stands; the last three are terminal."""

    UNKNOWN = "unknown"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True when nothing changes any more."""
        return self in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)


class StepStatus(StrEnum):
    """Where a step stands; the last four are terminal."""

    UNKNOWN = "unknown"
    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True when nothing changes any more."""
        return self in (StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.FAILED, StepStatus.CANCELLED)


class QueueState(StrEnum):
    """Where a step of the queue stands."""

    UNKNOWN = "unknown"
    READY = "ready"
    DELAYED = "delayed"
    WAITING = "waiting"
    HELD = "held"
    RUNNING = "running"


class TriggerType(StrEnum):
    """How a run came to be."""

    UNKNOWN = "unknown"
    INITIAL = "initial"
    UPDATE = "update"
    RETRY = "retry"


class OutputSource(StrEnum):
    """Where an output or an artifact comes from."""

    UNKNOWN = "unknown"
    EXECUTED = "executed"
    BASE_RUN = "base_run"
    CACHE_HOT = "cache_hot"
    CACHE_COLD = "cache_cold"
    JOINED = "joined"


class CacheScope(StrEnum):
    """How far an output may be reused."""

    UNKNOWN = "unknown"
    GLOBAL = "global"
    RUN_ONLY = "run_only"


class CacheTier(StrEnum):
    """A tier of the step cache."""

    UNKNOWN = "unknown"
    HOT = "hot"
    COLD = "cold"


class CacheMode(StrEnum):
    """What a run does with the step cache."""

    UNKNOWN = "unknown"
    DEFAULT = "default"
    REFRESH = "refresh"
    READ_ONLY = "read_only"
    BYPASS = "bypass"


class CacheOutcome(StrEnum):
    """What the step cache did for a step."""

    UNKNOWN = "unknown"
    DISABLED = "disabled"
    HIT = "hit"
    MISS = "miss"
    JOINED = "joined"
    REFRESHED = "refreshed"
    BYPASSED = "bypassed"
    LOOKUP_FAILED = "lookup_failed"


class MissReason(StrEnum):
    """Why a cache lookup missed."""

    UNKNOWN = "unknown"
    NEVER_SEEN = "never_seen"
    INPUT_CHANGED = "input_changed"
    SKILL_CHANGED = "skill_changed"
    EPOCH_CHANGED = "epoch_changed"
    INVALIDATED = "invalidated"
    EVICTED = "evicted"
    SCOPE = "scope"
    ARTIFACT_GONE = "artifact_gone"


class PlanAction(StrEnum):
    """What a plan does with a step; `UNKNOWN` until other steps finish."""

    UNKNOWN = "unknown"
    EXECUTE = "execute"
    REUSE = "reuse"


class PlanReason(StrEnum):
    """Why a plan does so."""

    UNKNOWN = "unknown"
    INITIAL = "initial"
    SEED = "seed"
    DOWNSTREAM = "downstream"
    WIDENED = "widened"
    FORCED = "forced"
    NO_BASE_OUTPUT = "no_base_output"
    DEFINITION_CHANGED = "definition_changed"
    UNAFFECTED = "unaffected"
    INPUT_UNCHANGED = "input_unchanged"
    CACHED = "cached"


class FailurePolicy(StrEnum):
    """What happens to running attempts once a step has finally failed."""

    UNKNOWN = "unknown"
    FINISH_RUNNING = "finish_running"
    FAIL_FAST = "fail_fast"


class RunEventType(StrEnum):
    """What an event reports."""

    UNKNOWN = "unknown"
    RUN_STATUS = "run_status"
    STEP_STATUS = "step_status"
    STEP_PROGRESS = "step_progress"
    ARTIFACT = "artifact"


class SnapshotReason(StrEnum):
    """Why a watch sends a snapshot."""

    UNKNOWN = "unknown"
    INITIAL = "initial"
    HISTORY_COMPACTED = "history_compacted"
    SLOW_CONSUMER = "slow_consumer"

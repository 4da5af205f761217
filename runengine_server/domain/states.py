"""The closed sets of SPEC and API: states, sources, modes, reasons. Numbers equal the wire's and the database's."""

from enum import IntEnum


class RunStatus(IntEnum):
    """Where a run is; the last three absorb."""

    QUEUED = 1
    RUNNING = 2
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def is_terminal(self) -> bool:
        """True when nothing of the run changes any more."""
        return self >= RunStatus.COMPLETED


class StepStatus(IntEnum):
    """Where a step is; COMPLETED and later absorb."""

    PENDING = 1
    READY = 2
    RUNNING = 3
    COMPLETED = 4
    SKIPPED = 5
    FAILED = 6
    CANCELLED = 7

    @property
    def is_terminal(self) -> bool:
        """True when the step changes no more."""
        return self >= StepStatus.COMPLETED


_PENDING, _READY, _RUNNING = StepStatus.PENDING, StepStatus.READY, StepStatus.RUNNING

STEP_TRANSITIONS: dict[StepStatus, frozenset[StepStatus]] = {
    _PENDING: frozenset({_READY, _RUNNING, StepStatus.SKIPPED, StepStatus.CANCELLED}),
    _READY: frozenset({_RUNNING, StepStatus.SKIPPED, StepStatus.CANCELLED, _READY}),
    _RUNNING: frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.FAILED, _READY, StepStatus.CANCELLED}),
    StepStatus.COMPLETED: frozenset(),
    StepStatus.SKIPPED: frozenset(),
    StepStatus.FAILED: frozenset(),
    StepStatus.CANCELLED: frozenset(),
}
"""Every legal move of a step (SPEC: Run and step states); whatever is not here never happens."""


class TriggerType(IntEnum):
    """What started a run."""

    INITIAL = 1
    UPDATE = 2
    RETRY = 3


class OutputSource(IntEnum):
    """Where a finished step's output came from."""

    EXECUTED = 1
    BASE_RUN = 2
    CACHE_HOT = 3
    CACHE_COLD = 4
    JOINED = 5


class CacheScope(IntEnum):
    """Who may reuse a step's output: any run of the tenant, or its own run and runs based on it."""

    GLOBAL = 1
    RUN_ONLY = 2


class CacheTier(IntEnum):
    """HOT is Redis/Valkey, COLD is PostgreSQL."""

    HOT = 1
    COLD = 2


class CacheMode(IntEnum):
    """How a run uses the cache."""

    DEFAULT = 1
    REFRESH = 2
    READ_ONLY = 3
    BYPASS = 4

    @property
    def writes(self) -> bool:
        """True when successes of the run are stored."""
        return self in (CacheMode.DEFAULT, CacheMode.REFRESH)


class CacheOutcome(IntEnum):
    """What the cache said when a step asked."""

    DISABLED = 1
    HIT = 2
    MISS = 3
    JOINED = 4
    REFRESHED = 5
    BYPASSED = 6
    LOOKUP_FAILED = 7


class MissReason(IntEnum):
    """Why there was no entry to use."""

    NEVER_SEEN = 1
    INPUT_CHANGED = 2
    SKILL_CHANGED = 3
    EPOCH_CHANGED = 4
    INVALIDATED = 5
    EVICTED = 6
    SCOPE = 7
    ARTIFACT_GONE = 8


class PlanAction(IntEnum):
    """What a plan says of a step."""

    EXECUTE = 1
    REUSE = 2
    UNKNOWN = 3


class PlanReason(IntEnum):
    """Why the plan says it."""

    INITIAL = 1
    SEED = 2
    DOWNSTREAM = 3
    WIDENED = 4
    FORCED = 5
    NO_BASE_OUTPUT = 6
    DEFINITION_CHANGED = 7
    UNAFFECTED = 8
    INPUT_UNCHANGED = 9
    CACHED = 10


class FailurePolicy(IntEnum):
    """What happens to running attempts when a step finally fails."""

    FINISH_RUNNING = 1
    FAIL_FAST = 2


class RunEventType(IntEnum):
    """The kinds of events; STEP_PROGRESS has no sequence and is not stored."""

    RUN_STATUS = 1
    STEP_STATUS = 2
    STEP_PROGRESS = 3
    ARTIFACT = 4

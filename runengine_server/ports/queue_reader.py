"""What waits and runs right now, in numbers, for operators and tenants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from runengine_server.domain.ids import RunId, StepNo, Tenant, WorkflowDigest


class QueueState(IntEnum):
    """Where a step of the queue stands; each is in one of these, whether it is stuck or not.

    READY may be leased now, DELAYED waits for its backoff, WAITING for another run's identical step; HELD is leased and
    waits for a slot of its skill, RUNNING is leased and on its way to, in or back from its skill.
    """

    READY = 1
    DELAYED = 2
    WAITING = 3
    HELD = 4
    RUNNING = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueGroup:
    """Steps that are alike: those of one step of one workflow version, in one state.

    `workflow_digest` and `step` are None for what is counted without a name. `oldest_ms` is the age of the oldest.
    `is_stuck`: a ready step that nobody took for 30 s, a leased one 10 s beyond its timeout or whose engine is dead.
    """

    workflow_digest: WorkflowDigest | None
    step: StepNo | None
    state: QueueState
    is_stuck: bool
    steps: int
    oldest_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedStep:
    """One step of the queue; `since` is when it came into its state, `next_attempt_at` set where it is delayed."""

    run_id: RunId
    workflow_name: str
    workflow_digest: WorkflowDigest
    step: StepNo
    state: QueueState
    attempt: int
    since: datetime
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class Depth:
    """How many steps, and the age of the oldest in milliseconds (0 without any)."""

    steps: int = 0
    oldest_ms: int = 0

    def __add__(self, other: "Depth") -> "Depth":
        """Both together."""
        return Depth(self.steps + other.steps, max(self.oldest_ms, other.oldest_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepths:
    """Depth by state, every state in it; `stuck` steps are counted in their state as well."""

    by_state: Mapping[QueueState, Depth] = field(default_factory=lambda: dict.fromkeys(QueueState, Depth()))
    stuck: Depth = Depth()

    @property
    def steps(self) -> int:
        """How many steps there are in all."""
        return sum(depth.steps for depth in self.by_state.values())


class QueueReader(Protocol):
    """Reads the queue; what it costs grows with the queue, so its answers are to be kept a while."""

    async def groups(self, tenant: Tenant | None) -> Sequence[QueueGroup]:
        """The steps of a tenant's runs, or of all, counted; at most 1,000,000 steps and about 10,000 groups."""

    async def conspicuous(self, tenant: Tenant, limit: int) -> Sequence[QueuedStep]:
        """A tenant's delayed steps, the next to be tried first, then its stuck ones, the longest first.

        At most `limit` of either.
        """

    async def engines_alive(self) -> int:
        """How many engines hold a lease."""

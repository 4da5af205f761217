"""The step cache's key, fingerprint and decisions (SPEC: Step cache)."""

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import NewType

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.ids import RunId, RunKey, StepId, StepNo, Tenant
from runengine_server.domain.states import CacheOutcome, CacheTier, MissReason
from runengine_server.domain.value import value


@value(kw_only=True)
class CacheKey:
    """What an entry is filed under, for one tenant: `{workflowName}:{stepId}:{inputHash}`."""

    tenant: Tenant
    workflow_name: str
    step_id: StepId
    input_hash: str

    def __str__(self) -> str:
        """The key exactly as SPEC writes it."""
        return f"{self.workflow_name}:{self.step_id}:{self.input_hash}"


@value(kw_only=True)
class Fingerprint:
    """What must also be equal for an entry to be used: who made it, as which cache version, in which epoch."""

    skill_id: str
    cache_version: str
    cache_epoch: str


FlightId = NewType("FlightId", bytes)
"""Names a (tenant, key, fingerprint): the first half of its SHA-256."""

FLIGHT_ID_BYTES = 16

Claimant = tuple[RunKey, StepNo]
"""The step that asks in order to execute on a miss, and so to lead the flight or to follow its leader."""


@value(kw_only=True)
class CacheQuery:
    """A key to look up: the fingerprint an entry must have, and whether its artifacts must still be there.

    Attributes:
        claimant: will execute where there is no entry.
        filed_after: an entry that is not later is none, for it has already been turned down.
        is_promoted: whether an entry that only the cold tier has is to be kept in the hot one.
    """

    key: CacheKey
    fingerprint: Fingerprint
    hot_ttl_s: int
    verify_artifacts: bool = False
    claimant: Claimant | None = None
    filed_after: datetime | None = None
    is_promoted: bool = True

    @property
    def flight(self) -> FlightId:
        """The flight of this key and fingerprint."""
        key, fingerprint = self.key, self.fingerprint
        parts = (
            key.tenant, key.workflow_name, key.step_id, key.input_hash,
            fingerprint.skill_id, fingerprint.cache_version, fingerprint.cache_epoch,
        )  # fmt: skip
        return FlightId(sha256("\0".join(parts).encode()).digest()[:FLIGHT_ID_BYTES])


@value(kw_only=True)
class Producer:
    """The run and step that executed and committed an output; reuse always names this, never a copy."""

    run: RunKey
    step: StepNo
    run_id: RunId
    step_id: StepId


@value(kw_only=True)
class CacheEntry:
    """A committed success that may be reused: canonical output bytes, their hash and artifacts.

    `generation`: how many removals there had been from its tenant's workflow when it was known to be in the cold tier,
    or not to be committed yet; None when nobody knows. A hot value of another generation may have been removed.
    """

    key: CacheKey
    fingerprint: Fingerprint
    producer: Producer
    output: bytes
    output_hash: str
    artifacts: tuple[ProducedArtifact, ...]
    created_at: datetime
    generation: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheHit:
    """The cache has a usable entry."""

    entry: CacheEntry
    tier: CacheTier


@value(kw_only=True)
class CacheMiss:
    """The cache has no usable entry; `reason` is None when only a failed lookup is to blame.

    `generation` is the one an entry gets that is made because of this miss. `outdated_at`: when the entry was filed
    that there is but cannot be used, such as one of another version of the skill; None where there is none.
    """

    reason: MissReason | None
    generation: int | None = field(default=None, compare=False)
    outdated_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFlight:
    """The cache has no usable entry yet: another step executes it right now. Only a claimant is told."""

    flight: FlightId


CacheAnswer = CacheHit | CacheMiss | CacheFlight


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheDecision:
    """What the cache said for a step and why: recorded with its result."""

    outcome: CacheOutcome
    tier: CacheTier | None = None
    key: str = ""
    source_run_id: RunId | None = None
    source_step_id: StepId | None = None
    age_s: float | None = None
    miss_reason: MissReason | None = None
    changed_pointers: tuple[str, ...] = field(default=())
    nearest_run_id: RunId | None = None

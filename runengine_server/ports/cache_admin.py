"""The step cache as an administrator sees it: entries to look at and to remove, and how the cache has served."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from runengine_server.domain.cache import Fingerprint
from runengine_server.domain.ids import RunId, RunKey, StepId, StepNo, Tenant, WorkflowDigest

SAMPLE_KEYS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSelector:
    """Which entries of a tenant: those that match every field that is not None; `input_hash` needs its step."""

    workflow_name: str | None = None
    step_id: str | None = None
    input_hash: str | None = None
    source_run_id: RunId | None = None
    skill_id: str | None = None
    cache_version: str | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPosition:
    """A place in the list of entries, newest first."""

    created_at: datetime
    run: RunKey
    step: StepNo


@dataclass(frozen=True, slots=True, kw_only=True)
class FiledEntry:
    """An entry of the cold tier; `size_bytes` of its canonical output, which is there only when it was asked for.

    The source run's id is empty when the run itself is gone.
    """

    key: str
    source_run_id: RunId
    source_step_id: StepId
    fingerprint: Fingerprint
    position: EntryPosition
    size_bytes: int
    output: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingEntries:
    """How many entries a selector matched, and the keys of at most 20 of them, newest first."""

    count: int
    sample_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounts:
    """What the cache answered for one step of one workflow version, over finished steps of retained runs."""

    workflow_name: str
    workflow_digest: WorkflowDigest
    step: StepNo
    hot_hits: int
    cold_hits: int
    misses: int
    joined: int


class CacheAdmin(Protocol):
    """Cache entries of one tenant; every call may raise UnavailableError."""

    async def entry(
        self, tenant: Tenant, workflow_name: str, step_id: str, input_hash: str, *, with_output: bool
    ) -> FiledEntry | None:
        """The entry with this key, or None."""

    async def entries(
        self, tenant: Tenant, workflow_name: str, step_id: str, *, after: EntryPosition | None, limit: int
    ) -> Sequence[FiledEntry]:
        """Up to `limit` entries behind a position, newest first; an empty name means any."""

    async def count(self, tenant: Tenant, selector: CacheSelector) -> MatchingEntries:
        """What `invalidate` would remove now; changes nothing."""

    async def invalidate(self, tenant: Tenant, principal: str, selector: CacheSelector, reason: str) -> MatchingEntries:
        """Remove entries: no lookup that begins after it returned finds one that matched, in either tier.

        Successes filed meanwhile may stay. Works in bounded transactions, each with its audit row; interrupted, what
        was removed stays removed and a repetition does the rest.
        """

    async def counts(self, tenant: Tenant, workflow_name: str) -> Sequence[CacheCounts]:
        """What the cache answered, by workflow version and step; an empty name means every workflow."""

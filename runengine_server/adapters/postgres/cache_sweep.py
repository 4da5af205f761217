"""Walks the cold tier in bounded steps, removing or counting what matches; invalidation and clean-up share it."""

from dataclasses import dataclass
from datetime import datetime

from runengine_server.adapters.postgres.database import Connection
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.ids import RunKey, Tenant
from runengine_server.domain.states import MissReason

# One step locks and rewrites at most so many entries, in one transaction: about 50 ms.
WINDOW = 5_000

Place = tuple[str, str, str, bytes]
"""Tenant, workflow, step and input hash: where in the table a step begins, inclusive."""

START: Place = ("", "", "", b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which entries; None matches everything. Tenant, workflow and step end the walk where they end."""

    tenant: Tenant | None = None
    workflow_name: str | None = None
    step_id: str | None = None
    input_hash: bytes | None = None
    run: RunKey | None = None
    skill_id: str | None = None
    cache_version: str | None = None
    created_before: datetime | None = None

    @property
    def start(self) -> Place:
        """The first place where an entry can match."""
        if self.tenant is None or self.workflow_name is None:
            return self.tenant or "", "", "", b""
        if self.step_id is None:
            return self.tenant, self.workflow_name, "", b""
        return self.tenant, self.workflow_name, self.step_id, self.input_hash or b""

    @property
    def window(self) -> int:
        """How many entries to look at in one step: with a whole key there is but one."""
        return 1 if self.input_hash is not None else WINDOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one step matched, a sample of the keys with their times, and where the next step begins."""

    matched: int
    sample: list[tuple[datetime, str]]
    next: Place | None


async def sweep(connection: Connection, place: Place, match: Match, removal: MissReason | None) -> Swept:
    """Remove what matches from `place` on as `removal` (INVALIDATED, EVICTED), or only count it; one transaction."""
    row = await connection.fetchrow(
        sql("step_cache_sweep"),
        *place,
        match.window,
        removal,
        match.tenant,
        match.workflow_name,
        match.step_id,
        match.input_hash,
        match.run,
        match.skill_id,
        match.cache_version,
        match.created_before,
    )
    assert row is not None, "a function without a set answers with one row"
    has_more = match.input_hash is None and row["next_tenant"] is not None
    return Swept(
        matched=row["matched"],
        sample=list(zip(row["sample_at"], row["sample_keys"], strict=True)),
        next=(row["next_tenant"], row["next_workflow"], row["next_step"], row["next_hash"]) if has_more else None,
    )

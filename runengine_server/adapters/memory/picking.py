"""Which queued steps a turn leases next, in memory: what the SQL function `steps_pick` does."""

from collections.abc import Sequence
from dataclasses import dataclass

from runengine_server.adapters.memory.tables import MemoryTables
from runengine_server.domain.ids import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """Steps in the order of their lease; `has_more`: a tenant has more; `next_at`: when the next delay ends."""

    places: Sequence[Place]
    has_more: bool
    next_at: float | None


def pick(tables: MemoryTables, now: float, capacity: int) -> Picked:
    """Up to `capacity` steps: a share for each tenant that has any, by priority and readiness within a tenant."""
    waiting: dict[str, list[tuple[int, float, Place]]] = {}
    for place, queued in tables.queue.items():
        if queued.is_free:
            new = tables.runs[place[0]].new
            waiting.setdefault(new.tenant, []).append((-new.priority, queued.available_at, place))
    tenants = sorted(waiting)
    first = tables.picks % len(tenants) if tenants else 0  # PostgreSQL draws lots
    tables.picks += 1
    places: list[Place] = []
    has_more, next_at = False, None
    for position, tenant in enumerate(tenants[first:] + tenants[:first]):
        if len(places) >= capacity:
            break
        share = -(-(capacity - len(places)) // (len(tenants) - position))
        due = [place for _, available_at, place in sorted(waiting[tenant]) if available_at <= now]
        places += due[:share]
        has_more = has_more or len(due) >= share
        if len(due) < share:
            delayed = [available_at for _, available_at, _ in waiting[tenant] if available_at > now]
            next_at = min([*delayed, *([] if next_at is None else [next_at])], default=None)
    return Picked(places=places, has_more=has_more, next_at=next_at)

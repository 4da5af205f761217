"""Which queued steps a turn leases next, in memory: what the SQL function `steps_pick` does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runengine_server.adapters.memory.tables import MemoryTables
from runengine_server.domain.ids import Place, RunKey

RUNS_MAX = 16
"""So many of the oldest and of the newest runs of one priority get equal parts."""

_Level = dict[RunKey, list[tuple[float, Place]]]
"""The steps of one tenant and priority, by run: when they may be leased, and which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """Steps in the order of their lease; `has_more`: a tenant has more; `next_at`: when the next delay ends."""

    places: Sequence[Place]
    has_more: bool
    next_at: float | None


def pick(tables: MemoryTables, now: float, capacity: int) -> Picked:
    """Up to `capacity` steps: a share for each tenant that has any, by priority; of each, a part for every run."""
    waiting = _waiting(tables)
    tenants = tables.lots.sample(sorted(waiting), len(waiting))
    places: list[Place] = []
    delays: list[float] = []
    has_more = False
    for position, tenant in enumerate(tenants):
        if len(places) >= capacity:
            break
        share = -(-(capacity - len(places)) // (len(tenants) - position))
        taken: list[Place] = []
        for _, level in sorted(waiting[tenant].items(), reverse=True):
            taken += _pick_of_level(tables, level, now, share - len(taken))
            if len(taken) >= share:
                has_more = True
                break
            delays += [at for steps in level.values() for at, _ in steps if at > now]
        places += taken
    return Picked(places=places, has_more=has_more, next_at=min(delays, default=None))


def _waiting(tables: MemoryTables) -> Mapping[str, Mapping[int, _Level]]:
    found: dict[str, dict[int, _Level]] = {}
    for place, queued in tables.queue.items():
        if queued.is_free:
            new = tables.runs[place[0]].new
            level = found.setdefault(new.tenant, {}).setdefault(new.priority, {})
            level.setdefault(place[0], []).append((queued.available_at, place))
    return found


def _pick_of_level(tables: MemoryTables, level: _Level, now: float, room: int) -> list[Place]:
    """Equal parts for the oldest and the newest runs; what they leave goes in the order of readiness."""
    due = {run: found for run, steps in sorted(level.items()) if (found := sorted(s for s in steps if s[0] <= now))}
    runs = list(due)
    if len(runs) > 2 * RUNS_MAX:
        runs = runs[:RUNS_MAX] + runs[-RUNS_MAX:]
    part = max(1, room // max(1, len(runs)))
    if room < len(runs):
        runs = tables.lots.sample(runs, room)
    dealt = [place for run in runs for _, place in due[run][:part]]
    in_order = sorted(step for steps in due.values() for step in steps)
    left = [place for _, place in in_order if place not in dealt]
    return dealt + left[: room - len(dealt)]

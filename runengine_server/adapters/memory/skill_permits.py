"""Permits of limited skills in memory, by the rules of migrations/0010_skill_permits.sql; for tests and simulation."""

from collections.abc import Callable, Sequence

from runengine_server.adapters.memory.tables import MemoryTables, PermitRow
from runengine_server.domain.ids import EngineNo
from runengine_server.ports.skill_permits import PermitClaim, PermitGrant

_WANTS_S = 2.0


class MemorySkillPermits:
    """SkillPermits for the engines of some tables."""

    def __init__(self, tables: MemoryTables, on_freed: Callable[[], None] = lambda: None) -> None:
        """Share permits of `tables`; `on_freed` as on PostgreSQL."""
        self._tables = tables
        self._on_freed = on_freed

    async def exchange(self, engine: EngineNo, turn: int, claims: Sequence[PermitClaim]) -> Sequence[PermitGrant]:
        """See the port."""
        now, engines = self._tables.now(), self._tables.engines
        earlier = [self._tables.permits.get(claim.skill_id, {}).get(engine) for claim in claims]
        if engines.get(engine, 0.0) <= now or any(row is not None and row.turn >= turn for row in earlier):
            return ()
        self._tables.permit_exchanges += 1
        grants, is_freeing = [], False
        for claim in claims:
            rows = self._tables.permits.setdefault(claim.skill_id, {})
            for gone in rows.keys() - engines.keys():
                del rows[gone]
            row = rows.setdefault(engine, PermitRow(turn=turn, limit=claim.limit, wanted=claim.wanted, asked_at=now))
            row.turn, row.limit, row.wanted, row.asked_at = turn, claim.limit, claim.wanted, now
            before = row.held
            self._hold(row, min(before, claim.kept))
            target, free, is_another_short = self._share(engine, rows, now)
            self._hold(row, max(row.held, min(target, free)))
            is_freeing = is_freeing or (is_another_short and row.held < before)
            grants.append(PermitGrant(skill_id=claim.skill_id, held=row.held, target=target))
        if is_freeing:
            self._on_freed()
        return grants

    def _hold(self, row: PermitRow, held: int) -> None:
        if row.held > 0 or held > 0:
            row.served = self._tables.permit_exchanges
        row.held = held

    def _share(self, engine: EngineNo, rows: dict[EngineNo, PermitRow], now: float) -> tuple[int, int, bool]:
        """What the engine should hold, what others do not hold, and whether one of them holds less than its part."""
        claims = {e: row for e, row in rows.items() if row.wanted > 0 and row.asked_at > now - _WANTS_S}
        total = min((row.limit for e, row in rows.items() if row.held > 0 or e in claims), default=0)
        free = total - sum(row.held for e, row in rows.items() if e != engine)
        is_scarce = len(claims) > total
        in_line = sorted(claims, key=lambda e: (-claims[e].served if is_scarce else min(claims[e].wanted, total), e))
        target, unshared, is_another_short = 0, total, False
        for place, each in enumerate(in_line):
            share = min(claims[each].wanted, total, unshared // (len(in_line) - place))
            unshared -= share
            if each == engine:
                target = share
            elif claims[each].held < share:
                is_another_short = True
        if target > 0:
            target += unshared // max(1, len(self._tables.engines))
        return target, free, is_another_short

"""Permits of limited skills on PostgreSQL: one statement an exchange, one row lock a skill."""

from collections.abc import Callable, Sequence

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.ids import EngineNo
from runengine_server.ports.skill_permits import PermitClaim, PermitGrant


class PostgresSkillPermits:
    """SkillPermits in the tables that all engines share."""

    def __init__(self, database: Database, on_freed: Callable[[], None] = lambda: None) -> None:
        """Hand out what the database has.

        Args:
            database: opened with PINNED_PLANS.
            on_freed: this engine gave back what another one waits for, which had better ask now.
        """
        self._database = database
        self._on_freed = on_freed

    async def exchange(self, engine: EngineNo, turn: int, claims: Sequence[PermitClaim]) -> Sequence[PermitGrant]:
        """See the port."""
        row = await self._database.fetchrow(
            sql("skill_permits_update"),
            engine,
            turn,
            [claim.skill_id for claim in claims],
            [claim.limit for claim in claims],
            [claim.wanted for claim in claims],
            [claim.kept for claim in claims],
        )
        assert row is not None, "a function returns a row"
        if row["s_skill"] is None:
            return ()
        if row["is_freeing"]:
            self._on_freed()
        return [
            PermitGrant(skill_id=skill_id, held=held, target=target)
            for skill_id, held, target in zip(row["s_skill"], row["s_held"], row["s_target"], strict=True)
        ]

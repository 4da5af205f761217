"""Permits of limited skills: how many attempts of each an engine may run, so that all together keep the limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runengine_server.domain.ids import EngineNo, SkillId


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitClaim:
    """What an engine says of a skill.

    Attributes:
        skill_id: the skill.
        limit: how many attempts at a time its runner takes, 1 or more, as this engine was told.
        wanted: attempts of this engine that run or wait.
        kept: permits it goes on using, of those it holds; it must have stopped using the others.
    """

    skill_id: SkillId
    limit: int
    wanted: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitGrant:
    """What an engine may use of a skill: `held` from now on; as its attempts end it should come down to `target`."""

    skill_id: SkillId
    held: int
    target: int


class SkillPermits(Protocol):
    """Hands out permits; those held by engines with a row never add up to more than the lowest limit they were told."""

    async def exchange(self, engine: EngineNo, turn: int, claims: Sequence[PermitClaim]) -> Sequence[PermitGrant]:
        """Give back and get permits, a grant for each claim; one transaction.

        No grants at all: nothing has changed, since the engine's own lease has ended or a later turn came first.
        Permits of an engine return when its row is removed: it retired, or was reaped after its lease ended.

        Idempotent by: engine and `turn`, which must grow with every call.

        Raises:
            UnavailableError: the outcome is unknown; the engine may use what it used before, and asks again.
        """

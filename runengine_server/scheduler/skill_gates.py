"""How many attempts of a skill this engine runs at once: what its runner asked for, so nothing waits over there."""

import anyio

from runengine_server.domain.ids import SkillId
from runengine_server.ports.skill_runner import SkillRunner


class SkillGates:
    """A gate for each skill whose runner named a limit; the limit is the runner's latest word."""

    def __init__(self, skills: SkillRunner) -> None:
        """Ask `skills` for limits."""
        self._skills = skills
        self._gates: dict[SkillId, anyio.CapacityLimiter] = {}

    def of(self, skill_id: SkillId) -> anyio.CapacityLimiter | None:
        """The gate an attempt must pass; None for a skill without limit."""
        info = self._skills.availability(skill_id).info
        limit = info.max_concurrency if info is not None else 0
        gate = self._gates.get(skill_id)
        if limit <= 0:
            return None
        if gate is None:
            gate = self._gates[skill_id] = anyio.CapacityLimiter(limit)
        elif gate.total_tokens != limit:
            gate.total_tokens = limit
        return gate

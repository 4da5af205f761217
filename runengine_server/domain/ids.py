"""Names for identifiers, so that a type checker keeps them apart."""

from typing import NewType
from uuid import UUID

RunId = NewType("RunId", str)
"""The public UUID of a run, in canonical lower-case form."""

RunKey = NewType("RunKey", int)
"""The internal, time-ordered number of a run; never leaves the server."""

StepNo = NewType("StepNo", int)
"""A step's position (0-based) in its workflow version's definition order; never crosses workflow versions."""

Place = tuple[RunKey, StepNo]
"""A step of a run."""

StepId = NewType("StepId", str)
SkillId = NewType("SkillId", str)
Tenant = NewType("Tenant", str)

EngineNo = NewType("EngineNo", int)
"""The small number a server process got when it registered; never reused."""

WorkflowDigest = NewType("WorkflowDigest", str)
"""Lower-case hex SHA-256 of a workflow's canonical form (SPEC: Workflow)."""


def parse_run_id(text: str) -> RunId | None:
    """The run id in canonical form; None when it is no UUID."""
    try:
        return RunId(str(UUID(text)))
    except ValueError:
        return None

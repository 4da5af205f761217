"""Skills in Python: write a function, decorate it with `skill`, serve it with `serve_skills`."""

from runengine_client.skills.artifact_folder import Artifact, ArtifactFolder
from runengine_client.skills.call_ledger import CallLedger, LedgerEvent, LedgerRecord, doubly_started, read_ledger
from runengine_client.skills.context import AsyncSkillContext, SkillContext
from runengine_client.skills.definition import Skill, skill
from runengine_client.skills.errors import SkillCancelledError, SkillError
from runengine_client.skills.server import SkillServer, SkillServerLimits, serve_skills

__all__ = [
    "Artifact",
    "ArtifactFolder",
    "AsyncSkillContext",
    "CallLedger",
    "LedgerEvent",
    "LedgerRecord",
    "Skill",
    "SkillCancelledError",
    "SkillContext",
    "SkillError",
    "SkillServer",
    "SkillServerLimits",
    "doubly_started",
    "read_ledger",
    "serve_skills",
    "skill",
]

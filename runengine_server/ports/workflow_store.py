"""Registered workflow versions."""

from collections.abc import Sequence
from typing import Protocol

from runengine_server.domain.ids import Tenant, WorkflowDigest
from runengine_server.domain.workflow import Workflow

DIRECTORY = Tenant("")
"""The owner of workflows from the directory: they serve every tenant; a tenant's own win."""


class WorkflowStore(Protocol):
    """Immutable by (tenant, name, version) and by digest."""

    async def add(self, owner: Tenant, workflow: Workflow, principal: str) -> tuple[Workflow, bool]:
        """Store a version; returns what is stored under its name and version and whether this call stored it.

        Idempotent by: (owner, name, version). The caller compares digests to tell a repetition from a conflict.
        """

    async def by_digest(self, digest: WorkflowDigest) -> Workflow | None:
        """The content with this digest."""

    async def find(self, tenant: Tenant, name: str, version: str) -> Workflow | None:
        """A tenant's version, else the directory's; empty version means the highest by SemVer."""

    async def names(
        self, tenant: Tenant, *, after: tuple[str, str] | None, limit: int, all_versions: bool
    ) -> Sequence[Workflow]:
        """Workflows a tenant can use, by name, highest version first, after a (name, version)."""

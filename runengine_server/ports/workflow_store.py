"""Registered workflow versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runengine_server.domain.ids import Tenant, WorkflowDigest
from runengine_server.domain.workflow import Workflow

DIRECTORY = Tenant("")
"""The owner of workflows from the directory: they serve every tenant; a tenant's own win."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowVersion:
    """A version a tenant can use, without its content; `owner` is the tenant or DIRECTORY."""

    owner: Tenant
    name: str
    version: str
    digest: WorkflowDigest


class WorkflowStore(Protocol):
    """Immutable by (owner, name, version) and by digest.

    A workflow that is read carries its digest, and the time of its registration unless it is the directory's or was
    asked for by digest. Where a tenant and the directory have the same name and version, the tenant's is the only one.
    """

    async def add(self, owner: Tenant, workflow: Workflow, principal: str) -> tuple[Workflow, bool]:
        """Store a version; returns what is stored under its name and version and whether this call stored it.

        Atomic with: audit row.
        Idempotent by: (owner, name, version). The caller compares digests to tell a repetition from a conflict.
        """

    async def by_digest(self, digest: WorkflowDigest) -> Workflow | None:
        """The content with this digest."""

    async def find(self, tenant: Tenant, name: str, version: str) -> Workflow | None:
        """The workflow of that name and version; an empty version means the highest by SemVer."""

    async def find_version(self, tenant: Tenant, name: str, version: str) -> WorkflowVersion | None:
        """As `find`, without reading the content."""

    async def names(
        self, tenant: Tenant, *, after: tuple[str, str] | None, limit: int, all_versions: bool
    ) -> tuple[Sequence[Workflow], bool]:
        """Workflows a tenant can use, by name, highest version first, after a (name, version); and if there are more.

        Only the highest version of each name unless `all_versions`. At most `limit`, and fewer where their contents
        together would be too large, but never none while there are more.
        """

    async def versions(self, tenant: Tenant, *, name: str, limit: int) -> Sequence[WorkflowVersion]:
        """What a tenant can use: the versions of a name, highest first; for an empty name, each name's highest."""

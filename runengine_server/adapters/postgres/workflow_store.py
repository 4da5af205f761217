"""Registered workflow versions on PostgreSQL."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

import anyio.to_thread
import asyncpg

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.adapters.postgres.workflow_encoding import decode_workflow, encode_workflow
from runengine_server.domain.ids import Tenant, WorkflowDigest
from runengine_server.domain.semver import version_order
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.workflow_store import DIRECTORY, WorkflowVersion

# Decoded from JSON to what goes over the wire, with its own limit of 3 MiB, contents roughly keep their size.
PAGE_BYTES_MAX: Final = 2 * 1024 * 1024

# Decoding takes about 50 ns a byte; what would hold the event loop for more than a few milliseconds goes to a thread.
_DECODED_INLINE_BYTES_MAX: Final = 128 * 1024

_NUL: Final = "\0"
"""PostgreSQL refuses it in text, so nothing can be found under a name that has it."""


class PostgresWorkflowStore:
    """WorkflowStore on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        self._database = database

    async def add(self, owner: Tenant, workflow: Workflow, principal: str) -> tuple[Workflow, bool]:
        """See the port."""
        created_at: datetime | None = await self._database.fetchval(
            sql("workflow_add"),
            owner,
            workflow.name,
            workflow.version,
            version_order(workflow.version),
            bytes.fromhex(workflow.digest),
            encode_workflow(workflow),
            principal,
        )
        if created_at is not None:
            return replace(workflow, created_at=_registered_at(owner, created_at)), True
        row = await self._database.fetchrow(sql("workflow_owned"), owner, workflow.name, workflow.version)
        if row is None:
            raise LookupError(f"{workflow.name} {workflow.version} was neither stored nor found")
        return await _decoded(row["definition"], row["digest"], _registered_at(owner, row["created_at"])), False

    async def by_digest(self, digest: WorkflowDigest) -> Workflow | None:
        """See the port."""
        key = bytes.fromhex(digest)
        definition: bytes | None = await self._database.fetchval(sql("workflow_by_digest"), key)
        return None if definition is None else await _decoded(definition, key, None)

    async def find(self, tenant: Tenant, name: str, version: str) -> Workflow | None:
        """See the port."""
        row = await self._found(tenant, name, version)
        if row is None:
            return None
        definition: bytes = await self._database.fetchval(sql("workflow_by_digest"), row["digest"])
        return await _decoded(definition, row["digest"], _registered_at(row["tenant"], row["created_at"]))

    async def find_version(self, tenant: Tenant, name: str, version: str) -> WorkflowVersion | None:
        """See the port."""
        row = await self._found(tenant, name, version)
        return None if row is None else _version(row)

    async def names(
        self, tenant: Tenant, *, after: tuple[str, str] | None, limit: int, all_versions: bool
    ) -> tuple[Sequence[Workflow], bool]:
        """See the port."""
        name, version = after or (None, "")
        rows = await self._database.fetch(
            sql("workflows_page"),
            tenant,
            name,
            version_order(version) if version else "",
            version,
            all_versions,
            limit,
            PAGE_BYTES_MAX,
        )
        workflows = [
            await _decoded(row["definition"], row["digest"], _registered_at(row["tenant"], row["created_at"]))
            for row in rows
        ]
        return workflows, bool(rows) and rows[0]["candidates"] > len(rows)

    async def versions(self, tenant: Tenant, *, name: str, limit: int) -> Sequence[WorkflowVersion]:
        """See the port."""
        if _NUL in name:
            return []
        return [_version(row) for row in await self._database.fetch(sql("workflow_versions"), tenant, name, limit)]

    async def _found(self, tenant: Tenant, name: str, version: str) -> asyncpg.Record | None:
        if _NUL in name or _NUL in version:
            return None
        return await self._database.fetchrow(sql("workflow_find"), tenant, name, version)


def _registered_at(owner: str, created_at: datetime) -> datetime | None:
    return None if owner == DIRECTORY else created_at


def _version(row: asyncpg.Record) -> WorkflowVersion:
    return WorkflowVersion(
        owner=Tenant(row["tenant"]),
        name=row["name"],
        version=row["version"],
        digest=WorkflowDigest(row["digest"].hex()),
    )


async def _decoded(definition: bytes, digest: bytes, created_at: datetime | None) -> Workflow:
    decode = partial(decode_workflow, definition, digest=WorkflowDigest(digest.hex()), created_at=created_at)
    if len(definition) <= _DECODED_INLINE_BYTES_MAX:
        return decode()
    return await anyio.to_thread.run_sync(decode)

"""Artifacts by what made them, on PostgreSQL."""

from collections.abc import Mapping, Sequence

import asyncpg

from runengine_server.adapters.postgres import rows
from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.artifact import Artifact
from runengine_server.domain.ids import Place, RunId, RunKey, StepId, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.states import OutputSource
from runengine_server.ports.lineage_reader import MadeArtifact, OutputMaker


class PostgresLineageReader:
    """LineageReader on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        self._database = database

    async def artifact(self, tenant: Tenant, artifact_id: str) -> MadeArtifact | None:
        """See the port."""
        row = await self._database.fetchrow(sql("lineage_artifact_find"), artifact_id, tenant)
        return None if row is None else _made_artifact(row)

    async def is_shown(self, tenant: Tenant, run_id: RunId, place: Place) -> bool:
        """See the port."""
        return bool(await self._database.fetchval(sql("lineage_shown_find"), run_id, tenant, *place))

    async def artifacts_of(self, tenant: Tenant, places: Sequence[Place], limit: int) -> Sequence[MadeArtifact]:
        """See the port."""
        found = await self._database.fetch(sql("lineage_artifacts_list"), *_columns(places), tenant, limit)
        return [_made_artifact(row) for row in found]

    async def makers(self, places: Sequence[Place]) -> Mapping[Place, OutputMaker]:
        """See the port."""
        found = await self._database.fetch(sql("lineage_makers_list"), *_columns(places))
        return {
            (RunKey(row["run"]), StepNo(row["step"])): OutputMaker(
                place=(RunKey(row["producer_run"]), StepNo(row["producer_step"])),
                workflow_digest=_digest(row),
                has_artifacts=row["has_artifacts"],
            )
            for row in found
        }


def _columns(places: Sequence[Place]) -> tuple[list[RunKey], list[StepNo]]:
    return [run for run, _ in places], [step for _, step in places]


def _made_artifact(row: asyncpg.Record) -> MadeArtifact:
    run_id = rows.run_id(row["run_id"]) or RunId("")
    return MadeArtifact(
        place=(RunKey(row["run"]), StepNo(row["step"])),
        ordinal=row["ordinal"],
        workflow_digest=_digest(row),
        artifact=Artifact(
            id=str(row["id"]),
            run_id=run_id,
            step_id=StepId(""),
            produced=rows.produced_artifact(row),
            created_at=row["created_at"],
            source=OutputSource.EXECUTED,
            source_run_id=run_id,
            skill_id=row["skill_id"],
            skill_version=row["skill_version"],
        ),
    )


def _digest(row: asyncpg.Record) -> WorkflowDigest | None:
    digest = row["workflow_digest"]
    return None if digest is None else WorkflowDigest(digest.hex())

"""Puts together what clears the artifact store: for the engine's background, and for the command."""

from runengine_server.adapters.artifacts import Artifacts
from runengine_server.adapters.postgres.artifact_references import PostgresArtifactReferences
from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.ports.clock import Clock
from runengine_server.service.clean_artifacts import CleanArtifacts

DAY_S = 24 * 3600.0


async def artifact_cleaner(
    artifacts: Artifacts, database: Database, clock: Clock, *, age_days: float | None
) -> CleanArtifacts | None:
    """What clears the store of content older than so many days; None without a store, or without an age."""
    if artifacts.store is None or age_days is None:
        return None
    return CleanArtifacts(
        store=artifacts.store,
        references=PostgresArtifactReferences(database),
        clock=clock,
        installation_id=str(await database.fetchval(sql("installation_id"))),
        age_s=age_days * DAY_S,
    )

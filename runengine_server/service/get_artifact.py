"""Read one artifact."""

from dataclasses import dataclass

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.caller import Caller, Scope
from runengine_server.ports.artifact_store import ArtifactReader
from runengine_server.service.artifact_lookup import artifact_not_found, find_artifact, named_artifact
from runengine_server.service.authorization import require
from runengine_server.service.run_lookup import ReadRuns


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenArtifacts:
    """What it takes to read artifacts and open their bytes."""

    read: ReadRuns
    reader: ArtifactReader


async def get_artifact(open_: OpenArtifacts, caller: Caller, artifact_id: str) -> Artifact:
    """The artifact, as listed for the run that made it.

    Raises:
        NotFoundError: ARTIFACT_NOT_FOUND, also for another tenant's, and for one that the only run which the caller's
            token reads does not show.
    """
    require(caller, Scope.RUN_READ, run_id=caller.only_run)
    made = await find_artifact(open_.read, caller.tenant, artifact_id)
    if caller.only_run is not None:
        is_shown = await open_.read.lineage.is_shown(caller.tenant, caller.only_run, made.place)
        if not is_shown:
            raise artifact_not_found(artifact_id)
    return await named_artifact(open_.read, made)

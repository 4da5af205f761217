"""Read one artifact, and open its bytes."""

from dataclasses import dataclass

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import NotFoundError
from runengine_server.ports.artifact_store import ArtifactBytes, ArtifactReader, BytesElsewhere
from runengine_server.service.artifact_lookup import artifact_not_found, find_artifact, named_artifact
from runengine_server.service.authorization import require
from runengine_server.service.messages import ArtifactContent
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


async def open_artifact(open_: OpenArtifacts, caller: Caller, artifact_id: str) -> ArtifactContent:
    """The artifact and its bytes, or where they can be had.

    Raises:
        NotFoundError: ARTIFACT_NOT_FOUND; ARTIFACT_GONE, its bytes are not there any more, or others are;
            ARTIFACT_OUT_OF_REACH, they lie outside of the operator's roots.
        UnavailableError: ARTIFACT_STORE_UNAVAILABLE.
    """
    artifact = await get_artifact(open_, caller, artifact_id)
    found = await open_.reader.find(artifact.produced.uri)
    if found is None or not _is_whole(artifact, found):
        raise NotFoundError(
            "ARTIFACT_GONE",
            "the artifact's bytes are not where they were published any more; run its step again to make them anew",
            metadata={"artifactId": artifact.id},
        )
    return ArtifactContent(artifact=artifact, found=found)


def _is_whole(artifact: Artifact, found: ArtifactBytes | BytesElsewhere) -> bool:
    return isinstance(found, BytesElsewhere) or found.size_bytes == artifact.produced.size_bytes

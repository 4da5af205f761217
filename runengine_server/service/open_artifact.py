"""Open one artifact's bytes."""

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import NotFoundError
from runengine_server.ports.artifact_store import ArtifactBytes, BytesElsewhere
from runengine_server.service.authorization import require
from runengine_server.service.get_artifact import OpenArtifacts, get_artifact
from runengine_server.service.messages import ArtifactContent


async def open_artifact(open_: OpenArtifacts, caller: Caller, artifact_id: str) -> ArtifactContent:
    """The artifact and its bytes, or where they can be had.

    Raises:
        NotFoundError: ARTIFACT_NOT_FOUND; ARTIFACT_GONE, its bytes are not there any more, or others are;
            ARTIFACT_OUT_OF_REACH, they lie outside of the operator's roots.
        UnavailableError: ARTIFACT_STORE_UNAVAILABLE.
    """
    require(caller, Scope.RUN_READ, run_id=caller.only_run)
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

"""Finds a caller's artifact and puts a name to the step that made it."""

from dataclasses import replace
from uuid import UUID

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.errors import NotFoundError
from runengine_server.domain.ids import StepId, Tenant
from runengine_server.ports.lineage_reader import MadeArtifact
from runengine_server.service.run_lookup import ReadRuns


def artifact_not_found(artifact_id: str) -> NotFoundError:
    """ARTIFACT_NOT_FOUND, the same whether it never was, is gone or belongs to another tenant."""
    return NotFoundError(
        "ARTIFACT_NOT_FOUND",
        f"there is no artifact {artifact_id[:64]!r}; ListArtifacts shows a run's artifacts with their ids",
        metadata={"artifactId": artifact_id[:64]},
    )


async def find_artifact(read: ReadRuns, tenant: Tenant, artifact_id: str) -> MadeArtifact:
    """The tenant's artifact of that id.

    Raises:
        NotFoundError: ARTIFACT_NOT_FOUND.
    """
    try:
        parsed = str(UUID(artifact_id))
    except ValueError:
        raise artifact_not_found(artifact_id) from None
    made = await read.lineage.artifact(tenant, parsed)
    if made is None:
        raise artifact_not_found(artifact_id)
    return made


async def named_artifact(read: ReadRuns, made: MadeArtifact) -> Artifact:
    """The artifact with the id of the step that made it; without it when retention has removed the run."""
    if made.workflow_digest is None:
        return made.artifact
    compiled = await read.workflows.compiled(made.workflow_digest)
    return replace(made.artifact, step_id=StepId(compiled.workflow.steps[made.place[1]].step_id))

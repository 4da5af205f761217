"""Artifacts by what made them, across runs: what a lineage is put together from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.ids import Place, RunId, Tenant, WorkflowDigest


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeArtifact:
    """An artifact and the step that made it; `artifact.step_id` is left for the workflow to name.

    `workflow_digest` is None, and `artifact.run_id` empty, when retention has removed the run.
    """

    place: Place
    ordinal: int
    workflow_digest: WorkflowDigest | None
    artifact: Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputMaker:
    """The step that executed what another step has as its output; digest as in MadeArtifact."""

    place: Place
    workflow_digest: WorkflowDigest | None
    has_artifacts: bool


class LineageReader(Protocol):
    """Reads artifacts of one tenant."""

    async def artifact(self, tenant: Tenant, artifact_id: str) -> MadeArtifact | None:
        """The tenant's artifact of that id (a UUID); None also for another tenant's."""

    async def is_shown(self, tenant: Tenant, run_id: RunId, place: Place) -> bool:
        """Whether the tenant's run lists what that step made: it is its own, or the run reuses it."""

    async def artifacts_of(self, tenant: Tenant, places: Sequence[Place], limit: int) -> Sequence[MadeArtifact]:
        """What these steps made, in order of place and ordinal, at most `limit`."""

    async def makers(self, places: Sequence[Place]) -> Mapping[Place, OutputMaker]:
        """Who made the output of each of these steps, of those that have one."""

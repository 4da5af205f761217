"""Where an artifact comes from: the artifacts it was made from, theirs, and the steps that made them."""

from dataclasses import dataclass

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.ids import StepId


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageEdge:
    """The step made one artifact from another; both by id."""

    from_artifact_id: str
    to_artifact_id: str
    step_id: StepId


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Artifacts, the one asked for first, then generation by generation; each edge is between two of them."""

    artifacts: tuple[Artifact, ...]
    edges: tuple[LineageEdge, ...]

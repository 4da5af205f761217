"""An artifact: a file a skill published, committed with its step's completion."""

from dataclasses import dataclass, field
from datetime import datetime

from runengine_server.domain.ids import RunId, StepId
from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.domain.states import OutputSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducedArtifact:
    """What a skill says it published; `content_hash` is lower-case hex SHA-256 of the bytes."""

    media_type: str
    uri: str
    content_hash: str
    size_bytes: int
    filename: str = ""
    metadata: JsonObject = field(default_factory=dict)
    made_from: tuple[str, ...] = ()

    def as_selector_value(self) -> dict[str, JsonValue]:
        """What `steps.<id>.artifacts[i]` shows: facts that are equal for equal content."""
        return {
            "type": self.media_type,
            "uri": self.uri,
            "contentHash": self.content_hash,
            "sizeBytes": self.size_bytes,
            "filename": self.filename,
            "metadata": self.metadata,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One production of one file, as a run sees it (its own or reused)."""

    id: str
    run_id: RunId
    step_id: StepId
    produced: ProducedArtifact
    created_at: datetime
    source: OutputSource
    source_run_id: RunId
    skill_id: str
    skill_version: str

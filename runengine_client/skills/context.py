"""What a skill sees of the call it is running: facts, artifacts, progress, cancellation.

Two classes, because a skill is one of two things: a plain function runs in a worker thread and gets a `SkillContext`,
whose `publish` and `read` block; an `async def` gets an `AsyncSkillContext`, whose `publish` and `read` are awaited.
Everything else is the same and never blocks.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import anyio.to_thread

from runengine_client.skills.artifact_folder import Artifact, ArtifactData, ArtifactStore, content_hash_of
from runengine_client.skills.errors import SkillCancelledError

# Metadata travels inside events, which stay below 64 KiB.
METADATA_BYTES_MAX = 32 * 1024
MEDIA_TYPE_CHARACTERS_MAX = 255
SOURCES_MAX = 64
MESSAGE_CHARACTERS_MAX = 500


class CallFacts(Protocol):
    """Which attempt a call is."""

    @property
    def skill_id(self) -> str:
        """The skill called."""

    @property
    def run_id(self) -> str:
        """The run, a UUID."""

    @property
    def step_id(self) -> str:
        """The step."""

    @property
    def attempt(self) -> int:
        """Which try of the skill, from 1."""

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of the step with this input."""

    @property
    def fencing_token(self) -> int:
        """The lease epoch; only grows."""

    @property
    def workflow_name(self) -> str:
        """The workflow's name."""

    @property
    def tenant(self) -> str:
        """Whose run it is."""


class CallHandle(Protocol):
    """What a context asks of the call it belongs to; every method may be called from any thread."""

    @property
    def facts(self) -> CallFacts:
        """Which attempt it is."""

    @property
    def deadline(self) -> datetime:
        """When it must have ended, UTC."""

    @property
    def traceparent(self) -> str:
        """The call in the engine's trace, as W3C Trace Context has it; empty where there is none."""

    @property
    def is_cancelled(self) -> bool:
        """Whether its outcome is of no use any more."""

    @property
    def artifact_store(self) -> ArtifactStore:
        """Where artifacts go."""

    def add_artifact(self, artifact: Artifact) -> None:
        """Announce what has been stored."""

    def report_progress(self, fraction: float, message: str, reported_at: datetime) -> None:
        """Remember the latest progress."""

    def do_not_cache(self) -> None:
        """Mark the output as not to be cached."""


class _CallContext:
    """What both kinds of context share."""

    __slots__ = ("_handle",)

    def __init__(self, handle: CallHandle) -> None:
        self._handle = handle

    @property
    def skill_id(self) -> str:
        """The skill called."""
        return self._handle.facts.skill_id

    @property
    def run_id(self) -> str:
        """The run, a UUID."""
        return self._handle.facts.run_id

    @property
    def step_id(self) -> str:
        """The step."""
        return self._handle.facts.step_id

    @property
    def attempt(self) -> int:
        """Which try of the skill, from 1."""
        return self._handle.facts.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of the step with this input; pass it on to paid services."""
        return self._handle.facts.idempotency_key

    @property
    def fencing_token(self) -> int:
        """The lease epoch; only grows, so a store can refuse writes that carry a smaller one."""
        return self._handle.facts.fencing_token

    @property
    def workflow_name(self) -> str:
        """The workflow's name."""
        return self._handle.facts.workflow_name

    @property
    def tenant(self) -> str:
        """Whose run it is."""
        return self._handle.facts.tenant

    @property
    def deadline(self) -> datetime:
        """When the call must have ended, aware UTC; moves back when an engine attaches with a later one."""
        return self._handle.deadline

    @property
    def traceparent(self) -> str:
        """The header that continues the run's trace, for services the skill calls; empty where it is not traced."""
        return self._handle.traceparent

    @property
    def trace_id(self) -> str:
        """The run's trace, 32 hexadecimal digits; empty where it is not traced."""
        return trace_id_of(self._handle.traceparent)

    def report_progress(self, fraction: float, message: str = "") -> None:
        """The engine will be told, sooner or later; only the latest progress counts.

        Args:
            fraction: 0 to 1; what lies outside is clipped.
            message: what is going on, cut at 500 characters.
        """
        clipped = min(1.0, max(0.0, fraction))
        self._handle.report_progress(clipped, message[:MESSAGE_CHARACTERS_MAX], datetime.now(UTC))

    def do_not_cache(self) -> None:
        """The output will be used for this run, but no other run gets it from the cache."""
        self._handle.do_not_cache()

    def is_cancelled(self) -> bool:
        """Whether nobody wants the outcome any more (cancelled, or past the deadline)."""
        return self._handle.is_cancelled

    def check_cancelled(self) -> None:
        """Nothing happens while the outcome is wanted.

        Raises:
            SkillCancelledError: it is not; let this one through.
        """
        if self._handle.is_cancelled:
            raise SkillCancelledError

    def _publish(
        self,
        data: ArtifactData,
        filename: str,
        media_type: str,
        metadata: Mapping[str, Any] | None,
        made_from: Iterable[str | Artifact | Mapping[str, Any]],
    ) -> Artifact:
        self.check_cancelled()
        _check_metadata(metadata)
        if not 0 < len(media_type) <= MEDIA_TYPE_CHARACTERS_MAX:
            raise ValueError("an artifact needs a media type of at most 255 characters, such as image/png")
        sources = tuple(content_hash_of(source) for source in made_from)
        if len(sources) > SOURCES_MAX:
            raise ValueError(f"an artifact is made from at most {SOURCES_MAX} others, not {len(sources)}")
        stored = self._handle.artifact_store.store(data, filename=filename)
        artifact = Artifact(
            uri=stored.uri,
            content_hash=stored.content_hash,
            size_bytes=stored.size_bytes,
            filename=filename,
            media_type=media_type,
            metadata=dict(metadata or {}),
            made_from=sources,
        )
        self._handle.add_artifact(artifact)
        return artifact


class SkillContext(_CallContext):
    """The context of a skill that is a plain function; its calls block the worker thread only."""

    __slots__ = ()

    def publish(
        self,
        data: ArtifactData,
        *,
        filename: str,
        media_type: str,
        metadata: Mapping[str, Any] | None = None,
        made_from: Iterable[str | Artifact | Mapping[str, Any]] = (),
    ) -> Artifact:
        """The bytes are stored and will be committed with the step, if it succeeds.

        Args:
            data: the bytes, or the path of a file to copy.
            filename: one path component, at most 255 bytes.
            media_type: such as `audio/mpeg`.
            metadata: a JSON object of at most 32 KiB.
            made_from: at most 64 artifacts it was made from: as published, as read from the input, or content hashes.

        Raises:
            SkillCancelledError: nobody wants the outcome any more.
            ValueError: filename, media type, metadata or made_from is not acceptable.
        """
        return self._publish(data, filename, media_type, metadata, made_from)

    def read(self, artifact: Artifact | Mapping[str, Any]) -> bytes:
        """The bytes of an artifact from the input, checked against its hash (see `ReadableFolders.read`)."""
        return self._handle.artifact_store.read(artifact)


class AsyncSkillContext(_CallContext):
    """The context of a skill that is an `async def`; files are written and read in a worker thread."""

    __slots__ = ()

    async def publish(
        self,
        data: ArtifactData,
        *,
        filename: str,
        media_type: str,
        metadata: Mapping[str, Any] | None = None,
        made_from: Iterable[str | Artifact | Mapping[str, Any]] = (),
    ) -> Artifact:
        """The bytes are stored and will be committed with the step, if it succeeds (see `SkillContext.publish`)."""
        return await anyio.to_thread.run_sync(self._publish, data, filename, media_type, metadata, made_from)

    async def read(self, artifact: Artifact | Mapping[str, Any]) -> bytes:
        """The bytes of an artifact from the input, checked against its hash (see `ReadableFolders.read`)."""
        return await anyio.to_thread.run_sync(self._handle.artifact_store.read, artifact)


def trace_id_of(traceparent: str) -> str:
    """The trace that a traceparent is of; empty for an empty one."""
    return traceparent[3:35]


def _check_metadata(metadata: Mapping[str, Any] | None) -> None:
    if not metadata:
        return
    try:
        size = len(json.dumps(dict(metadata), allow_nan=False))
    except (TypeError, ValueError):
        raise ValueError("an artifact's metadata is a JSON object") from None
    if size > METADATA_BYTES_MAX:
        raise ValueError(f"an artifact's metadata takes at most {METADATA_BYTES_MAX} bytes of JSON, not {size}")

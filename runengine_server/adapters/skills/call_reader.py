"""Reads one Execute stream, message by message, and holds it to the contract."""

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from runengine_client.pb.runengine.v1 import run_pb2, skill_runner_pb2
from runengine_server.adapters.skills.struct_values import object_of, seconds_of
from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.failure import OUTPUT_TOO_LARGE, SKILL_FAILED, SKILL_PROTOCOL_ERROR, Failure
from runengine_server.ports.skill_runner import Failed, Outcome, ProgressListener, Succeeded

OUTPUT_BYTES_MAX: Final = 1 << 20
MESSAGE_BYTES_MAX: Final = 3 << 20
ARTIFACTS_MAX: Final = 1000
FAILURE_MESSAGE_CHARACTERS_MAX: Final = 2000
_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z")
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")


class ProtocolError(Exception):
    """The runner broke the contract; the message says how."""


@dataclass(slots=True)
class CallReader:
    """What a stream has said so far; `outcome` is set by its result or failure."""

    on_progress: ProgressListener
    outcome: Outcome | None = None
    is_accepted: bool = False
    worker_id: str = ""
    _skill_version: str = ""
    _cache_version: str = ""
    _artifacts: list[ProducedArtifact] = field(default_factory=list)

    def take(self, message: skill_runner_pb2.ExecuteResponse) -> None:
        """The message is accounted for.

        Raises:
            ProtocolError: it may not come here, or lacks what it must have.
        """
        if self.outcome is not None:
            raise ProtocolError("The runner went on after its result or failure")
        kind = message.WhichOneof("kind")
        if not self.is_accepted and kind != "accepted":
            raise ProtocolError("The runner's first message was not `accepted`")
        if message.ByteSize() > MESSAGE_BYTES_MAX:
            self.outcome = self._too_large("The skill sent a message beyond 3 MiB")
            return
        match kind:
            case "accepted":
                self._take_accepted(message.accepted)
            case "heartbeat":
                pass
            case "progress":
                self._take_progress(message.progress)
            case "artifact":
                self._take_artifact(message.artifact)
            case "result":
                self.outcome = self._result(message.result)
            case "failure":
                self.outcome = self._failure(message.failure)
            case _:
                raise ProtocolError("The runner sent an empty or unknown message")

    def broken(self, problem: ProtocolError) -> Failed:
        """What a broken contract means for the attempt."""
        failure = Failure(code=SKILL_PROTOCOL_ERROR, message=str(problem), retryable=True)
        return Failed(failure=failure, worker_id=self.worker_id)

    def _take_accepted(self, accepted: skill_runner_pb2.ExecuteAccepted) -> None:
        if self.is_accepted:
            raise ProtocolError("The runner sent `accepted` twice")
        _require_text(accepted.worker_id, accepted.skill_version, accepted.cache_version)
        self.is_accepted = True
        self.worker_id = accepted.worker_id[:200]
        self._skill_version = accepted.skill_version
        self._cache_version = accepted.cache_version or accepted.skill_version

    def _take_progress(self, progress: run_pb2.StepProgress) -> None:
        fraction = 0.0 if math.isnan(progress.fraction) else min(1.0, max(0.0, progress.fraction))
        self.on_progress(fraction, progress.message[:500], _reported_at(progress))

    def _take_artifact(self, artifact: skill_runner_pb2.ProducedArtifact) -> None:
        if len(self._artifacts) >= ARTIFACTS_MAX:
            raise ProtocolError(f"The runner sent more than {ARTIFACTS_MAX} artifacts")
        if not artifact.type or not artifact.uri or artifact.size_bytes < 0:
            raise ProtocolError("The runner sent an artifact without type, uri or size")
        _require_text(artifact.type, artifact.uri, artifact.filename)
        if not _SHA256.match(artifact.content_hash):
            raise ProtocolError("The runner sent an artifact whose content_hash is no SHA-256")
        self._artifacts.append(
            ProducedArtifact(
                media_type=artifact.type,
                uri=artifact.uri,
                content_hash=artifact.content_hash,
                size_bytes=artifact.size_bytes,
                filename=artifact.filename,
                metadata=object_of(artifact.metadata),
                made_from=tuple(artifact.made_from),
            )
        )

    def _result(self, result: skill_runner_pb2.ExecuteResult) -> Outcome:
        if len(result.output_json) > OUTPUT_BYTES_MAX:
            return self._too_large("The skill's output is beyond 1 MiB; larger things belong in artifacts")
        return Succeeded(
            output_json=result.output_json or b"{}",
            artifacts=tuple(self._artifacts),
            do_not_cache=result.do_not_cache,
            skill_version=self._skill_version,
            cache_version=self._cache_version,
            worker_id=self.worker_id,
        )

    def _failure(self, failure: skill_runner_pb2.ExecuteFailure) -> Failed:
        retry_after_s = seconds_of(failure.retry_after) if failure.HasField("retry_after") else 0.0
        return Failed(
            failure=Failure(
                code=failure.code if _CODE.match(failure.code) else SKILL_FAILED,
                message=failure.message[:FAILURE_MESSAGE_CHARACTERS_MAX] or "The skill failed",
                retryable=failure.retryable,
                details=object_of(failure.details) if failure.HasField("details") else None,
            ),
            retry_after_s=retry_after_s if retry_after_s > 0 else None,
            worker_id=self.worker_id,
        )

    def _too_large(self, message: str) -> Failed:
        return Failed(failure=Failure(code=OUTPUT_TOO_LARGE, message=message), worker_id=self.worker_id)


def _require_text(*texts: str) -> None:
    """Raise ProtocolError for text that PostgreSQL cannot hold."""
    if any("\0" in text for text in texts):
        raise ProtocolError("The runner sent a text with a NUL character")


def _reported_at(progress: run_pb2.StepProgress) -> datetime:
    """The runner's time, or ours where it gave none that can be read."""
    if not progress.HasField("reported_at"):
        return datetime.now(UTC)
    try:
        return progress.reported_at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return datetime.now(UTC)

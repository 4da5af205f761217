"""Reads one Execute stream, message by message, and holds it to the contract."""

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from runengine_client.pb.runengine.v1 import run_pb2, skill_runner_pb2
from runengine_server.adapters.skills.artifact_reader import ProtocolError, read_artifact, require_text
from runengine_server.adapters.skills.struct_values import ValueMissing, object_of, seconds_of
from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.canonical_json import NotCanonical, canonical_bytes
from runengine_server.domain.failure import OUTPUT_TOO_LARGE, SKILL_FAILED, SKILL_PROTOCOL_ERROR, Failure
from runengine_server.domain.json_value import JsonObject
from runengine_server.ports.skill_runner import Failed, Outcome, ProgressListener, Succeeded

OUTPUT_BYTES_MAX: Final = 1 << 20
MESSAGE_BYTES_MAX: Final = 3 << 20
ARTIFACTS_MAX: Final = 1000
FAILURE_MESSAGE_CHARACTERS_MAX: Final = 2000
# An event has at most 64 KiB; the failure is part of one.
FAILURE_DETAILS_BYTES_MAX: Final = 32 * 1024
VERSION_CHARACTERS_MAX: Final = 128
WORKER_ID_CHARACTERS_MAX: Final = 200
_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z")

__all__ = ["CallReader", "ProtocolError"]


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
                self.outcome = self.failure_of(message.failure)
            case _:
                raise ProtocolError("The runner sent an empty or unknown message")

    def broken(self, problem: ProtocolError) -> Failed:
        """What a broken contract means for the attempt."""
        failure = Failure(code=SKILL_PROTOCOL_ERROR, message=str(problem), retryable=True)
        return Failed(failure=failure, worker_id=self.worker_id)

    def _take_accepted(self, accepted: skill_runner_pb2.ExecuteAccepted) -> None:
        if self.is_accepted:
            raise ProtocolError("The runner sent `accepted` twice")
        worker_id = accepted.worker_id[:WORKER_ID_CHARACTERS_MAX]  # for people only: shortened rather than refused
        require_text("a worker_id", worker_id, WORKER_ID_CHARACTERS_MAX)
        self.worker_id = worker_id
        require_text("a skill_version", accepted.skill_version, VERSION_CHARACTERS_MAX)
        require_text("a cache_version", accepted.cache_version, VERSION_CHARACTERS_MAX)
        self.is_accepted = True
        self._skill_version = accepted.skill_version
        self._cache_version = accepted.cache_version or accepted.skill_version

    def _take_progress(self, progress: run_pb2.StepProgress) -> None:
        fraction = 0.0 if math.isnan(progress.fraction) else min(1.0, max(0.0, progress.fraction))
        self.on_progress(fraction, progress.message[:500], _reported_at(progress))

    def _take_artifact(self, artifact: skill_runner_pb2.ProducedArtifact) -> None:
        if len(self._artifacts) >= ARTIFACTS_MAX:
            raise ProtocolError(f"The runner sent more than {ARTIFACTS_MAX} artifacts")
        self._artifacts.append(read_artifact(artifact))

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

    def failure_of(self, failure: skill_runner_pb2.ExecuteFailure) -> Failed:
        """A failure message as the engine keeps it."""
        retry_after_s = seconds_of(failure.retry_after) if failure.HasField("retry_after") else 0.0
        return Failed(
            failure=Failure(
                code=failure.code if _CODE.match(failure.code) else SKILL_FAILED,
                message=failure.message[:FAILURE_MESSAGE_CHARACTERS_MAX] or "The skill failed",
                retryable=failure.retryable,
                details=_details(failure),
            ),
            retry_after_s=retry_after_s if retry_after_s > 0 else None,
            worker_id=self.worker_id,
        )

    def _too_large(self, message: str) -> Failed:
        return Failed(failure=Failure(code=OUTPUT_TOO_LARGE, message=message), worker_id=self.worker_id)


def _details(failure: skill_runner_pb2.ExecuteFailure) -> JsonObject | None:
    """What else the runner says; words in its place where it cannot be kept: it must not hide the failure itself."""
    if not failure.HasField("details"):
        return None
    try:
        details = object_of(failure.details)
        is_too_large = len(canonical_bytes(details)) > FAILURE_DETAILS_BYTES_MAX
    except ValueMissing as problem:
        raise ProtocolError(f"The runner sent a failure whose details{problem.pointer} {problem.problem}") from None
    except NotCanonical as problem:
        return {"omitted": f"details{problem.pointer}: {problem.problem}"}
    if is_too_large:
        return {"omitted": f"the details are longer than {FAILURE_DETAILS_BYTES_MAX} bytes"}
    return details


def _reported_at(progress: run_pb2.StepProgress) -> datetime:
    """The runner's time, or ours where it gave none that can be read."""
    if not progress.HasField("reported_at"):
        return datetime.now(UTC)
    try:
        return progress.reported_at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return datetime.now(UTC)

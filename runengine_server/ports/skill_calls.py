"""Skill calls that may end by a callback: what every engine knows of them, and what a surface does with a callback."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol
from uuid import UUID

from runengine_server.domain.ids import RunId


class Verdict(Enum):
    """What became of a callback."""

    TAKEN = "taken"
    REPEATED = "repeated"  # the very answer that is stored already
    STALE = "stale"  # not the fencing token of the latest attempt
    ENDED = "ended"  # the call has another answer already
    UNKNOWN = "unknown"  # no such call, nobody wants it any more, or the secret is not its own


class CallbackKind(Enum):
    """What a runner has to say of a call."""

    COMPLETE = "complete"
    FAIL = "fail"
    HEARTBEAT = "heartbeat"
    PROGRESS = "progress"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedCall:
    """A call that runners may answer: with its secret, and the success that an earlier attempt had, if any."""

    secret: str
    answer: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallNews:
    """What is stored of a call: its answer if it has one, the latest progress, and how long it has been silent."""

    call_id: UUID
    fencing_token: int
    silent_s: float
    progress: bytes | None = None
    answer: bytes | None = None


class SkillCalls(Protocol):
    """Calls shared by all engines; one row a call, fenced by the token of its latest attempt.

    Every method raises UnavailableError when the outcome is unknown; each may be repeated.
    """

    async def register(
        self, call_id: UUID, run_id: RunId, *, fencing_token: int, secret: str, kept_s: float
    ) -> OpenedCall | None:
        """The call belongs to this attempt; what earlier ones said is forgotten, but for a success.

        Args:
            call_id: the same for every attempt of the step with this input.
            run_id: the row stays at least while the run has unfinished steps.
            fencing_token: of this attempt.
            secret: of a new call; a known one keeps its own.
            kept_s: how long the row stays at least.

        Returns:
            None when a later attempt has begun.
        """

    async def hear(
        self, call_id: UUID, secret: str, *, fencing_token: int, progress: bytes | None, answer: bytes | None,
        is_success: bool = False,
    ) -> Verdict:  # fmt: skip
        """The call is alive, and has come this far or ended with this answer; the first answer stays."""

    async def read(self, call_ids: Sequence[UUID]) -> Sequence[CallNews]:
        """What is stored of these calls; nothing of those that are gone."""

    async def release(self, calls: Sequence[tuple[UUID, int]]) -> None:
        """Nobody waits for these calls any more, unless a later attempt than the one with this token does."""

    async def sweep(self) -> int:
        """Calls that nobody can want any more are gone; returns how many, bounded."""


class SkillCallbacks(Protocol):
    """Takes callbacks of runners, on whichever engine they arrive."""

    async def take(self, kind: CallbackKind, call_id: UUID, secret: str, body: bytes) -> Verdict:
        """Act on a callback; when it returns, an answer is stored for whichever engine waits for it.

        Raises:
            InvalidError: VALIDATION_FAILED: the body breaks the contract; if it was an answer, the call has failed.
            UnavailableError: the outcome is unknown; the runner repeats it.
        """

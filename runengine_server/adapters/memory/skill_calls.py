"""Skill calls in memory, by the rules of migrations/0020_skill_calls.sql; for tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from uuid import UUID

from runengine_server.domain.ids import RunId
from runengine_server.ports.skill_calls import CallNews, OpenedCall, Verdict


@dataclass(slots=True, kw_only=True)
class _Row:
    fencing_token: int
    secret: str
    heard_at: float
    expires_at: float
    progress: bytes | None = None
    answer: bytes | None = None
    is_success: bool = False


class MemorySkillCalls:
    """SkillCalls for the engines of one process."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """Start without calls; `now` in seconds."""
        self._now = now
        self._rows: dict[UUID, _Row] = {}

    async def register(
        self, call_id: UUID, run_id: RunId, *, fencing_token: int, secret: str, kept_s: float
    ) -> OpenedCall | None:
        """See the port."""
        now = self._now()
        new = _Row(fencing_token=fencing_token, secret=secret, heard_at=now, expires_at=now + kept_s)
        known = self._rows.get(call_id)
        if known is not None:
            if known.fencing_token > fencing_token:
                return None
            new.secret = known.secret
            if known.is_success:
                new.answer, new.is_success = known.answer, True
        self._rows[call_id] = new
        return OpenedCall(secret=new.secret, answer=new.answer)

    async def hear(
        self, call_id: UUID, secret: str, *, fencing_token: int, progress: bytes | None, answer: bytes | None,
        is_success: bool = False,
    ) -> Verdict:  # fmt: skip
        """See the port."""
        row = self._rows.get(call_id)
        if row is None or row.secret != secret:
            return Verdict.UNKNOWN
        if row.fencing_token != fencing_token:
            return Verdict.STALE
        if row.answer is not None:
            return Verdict.REPEATED if row.answer == answer else Verdict.ENDED
        row.heard_at = self._now()
        row.progress = row.progress if progress is None else progress
        row.answer, row.is_success = answer, answer is not None and is_success
        return Verdict.TAKEN

    async def read(self, call_ids: Sequence[UUID]) -> Sequence[CallNews]:
        """See the port."""
        return [
            CallNews(
                call_id=call_id,
                fencing_token=row.fencing_token,
                silent_s=self._now() - row.heard_at,
                progress=row.progress,
                answer=row.answer,
            )
            for call_id in call_ids
            if (row := self._rows.get(call_id)) is not None
        ]

    async def release(self, calls: Sequence[tuple[UUID, int]]) -> None:
        """See the port."""
        for call_id, fencing_token in calls:
            if call_id in self._rows and self._rows[call_id].fencing_token == fencing_token:
                del self._rows[call_id]

    async def sweep(self) -> int:
        """See the port; there are no runs here, so time alone decides."""
        gone = [call_id for call_id, row in self._rows.items() if row.expires_at < self._now()]
        for call_id in gone:
            del self._rows[call_id]
        return len(gone)

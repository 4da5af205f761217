"""One call over HTTP that this engine waits for: what was heard of it, and how it ended."""

import secrets
from datetime import UTC, datetime
from uuid import UUID

import anyio
import orjson

from runengine_server.ports.skill_runner import Outcome, ProgressListener, SkillCall


class OpenCall:
    """A call that this engine waits for; `outcome` once it has ended, `heard_at` on anyio's clock."""

    def __init__(self, call: SkillCall, call_id: UUID, secret: str, on_progress: ProgressListener) -> None:
        """Begin to wait."""
        self.call = call
        self.call_id = call_id
        self.secret = secret
        self.outcome: Outcome | None = None
        self.worker_id = ""
        self.sends_heartbeats = False
        self.heard_at = anyio.current_time()
        self._changed = anyio.Event()
        self._on_progress = on_progress
        self._told_elsewhere: bytes | None = None

    def is_of(self, fencing_token: int, secret: str) -> bool:
        """Whether a callback with these is one of this attempt."""
        is_same = secrets.compare_digest(self.secret.encode(), secret.encode())
        return is_same and self.call.fencing_token == fencing_token

    def accept(self, worker_id: str, *, sends_heartbeats: bool) -> None:
        """The runner will call back."""
        self.worker_id = worker_id
        self.sends_heartbeats = sends_heartbeats
        self.heard_at = anyio.current_time()
        self._changed.set()

    def settle(self, outcome: Outcome) -> None:
        """The call has ended; the first outcome counts."""
        if self.outcome is None:
            self.outcome = outcome
            self._changed.set()

    def hear(self, progress: bytes | None) -> None:
        """The runner has said here that it is alive, and perhaps how far it is."""
        self.heard_at = anyio.current_time()
        self._report(progress)

    def hear_elsewhere(self, progress: bytes | None, silent_s: float) -> None:
        """What other engines were told last, so long ago; progress that was known is no news."""
        self.heard_at = max(self.heard_at, anyio.current_time() - silent_s)
        if progress != self._told_elsewhere:
            self._told_elsewhere = progress
            self._report(progress)

    async def changed(self) -> None:
        """It was accepted, or it has ended."""
        await self._changed.wait()
        self._changed = anyio.Event()

    def _report(self, progress: bytes | None) -> None:
        if progress is not None:
            document = orjson.loads(progress)
            self._on_progress(document["fraction"], document["message"], datetime.now(UTC))

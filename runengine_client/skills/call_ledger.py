"""Keeps a record of every call a skill server started, joined, replayed and ended, for operators and tests."""

import json
import logging
import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from runengine_client.skills.context import CallFacts

_log = logging.getLogger("runengine.skills")


class LedgerEvent(StrEnum):
    """What happened to a call."""

    STARTED = "started"
    ATTACHED = "attached"
    REPLAYED = "replayed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRecord:
    """One line; `digest` is the SHA-256 of the output, `code` the failure's; `worker_id` one server process."""

    event: LedgerEvent
    at: str
    worker_id: str
    tenant: str
    key: str
    skill_id: str
    run_id: str
    step_id: str
    attempt: int
    fencing_token: int
    digest: str = ""
    code: str = ""


_Note = tuple[LedgerEvent, float, CallFacts, str, str]


class CallLedger:
    """The last records in memory and, given a path, all of them as JSON lines.

    A line is handed to the kernel before the call goes on, so it survives the death of the process.
    """

    def __init__(self, worker_id: str, path: str | os.PathLike[str] | None = None, *, count_max: int = 10_000) -> None:
        """Start empty in memory; append to the file if there is one."""
        self._worker_id = worker_id
        self._noted: deque[_Note] = deque(maxlen=count_max)
        self._descriptor = None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    @property
    def records(self) -> tuple[LedgerRecord, ...]:
        """The latest records, oldest first."""
        return tuple(map(self._record_of, self._noted))

    def count(self, event: LedgerEvent, key: str | None = None) -> int:
        """How many of the latest records are of this kind, and of this idempotency key if one is given."""
        return sum(1 for note in self._noted if note[0] is event and key in (None, note[2].idempotency_key))

    def record(self, event: LedgerEvent, facts: CallFacts, *, digest: str = "", code: str = "") -> None:
        """The event is remembered, and in the file if there is one."""
        note = (event, time.time(), facts, digest, code)
        self._noted.append(note)
        if self._descriptor is not None:
            try:
                os.write(self._descriptor, json.dumps(asdict(self._record_of(note))).encode() + b"\n")
            except OSError:
                _log.exception("Ledger cannot be written")  # a record, not a condition for running

    def _record_of(self, note: _Note) -> LedgerRecord:
        """What was noted, spelled out: most notes of a busy server are never read."""
        event, at, facts, digest, code = note
        return LedgerRecord(
            event=event,
            at=datetime.fromtimestamp(at, UTC).isoformat(),
            worker_id=self._worker_id,
            tenant=facts.tenant,
            key=facts.idempotency_key,
            skill_id=facts.skill_id,
            run_id=facts.run_id,
            step_id=facts.step_id,
            attempt=facts.attempt,
            fencing_token=facts.fencing_token,
            digest=digest,
            code=code,
        )

    def close(self) -> None:
        """The file is closed; further records stay in memory only."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_ledger(path: str | os.PathLike[str]) -> tuple[LedgerRecord, ...]:
    """The records of a ledger file in order; a torn last line is left out."""
    lines = Path(path).read_bytes().split(b"\n")[:-1]
    fields = (json.loads(line) for line in lines)
    return tuple(LedgerRecord(**{**record, "event": LedgerEvent(record["event"])}) for record in fields)


def doubly_started(records: Iterable[LedgerRecord]) -> tuple[LedgerRecord, ...]:
    """The starts of calls that the same server already had in flight, or had finished with success; none is right."""
    busy: set[tuple[str, str, str]] = set()
    wrong: list[LedgerRecord] = []
    for record in records:
        call = (record.worker_id, record.tenant, record.key)
        match record.event:
            case LedgerEvent.STARTED if call in busy:
                wrong.append(record)
            case LedgerEvent.STARTED:
                busy.add(call)
            case LedgerEvent.FAILED:
                busy.discard(call)
            case _:
                pass
    return tuple(wrong)

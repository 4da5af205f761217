"""Shares what the watchers of a run are told among those of this process: snapshots, events and the end."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from runengine_server.domain.events import StepProgress
from runengine_server.domain.ids import RunKey, StepId, StepNo
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.ports.event_log import EventLog
from runengine_server.ports.run_reader import RunIdentity, StepFilter
from runengine_server.service.event_tail import EventTail
from runengine_server.service.message_size import MESSAGE_BYTES_MAX, parts, run_bytes, step_bytes
from runengine_server.service.messages import WatchEnd, WatchMessage, WatchSnapshot
from runengine_server.service.run_lookup import ReadRuns, placed_steps, read_run, run_not_found, with_failed_step
from runengine_server.service.shared_reads import SharedReads

SNAPSHOT_STEPS_MAX = 20_000
"""In all snapshots that are kept for the next watcher; a step takes about 1 KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    sequence: int
    progress: Mapping[StepId, StepProgress]
    messages: tuple[WatchMessage, ...]
    steps: int


class WatchedRuns:
    """The runs that are watched here."""

    def __init__(self, read: ReadRuns, log: EventLog) -> None:
        """Read runs by `read` and their events from `log`."""
        self._read = read
        self._log = log
        self._tails: dict[RunKey, EventTail] = {}
        self._snapshots: OrderedDict[tuple[RunKey, str], _Snapshot] = OrderedDict()
        self._snapshot_reads: SharedReads[tuple[RunKey, str], _Snapshot] = SharedReads()
        self._sequence_reads: SharedReads[RunKey, int | None] = SharedReads()
        self._end_reads: SharedReads[RunKey, WatchMessage] = SharedReads()

    def follow(self, run: RunIdentity, compiled: CompiledWorkflow) -> EventTail:
        """The run's events, to be closed; they are kept for all its watchers until the last one has closed them."""
        tail = self._tails.get(run.key)
        if tail is None:
            tail = EventTail(self._log, run, compiled.workflow, partial(self._forget, run.key))
            self._tails[run.key] = tail
        tail.followers += 1
        return tail

    async def snapshot(self, run: RunIdentity, compiled: CompiledWorkflow, reason: str) -> tuple[WatchMessage, ...]:
        """The run and all its steps of one moment after the call, in parts; the last one says of which sequence.

        Raises:
            NotFoundError: RUN_NOT_FOUND, when retention has removed the run.
        """
        key = (run.key, reason)
        kept = self._snapshots.get(key)
        if kept is not None and kept.progress == self._read.progress.latest(run.key):
            newest = await self._sequence_reads.read(run.key, lambda: self._newest(run))
            if kept.sequence == newest:
                return kept.messages
        return (await self._snapshot_reads.read(key, lambda: self._load(run, compiled, reason))).messages

    async def end(self, run: RunIdentity) -> WatchMessage:
        """The last message of a run that has ended."""

        async def load() -> WatchMessage:
            ended = await read_run(self._read, run, is_full=False)
            return WatchMessage(run_id=run.run_id, sequence=ended.last_sequence, kind=WatchEnd(run=ended))

        return await self._end_reads.read(run.key, load)

    def _forget(self, run: RunKey) -> None:
        del self._tails[run]
        for key in [key for key in self._snapshots if key[0] == run]:
            del self._snapshots[key]

    async def _newest(self, run: RunIdentity) -> int | None:
        return (await self._log.last_sequences([run.key])).get(run.key)

    async def _load(self, run: RunIdentity, compiled: CompiledWorkflow, reason: str) -> _Snapshot:
        progress = self._read.progress.latest(run.key)
        workflow = compiled.workflow
        where = StepFilter(from_step=StepNo(0), limit=len(workflow.steps))
        found = await self._read.reader.steps(run, workflow, where)
        if found is None:
            raise run_not_found(run.run_id)
        row = with_failed_step(found.row, compiled)
        steps = [step for _, step in placed_steps(self._read, run, compiled, found.steps)]
        pieces = list(parts(steps, step_bytes, MESSAGE_BYTES_MAX - run_bytes(row)))
        messages = [
            WatchMessage(
                run_id=run.run_id, sequence=0, kind=WatchSnapshot(run=row, steps=tuple(piece), reason=reason, more=True)
            )
            for piece in pieces[:-1]
        ]
        last = WatchSnapshot(run=row, steps=tuple(pieces[-1]), reason=reason, more=False)
        messages.append(WatchMessage(run_id=run.run_id, sequence=row.last_sequence, kind=last))
        snapshot = _Snapshot(sequence=row.last_sequence, progress=progress, messages=tuple(messages), steps=len(steps))
        self._keep_snapshot((run.key, reason), snapshot)
        return snapshot

    def _keep_snapshot(self, key: tuple[RunKey, str], snapshot: _Snapshot) -> None:
        tail = self._tails.get(key[0])
        if tail is None or tail.followers < 2:
            return  # the next watcher will not come before this one has gone on
        self._snapshots[key] = snapshot
        self._snapshots.move_to_end(key)
        while sum(kept.steps for kept in self._snapshots.values()) > SNAPSHOT_STEPS_MAX:
            self._snapshots.popitem(last=False)

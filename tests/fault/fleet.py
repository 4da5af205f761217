"""What fault tests break: engines that start anew at their address, slow skills, watchers; and the final check."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import anyio.to_thread
import asyncpg

from runengine_client import RunEnded, RunEvent, RunHandle, WatchOptions
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.skills import LedgerEvent, LedgerRecord, doubly_started, read_ledger
from runengine_client.watch import Interruption
from runengine_client.watch_items import RunStatusChanged, StepStatusChanged
from runengine_client.workflow import WorkflowBuilder, expression
from runengine_server.adapters.embedded.port import free_port
from runengine_server.domain.states import RunEventType, RunStatus, StepStatus

from ..support.engine_process import EngineProcess, EngineSettings
from ..support.invariants import Acknowledged, SeenEvent, WatcherLog, check_invariants, report, run_fingerprints
from ..support.processes import ManagedProcess

LEASE_S = 0.75
"""Of the engines under test; their steps are retried within this and two seconds more."""

LIVENESS_S = 60.0
"""How long anything may take before a test gives up: many times what it takes."""

_PROGRAM = Path(__file__).with_name("fault_skills.py")


class SlowSkills(ManagedProcess):
    """The skill `f.sleep`, answering at `address` once constructed, with a ledger of its calls."""

    def __init__(self, folder: Path) -> None:
        """Start the server and wait until it listens."""
        folder.mkdir(parents=True, exist_ok=True)
        self._ledger = folder / "ledger.jsonl"
        super().__init__([sys.executable, str(_PROGRAM), "--folder", str(folder)], log_path=folder / "skills.log")
        try:
            self.address = self.wait_for_line("skills listening on ")
        except BaseException:
            self.kill()
            raise

    def ledger(self) -> tuple[LedgerRecord, ...]:
        """Every record so far."""
        return read_ledger(self._ledger)

    def open_calls(self) -> set[str]:
        """Keys of the calls that have started and not ended."""
        ended = (LedgerEvent.SUCCEEDED, LedgerEvent.FAILED)
        balance: Counter[str] = Counter()
        for record in self.ledger():
            balance[record.key] += (record.event is LedgerEvent.STARTED) - (record.event in ended)
        return {key for key, calls in balance.items() if calls > 0}


@dataclass(slots=True)
class Engine:
    """One place of the fleet: an address at which a server runs, or has been killed and starts anew."""

    settings: EngineSettings
    name: str
    address: str
    process: EngineProcess

    def restart(self) -> None:
        """A new process listens at the address."""
        self.process = EngineProcess(self.settings, self.name, address=self.address)


@dataclass(slots=True, kw_only=True)
class Fleet:
    """Engines on one database; everything that was started is ended by `close`."""

    settings: EngineSettings
    skills: SlowSkills
    engines: list[Engine] = field(default_factory=list)
    watcher_logs: list[WatcherLog] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    interruptions: list[Interruption] = field(default_factory=list)

    def start(self) -> Engine:
        """One more engine."""
        name, address = f"engine{len(self.engines)}", f"127.0.0.1:{free_port()}"
        engine = Engine(self.settings, name, address, EngineProcess(self.settings, name, address=address))
        self.engines.append(engine)
        return engine

    def close(self) -> None:
        """Every engine is dead; the ends of their logs are in the test's output, which is shown when it failed."""
        for engine in self.engines:
            engine.process.cont()
            engine.process.kill()
            tail = "\n".join(engine.process.log.splitlines()[-60:])
            sys.stdout.write(f"--- {engine.name} ---\n{tail}\n")

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection to the engines' database."""
        return await asyncpg.connect(self.settings.database_url)

    async def fetch(self, query: str, *arguments: object) -> list[Any]:
        """Rows of the engines' database."""
        connection = await self.connect()
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    async def watch(self, handle: RunHandle) -> RunStatus:
        """Follow a run to its end through whatever happens, keep what was seen, return how it ended."""
        seen: list[SeenEvent] = []
        options = WatchOptions(after_sequence=0, on_interrupted=self.interruptions.append)
        async for item in handle.watch(options):
            if isinstance(item, RunEvent) and item.sequence:
                seen.append(_seen(item))
            if isinstance(item, RunEnded):
                self.watcher_logs.append(WatcherLog(run_id=handle.id, after_sequence=0, events=seen))
                return RunStatus[item.run.status.name]
        raise AssertionError("a watch ends with the run's end or an error")

    async def fingerprints(self, run_id: str) -> dict[str, str]:
        """What is stored of a run, for `check(unchanged=…)`."""
        connection = await self.connect()
        try:
            return await run_fingerprints(connection, [run_id])
        finally:
            await connection.close()

    async def check(self, *, has_ledger: bool = True, unchanged: Mapping[str, str] | None = None) -> None:
        """Every invariant holds, with what watchers saw, the ledger and what was acknowledged; no call ran twice."""
        ledger = self.skills.ledger() if has_ledger else ()
        connection = await self.connect()
        try:
            violations = await check_invariants(
                connection,
                watcher_logs=self.watcher_logs,
                ledger=ledger,
                acknowledged=self.acknowledged,
                unchanged=unchanged,
            )
        finally:
            await connection.close()
        assert not violations, report(violations)
        assert doubly_started(ledger) == ()


def workflow(name: str, needs: Sequence[Sequence[int]], *, ms: int, is_cached: bool = False) -> workflow_pb2.Workflow:
    """Steps s0, s1 …, each sleeping `ms`, that wait for earlier ones; `salt` reaches all but s0 and s2."""
    builder = WorkflowBuilder(name, version="1.0.0")
    for n, before in enumerate(needs):
        builder.step(
            f"s{n}",
            skill="f.sleep",
            needs=[f"s{other}" for other in before],
            input={
                "ms": ms,
                "step": n,
                "salt": expression("run.id" if n in (0, 2) and not is_cached else "trigger.salt"),
            },
            cache=is_cached,
            backoff_ms=50,
            max_attempts=5,
        )
    return builder.change("salt.update", seeds=["s1"]).build()


DIAMOND = ((), (0,), (0,), (1, 2))
CAMPAIGN = ((), (0,), (0,), (1,), (1, 2), (2,), (3,), (4,), (5,), (6, 7), (8,), (9, 10), (11,))
"""Thirteen steps, several at a time."""


async def until(condition: Any, what: str) -> float:
    """Wait until an async condition holds; how long that took, in seconds."""
    begun = monotonic()
    while not await condition():
        assert monotonic() - begun < LIVENESS_S, f"not within {LIVENESS_S:g} s: {what}"
        await anyio.sleep(0.02)
    return monotonic() - begun


def _seen(event: RunEvent) -> SeenEvent:
    match event.detail:
        case RunStatusChanged(to_status=status):
            to_status: int | None = RunStatus[status.name].value
        case StepStatusChanged(to_status=status):
            to_status = StepStatus[status.name].value
        case _:
            to_status = None
    return SeenEvent(
        sequence=event.sequence, type=RunEventType[event.type.name].value, step_id=event.step_id, to_status=to_status
    )

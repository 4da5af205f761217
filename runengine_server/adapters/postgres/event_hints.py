"""Tells every process what changed, by NOTIFY: hints that cost latency when lost, never correctness."""

import random
from collections.abc import Awaitable, Callable, Collection, Iterable
from time import monotonic

import anyio

from runengine_server.adapters.postgres.database import Connection
from runengine_server.adapters.postgres.event_hub import EventHub
from runengine_server.adapters.postgres.hint_connection import CHANNEL, LOST, hint_connection
from runengine_server.adapters.postgres.hint_payload import Hints, decode_hints, encode_hints
from runengine_server.adapters.postgres.progress_hints import ProgressHint
from runengine_server.domain.ids import RunKey

# A busy engine would otherwise notify once a turn: 5,000 commits a second for nothing anyone could see.
NOTIFY_SPACING_S = 0.005
# As often as watchers look for it.
PROGRESS_SPACING_S = 0.2

# Every process says now and then that it is there. While no other does nobody is notified: a tenth of a busy engine's
# time.
BEACON_S = 10.0
PEERS_S = 3 * BEACON_S + 2

_BACKOFF_S_MIN = 0.1
_BACKOFF_S_MAX = 5.0


class PostgresHints:
    """Sends and receives hints; `run()` must be running for other processes to hear and be heard.

    Announcing never blocks and never fails: this process is told at once, the others with the next notification.
    """

    def __init__(
        self,
        database_url: str,
        hub: EventHub,
        *,
        on_ready: Callable[[], None] = lambda: None,
        on_cancelled: Callable[[Collection[RunKey]], None] = lambda runs: None,
        on_permits: Callable[[], None] = lambda: None,
        on_progress: Callable[[ProgressHint], None] = lambda hint: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Prepare; nothing is connected before `run()`.

        Args:
            database_url: leads to the server itself, not to a transaction pooler.
            hub: whose bells ring for events of runs.
            on_ready: steps may have become ready somewhere.
            on_cancelled: these runs were stopped; attempts of theirs may be abandoned.
            on_permits: another process gave back permits of skills that somebody waits for.
            on_progress: a step that another process runs has come this far.
            jitter: uniform in 0 … 1.
        """
        self._database_url = database_url
        self._hub = hub
        self._on_ready = on_ready
        self._on_cancelled = on_cancelled
        self._on_permits = on_permits
        self._on_progress = on_progress
        self._jitter = jitter
        self._outgoing = Hints()
        self._arrived = anyio.Event()
        self._progress = Hints()
        self._has_progressed = anyio.Event()
        self._notifier_pid = 0
        self._is_sending = False
        self._sent = anyio.Event()
        self._peers_until = 0.0

    def announce_events(self, runs: Collection[RunKey]) -> None:
        """These runs have new events."""
        self._hub.wake(runs)
        self._outgoing.add_events(runs)
        self._arrived.set()

    def announce_ready(self, *, is_local: bool = True) -> None:
        """Steps became ready; `is_local` False when this process has no room for them."""
        if is_local:
            self._on_ready()
        self._outgoing.is_ready = True
        self._arrived.set()

    def announce_cancelled(self, runs: Collection[RunKey]) -> None:
        """These runs were stopped while steps of theirs may be running."""
        self._on_cancelled(runs)
        self._outgoing.add_cancelled(runs)
        self._arrived.set()

    def announce_permits(self) -> None:
        """This process gave back permits of skills that another one waits for."""
        self._outgoing.has_permits = True
        self._arrived.set()

    def announce_progress(self, hint: ProgressHint) -> None:
        """A step that this process runs has come this far; of several reports only the latest may be told."""
        self._progress.add_progress(hint)
        self._has_progressed.set()

    @property
    def _has_peers(self) -> bool:
        """True when another process was heard of lately."""
        return monotonic() < self._peers_until

    async def flush(self, timeout_s: float) -> None:
        """Give what was announced a moment to be sent, at most `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            while self._arrived.is_set() or self._is_sending:
                self._sent = anyio.Event()
                await self._sent.wait()

    async def run(self) -> None:
        """Listen and notify until cancelled; a lost connection is replaced."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._forever, self._listen)
            tasks.start_soon(self._forever, self._notify)
            tasks.start_soon(self._pass_progress_on)

    async def _forever(self, serve: Callable[[Connection, Callable[[], None]], Awaitable[None]]) -> None:
        failures = 0

        def works() -> None:
            nonlocal failures
            failures = 0

        while True:
            try:
                async with hint_connection(self._database_url) as connection:
                    await serve(connection, works)
            except LOST:
                pass
            failures = min(failures + 1, 10)
            delay_s = min(_BACKOFF_S_MAX, _BACKOFF_S_MIN * 2 ** (failures - 1))
            await anyio.sleep(delay_s * (1 + self._jitter()) / 2)

    async def _listen(self, connection: Connection, works: Callable[[], None]) -> None:
        lost = anyio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(CHANNEL, self._hear)
        works()
        self._outgoing.is_here = True
        self._arrived.set()
        # Whatever was said while nobody listened is not repeated.
        self._hub.wake_all()
        self._on_ready()
        await lost.wait()

    def _hear(self, connection: object, pid: int, channel: str, payload: object) -> None:
        if pid == self._notifier_pid:
            return  # Already told.
        hints = decode_hints(str(payload))
        if not self._has_peers:  # it may have missed events of any run while we seemed to be alone
            self._outgoing.merge(Hints(is_here=True, has_many=True))
            self._arrived.set()
        self._peers_until = monotonic() + PEERS_S
        if hints.has_many:
            self._hub.wake_all()
        self._hub.wake(hints.events)
        if hints.cancelled:
            self._on_cancelled(hints.cancelled)
        if hints.is_ready:
            self._on_ready()
        if hints.has_permits:
            self._on_permits()
        for progress in hints.progress.values():
            self._on_progress(progress)

    async def _pass_progress_on(self) -> None:
        while True:
            await self._has_progressed.wait()
            self._has_progressed = anyio.Event()
            reported, self._progress = self._progress, Hints()
            for hint in reported.progress.values():
                self._outgoing.add_progress(hint)
            self._arrived.set()
            await anyio.sleep(PROGRESS_SPACING_S)

    async def _notify(self, connection: Connection, works: Callable[[], None]) -> None:
        self._notifier_pid = connection.get_server_pid()
        while True:
            with anyio.move_on_after(BEACON_S):
                await self._arrived.wait()
            self._arrived = anyio.Event()
            hints, self._outgoing = self._outgoing, Hints()
            if not hints:
                hints.is_here = True
            if not (hints.is_urgent or self._has_peers):
                self._sent.set()  # nobody listens
                await anyio.sleep(NOTIFY_SPACING_S)
                continue
            self._is_sending = True
            try:
                await _send(connection, encode_hints(hints))
            except LOST:
                self._outgoing.merge(hints)
                self._arrived.set()
                raise
            finally:
                self._is_sending = False
            self._sent.set()
            works()
            await anyio.sleep(NOTIFY_SPACING_S)


async def _send(connection: Connection, payloads: Iterable[str]) -> None:
    for payload in payloads:
        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)

"""The scheduler of one engine: pipelines of ticks that commit what attempts returned and lease what became ready.

Batching is by back-pressure: whatever settles while a tick is in flight is the next tick's batch; there is no timer.
"""

import asyncio
from collections.abc import Collection, Coroutine, Mapping, Sequence
from datetime import datetime
from functools import partial

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from runengine_server.domain.cache import CacheEntry, CacheKey
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.events import StepProgress
from runengine_server.domain.ids import EngineNo, Place, RunKey, StepNo
from runengine_server.domain.plan import RebuildPlan
from runengine_server.ports.output_cache import OutputCache
from runengine_server.ports.progress import ProgressBoard
from runengine_server.ports.run_store import RunFacts
from runengine_server.ports.step_queue import EngineRegistry, Lease, StepFailed, StepQueue, Turn
from runengine_server.scheduler.attempt import AttemptRunner, Settled, internal_failure
from runengine_server.scheduler.attempts_in_flight import AttemptsInFlight, InFlight
from runengine_server.scheduler.endings import Endings
from runengine_server.scheduler.engine_lease import EngineLease
from runengine_server.scheduler.followers import Followers
from runengine_server.scheduler.foresight import Foresight
from runengine_server.scheduler.intake import RunIntake, RunIntakes
from runengine_server.scheduler.lookout import Lookout
from runengine_server.scheduler.preparation import (
    CannotResolve,
    Execute,
    Follow,
    Foreseen,
    Preparation,
    Prepared,
    Reuse,
)
from runengine_server.scheduler.reaper import Reaper
from runengine_server.scheduler.reconciler import Reconciler
from runengine_server.scheduler.reporting import Reporting
from runengine_server.scheduler.run_contexts import RunContexts
from runengine_server.scheduler.settings import SchedulerSettings
from runengine_server.scheduler.skill_gates import SkillGates
from runengine_server.scheduler.taken_over import TakenOver
from runengine_server.scheduler.turns import Turns, retry_s
from runengine_server.scheduler.unforeseen import Unforeseen
from runengine_server.scheduler.values import StepValues
from runengine_server.scheduler.wakeup import Wakeup


class Scheduler:
    """Runs steps until cancelled; any number may run on one database."""

    def __init__(
        self,
        *,
        queue: StepQueue,
        registry: EngineRegistry,
        contexts: RunContexts,
        values: StepValues,
        preparation: Preparation,
        attempts: AttemptRunner,
        gates: SkillGates,
        cache: OutputCache,
        reporting: Reporting,
        taken_over: TakenOver,
        progress: ProgressBoard,
        lookout: Lookout,
        settings: SchedulerSettings,
        description: str = "",
    ) -> None:
        """Use what the process shares; `description` names the process for operators."""
        self._in_flight, self._wakeup = AttemptsInFlight(), Wakeup()
        self._endings = Endings(contexts, self._in_flight, reporting)
        self._followers = Followers(queue, self._endings, reporting)
        self._reconciler = Reconciler(queue, self._in_flight, self._endings, reporting, settings.lease_s)
        self._turns = Turns(queue, reporting, self._reconciler.ring)
        self._reaper = Reaper(registry, self._endings, reporting, settings.lease_s)
        self._registry = registry
        self._lease = EngineLease(registry, gates, reporting, lease_s=settings.lease_s, description=description)
        self._values = values
        self._foresight = Foresight(contexts, values, preparation, reporting)
        self._intakes = RunIntakes(
            contexts=contexts,
            foresight=self._foresight,
            lookout=lookout,
            reaper=self._reaper,
            reporting=reporting,
            take=self._take_up,
            ring=self._wakeup.ring,
            is_busy=lambda: self.is_busy,
            on_lost_reply=self._reconciler.ring,
        )
        self._preparation = preparation
        self._attempts = attempts
        self._gates = gates
        self._cache = cache
        self._reporting = reporting
        self._taken_over = taken_over
        self._progress = progress
        self._settings = settings
        self._slots_asked_for, self._settled = 0, list[Settled]()
        self._lookout = lookout
        self._unforeseen = Unforeseen(self._prepare_and_start, self._start)
        self._is_leasing = True
        self._is_running = False
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def attempts_in_flight(self) -> int:
        """How many leases this engine holds."""
        return len(self._in_flight)

    @property
    def is_busy(self) -> bool:
        """True when new work had better be taken up by another engine."""
        return self._slots_taken > self._settings.attempts_max // 2

    async def intake(self, facts: RunFacts, plan: RebuildPlan, ready: Sequence[StepNo]) -> RunIntake:
        """Prepare to take up a run that is about to be created; see `WorkSignal`."""
        room = self._free_slots(()) if self._is_running and not self.is_busy else 0
        return await self._intakes.open(self._lease.engine, room, facts, plan, ready)

    def cancel_attempts(self, runs: Sequence[RunKey]) -> None:
        """Stop what runs for these runs; they were cancelled here or elsewhere."""
        self._in_flight.cancel_runs(runs)

    def permits_freed(self) -> None:
        """Another engine gave permits of skills back."""
        self._gates.permits_freed()

    def wake(self) -> None:
        """Look at the queue now."""
        self._lookout.want()
        self._wakeup.ring()

    async def run(self) -> None:
        """Lease and run steps until cancelled, then hand every lease back."""
        lease = self._lease
        await lease.begin()
        try:
            # Attempts have asyncio's group: anyio's takes 20 µs more to start a task.
            async with anyio.create_task_group() as tasks, asyncio.TaskGroup() as attempts:
                self._tasks = attempts
                for _ in range(self._settings.pipelines):
                    tasks.start_soon(self._run_pipeline)
                tasks.start_soon(self._gates.run, self.wake)
                tasks.start_soon(lease.keep, self._in_flight.cancel_all, self.wake)
                tasks.start_soon(self._reconciler.run, lambda: lease.engine, self._prepare_and_start, self._let_go)
                tasks.start_soon(self._reaper.run, self.wake)
                self._is_running = True
                try:
                    await anyio.sleep_forever()
                finally:
                    self._is_running = False  # what is leased from now on is not started here
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(self._settings.drain_s):
                await self._retire()

    async def drain(self) -> None:
        """Stop leasing; attempts in flight go on until `run` is cancelled."""
        self._is_leasing = False

    # -- ticks

    async def _run_pipeline(self) -> None:
        lookout = self._lookout
        while True:
            is_idle = not (self._settled or lookout.has_work)
            if is_idle and not await self._wakeup.wait(lookout.wait_s):
                lookout.waited()
            batch = self._settled[: self._settings.batch_max]
            del self._settled[: len(batch)]
            capacity = self._free_slots(batch)
            known = lookout.known(capacity, has_batch=bool(batch))
            if not batch and not (capacity and (known or known is None)):
                continue
            self._slots_asked_for += capacity
            try:
                foreseen = await self._foresight.ahead_of(batch, capacity)
                questions = self._foresight.questions(foreseen)
                engine = self._lease.engine
                batch, turn = await self._turns.take(engine, batch, capacity, questions, known)
            except BaseException:
                self._settled[:0] = batch  # cancelled: sent once more at the end, fenced where it was committed
                raise
            finally:
                self._slots_asked_for -= capacity
            # What a number was granted that the engine has lost meanwhile is others' by now.
            fresh = self._in_flight.add(turn.leases) if engine == self._lease.engine else []
            lookout.heed(turn, capacity)
            await self._commit(batch, turn)
            self._dispatch(fresh, turn, foreseen)

    def _free_slots(self, batch: Sequence[Settled]) -> int:
        """How many steps a tick may lease: what is free, and what its own batch frees."""
        if not self._is_leasing:
            return 0
        taken = self._slots_taken + self._slots_asked_for + self._intakes.reserved - len(batch)
        return max(0, min(self._settings.attempts_max - taken, self._settings.batch_max))

    @property
    def _slots_taken(self) -> int:
        """Attempts in flight but for the backlog of limited skills, which must not keep others from running."""
        return len(self._in_flight) - min(self._gates.backlog, self._settings.backlog_max)

    async def _commit(self, batch: list[Settled], turn: Turn) -> None:
        """What becomes true once a batch is committed; it is told also when the engine is stopped meanwhile."""
        told = batch
        try:
            told = await self._taken_over.timed(batch, turn.accepted)
        finally:
            await self._tell(told, turn)

    async def _tell(self, batch: Sequence[Settled], turn: Turn) -> None:
        """Values, hot entries, logs, hints."""
        entries: list[tuple[CacheEntry, int]] = []
        for settled, is_accepted in zip(batch, turn.accepted, strict=True):
            lease = settled.completion.lease
            self._in_flight.remove(lease)
            if not is_accepted:
                continue
            if settled.value is not None:
                self._values.put((lease.run, lease.step), settled.value, settled.size_bytes)
            if settled.entry is not None and settled.context is not None:
                step = settled.context.compiled.workflow.steps[lease.step]
                entries.append((settled.entry, step.cache_policy.hot_ttl_s))
        self._reporting.committed(batch, turn)
        if turn.ended:
            known = {s.completion.lease.run: s.context for s in batch if s.context is not None}
            await self._endings.happened(turn.ended, known)
        if entries:
            await self._cache.store(entries)

    # -- attempts

    def _take_up(self, engine: EngineNo, turn: Turn, foreseen: Mapping[Place, Foreseen]) -> None:
        """Start what was leased with a new run."""
        if engine != self._lease.engine or not self._is_running:
            return  # others' by now, or taken back with all that the engine held
        fresh = self._in_flight.add(turn.leases)
        try:
            self._dispatch(fresh, turn, foreseen)
        except Exception:  # before anything was started
            for lease in fresh:
                self._let_go(lease)
            raise

    def _dispatch(self, leases: Sequence[Lease], turn: Turn, foreseen: Mapping[Place, Foreseen]) -> None:
        """Start what a turn leased (`leases`: those that are new to this process), first what was foreseen."""
        if not leases:
            return
        ready, rest, missed = self._foresight.prepared(foreseen, turn)
        if len(leases) < len(turn.leases):  # `_reconcile` saw some first
            fresh = set(leases)
            ready, rest = [step for step in ready if step.lease in fresh], [lease for lease in rest if lease in fresh]
        self._start_all(ready, turn.begun, missed)
        if rest:
            self._unforeseen.add(rest, set(turn.begun) - {step.lease.run for step in ready})

    async def _prepare_and_start(
        self, leases: Sequence[Lease], begun: Collection[RunKey] = (), *, tries: int = 0
    ) -> None:
        """Prepare leased steps and start those that must execute; `begun` are runs whose first lease this is."""
        prepared = await self._prepare(leases)
        self._start_all(prepared, begun)
        if follows := [step for step in prepared if isinstance(step, Follow)]:
            gone, kept = await self._followers.give_up(self._lease.engine, follows)
            for lease in gone:
                self._let_go(lease)
            if kept:
                self._start(self._ask_again(kept, tries))

    async def _ask_again(self, leases: Sequence[Lease], tries: int) -> None:
        """What these were to wait for has ended, or is just ending: at once, then after ever longer pauses."""
        await anyio.sleep(retry_s(tries - 1) if tries else 0)
        await self._prepare_and_start(leases, tries=tries + 1)

    def _start_all(
        self, prepared: Sequence[Prepared], begun: Collection[RunKey], missed: Sequence[CacheKey] = ()
    ) -> None:
        if begun:
            self._reporting.runs_begun({step.lease.run: step.context for step in prepared if step.lease.run in begun})
        self._reporting.cache_missed(missed)
        for step in prepared:
            try:
                self._begin(step)
            except Exception as error:
                self._fail_internally(step.lease, error)

    def _begin(self, step: Prepared) -> None:
        match step:
            case Execute() if self._in_flight.is_cancelled(step.lease):
                self._drop(step.lease)
            case Execute():
                if self._gates.is_leased and (settled := self._attempts.execute_at_once(step)):
                    self._reporting.step_started(step.context, step.lease)
                    self._settle(settled)
                else:
                    self._start(self._execute(step))
            case Reuse():
                self._settle(self._attempts.reuse(step))
            case CannotResolve():
                self._settle(self._attempts.cannot_resolve(step))
            case Follow():
                pass  # with all others at once

    async def _prepare(self, leases: Sequence[Lease]) -> Sequence[Prepared]:
        """Prepare until the database answers; what cannot be prepared at all fails, alone."""
        tries = 0
        while True:
            try:
                prepared = await self._preparation.prepare(leases)
                for lease in set(leases) - {step.lease for step in prepared}:
                    self._let_go(lease)  # its run no longer exists
                return prepared
            except UnavailableError as error:
                self._reporting.database_unavailable(error)
                await anyio.sleep(retry_s(tries))
                tries += 1
            except Exception as error:
                if len(leases) > 1:
                    return [step for lease in leases for step in await self._prepare([lease])]
                self._fail_internally(leases[0], error)
                return ()

    async def _execute(self, step: Execute) -> None:
        with anyio.CancelScope() as scope:
            self._in_flight.began(step.lease, scope)
            try:
                await checkpoint_if_cancelled()  # as it may be before this task first runs: then nothing is called
                async with self._gates.passed(step, self._attempts.timeout_ms) as may_begin:
                    if not may_begin:
                        self._reconciler.give_up(step.lease)
                        return
                    self._in_flight.calls(step.lease)
                    self._reporting.step_started(step.context, step.lease)
                    self._settle(await self._attempts.execute(step, partial(self._on_progress, step)))
            except Exception as error:
                self._fail_internally(step.lease, error)
            finally:
                self._progress.clear(step.lease.run, step.context.compiled.workflow.steps[step.lease.step].step_id)
            return
        held = self._drop(step.lease)
        if held is not None and held.is_unwanted:
            try:
                await self._attempts.abandon(step)
            except Exception as error:
                self._reporting.internal_failure(step.lease, error)

    def _drop(self, lease: Lease) -> InFlight | None:
        """The attempt was cancelled: its lease is gone, or is to be handed back; returns what was held of one gone."""
        if self._in_flight.is_given_up(lease):
            self._reconciler.give_up(lease)
            return None
        return self._let_go(lease)

    def _let_go(self, lease: Lease) -> InFlight | None:
        """Free the slot of a lease that no turn will settle."""
        held = self._in_flight.remove(lease)
        self.wake()
        return held

    def _fail_internally(self, lease: Lease, error: Exception) -> None:
        self._reporting.internal_failure(lease, error)
        self._settle(internal_failure(lease))

    def _settle(self, settled: Settled) -> None:
        if isinstance(settled.completion, StepFailed):  # before its slot of the skill goes to another one of its run
            self._in_flight.give_up([settled.completion.lease.run])
        self._settled.append(settled)
        self._wakeup.ring()

    def _on_progress(self, step: Execute, fraction: float, message: str, reported_at: datetime) -> None:
        step_id = step.context.compiled.workflow.steps[step.lease.step].step_id
        progress = StepProgress(fraction=fraction, message=message, reported_at=reported_at)
        self._progress.report(step.lease.run, step_id, progress, attempt=step.lease.attempt)

    def _start(self, work: Coroutine[object, object, None]) -> None:
        assert self._tasks is not None, "the scheduler runs"
        self._tasks.create_task(work)

    async def _retire(self) -> None:
        """Commit what has settled and hand the rest back; what this cannot do, others do when the lease ends."""
        batch, self._settled = self._settled, []
        try:
            if batch:
                await self._commit(batch, await self._turns.take_last(self._lease.engine, batch))
        except UnavailableError as error:
            self._reporting.database_unavailable(error)
        except Exception as error:
            self._reporting.internal_failure(batch[0].completion.lease, error)
        try:
            taken = await self._registry.retire(self._lease.engine)
            self._reporting.runs_changed(taken.runs)
            await self._endings.happened(taken.ended, {})
        except UnavailableError as error:
            self._reporting.database_unavailable(error)

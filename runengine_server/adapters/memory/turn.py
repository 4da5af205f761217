"""One scheduler turn in memory: what the SQL function `tick` does, in the same order."""

from collections.abc import Sequence
from typing import assert_never

from runengine_server.adapters.memory.picking import Picked, pick
from runengine_server.adapters.memory.queued_steps import QueuedStep
from runengine_server.adapters.memory.tables import FailedTry, MemoryTables, Move, RunRecord, StepResult
from runengine_server.domain.cache import CacheMiss, FlightId
from runengine_server.domain.ids import EngineNo, Place, RunKey, StepNo
from runengine_server.domain.states import MissReason, OutputSource, StepStatus
from runengine_server.ports.step_queue import (
    AttemptFailed,
    CacheQuestion,
    Completion,
    Dependents,
    Lease,
    StepExecuted,
    StepFailed,
    StepReused,
)

# Soon again: others hold the runs of steps that were picked.
_SOON_S = 0.005


class MemoryTurn:
    """Commits what attempts returned, readies their dependents, leases, and answers questions; each method once.

    Attributes:
        leases: what was leased, own dependents first.
        begun: the runs whose first lease was among them.
        ended: the runs that became terminal.
        next_available_s, look_s: see `Turn`.
    """

    def __init__(self, tables: MemoryTables, engine: EngineNo) -> None:
        """A turn of `engine` over `tables`."""
        self._tables = tables
        self._engine = engine
        self._now = tables.now()
        self._moves: dict[RunKey, list[Move]] = {}
        self._failing: dict[RunKey, None] = {}
        self._unlocked: dict[Place, int] = {}  # with their timeouts, in the order in which they were first named
        self._ready: list[Place] = []
        self._queued: dict[Place, QueuedStep] = {}
        self._ended_flights: list[tuple[FlightId, Place]] = []
        self._unfiled: dict[RunKey, None] = {}
        self.leases: list[Lease] = []
        self.begun: list[RunKey] = []
        self.ended: list[RunKey] = []
        self.next_available_s: float | None = None
        self.look_s: float | None = None

    def commit(self, completions: Sequence[Completion]) -> list[bool]:
        """Apply completions whose leases are not gone; says which were."""
        runs = self._tables.runs
        self._failing = {
            done.lease.run: None for done in completions if done.lease.run in runs and runs[done.lease.run].is_failing
        }
        accepted = [False] * len(completions)
        for at in sorted(range(len(completions)), key=lambda at: completions[at].lease.run):
            accepted[at] = self._take(completions[at])
        self._ready = [
            place
            for place in self._unlocked
            if runs[place[0]].waiting_for[place[1]] == 0 and place[0] not in self._failing
        ]
        return accepted

    def lease(self, capacity: int, known: Sequence[Place] | None) -> None:
        """Lease up to `capacity` steps: first what this turn made ready, then `known` or by turns; ends what is due."""
        tables = self._tables
        if not tables.is_alive(self._engine):
            capacity = 0  # an engine whose own lease has ended commits, but leases nothing
        is_looking = capacity > 0 and (known is None or len(self._ready) + len(known) > capacity)
        if is_looking:
            self.look_s = 0.0
        has_waiting = is_looking and any(queued.is_free for queued in tables.queue.values())
        self._lease_ready(capacity, has_waiting=has_waiting)
        if not self._failing:  # a turn that has runs to settle comes back for more at once
            woken = self._end_flights()
            if capacity > len(self.leases):
                if has_waiting or woken or len(self._queued) > len(self.leases):
                    self.look_s = 0.0
                    self._lease_picked(pick(tables, self._now, capacity - len(self.leases)))
                elif known and not is_looking:
                    self._lease_picked(self._known(known))
        self._apply_moves()
        if self._failing:
            self.next_available_s = 0.0
            self.ended += [key for key in sorted(self._failing) if tables.settle_run(tables.runs[key])]
            self._end_flights()

    def lease_new(self, run: RunKey, steps: Sequence[StepNo]) -> None:
        """Lease ready steps of a run that has just been created, as if they had never been free."""
        for step in steps:
            self._grant((run, step), self._tables.queue[run, step])
            self._move(run, Move(step=step, attempt=1, from_status=StepStatus.PENDING, to_status=StepStatus.RUNNING))
        self._apply_moves()

    def answer(self, questions: Sequence[CacheQuestion]) -> list[CacheMiss | None]:
        """For each lease, why the cache has nothing for it, if so and it leads its flight; None otherwise."""
        asked = {question.query.claimant: question for question in questions}
        answers: dict[Place, CacheMiss | None] = {}
        for place in sorted((lease.run, lease.step) for lease in self.leases):
            if question := asked.get(place):
                answers[place] = self._miss(question, place)
        return [answers.get((lease.run, lease.step)) for lease in self.leases]

    # -- completions

    def _take(self, done: Completion) -> bool:
        """Apply a completion unless its lease is gone."""
        lease = done.lease
        place = lease.run, lease.step
        queued = self._tables.queue.get(place)
        if queued is None or queued.engine != self._engine or queued.epoch != lease.epoch:
            return False
        del self._tables.queue[place]
        match done:
            case StepExecuted():
                self._executed(done, queued)
            case StepReused():
                self._reused(done, queued)
            case AttemptFailed() if lease.run not in self._failing:
                self._tried(done, queued)
            case AttemptFailed():  # in a failing run nothing is tried again
                self._failed(done, queued, queued.attempt)
            case StepFailed():
                self._failed(done, queued, queued.attempt - (not done.is_attempted))
                self._tables.blame(self._tables.runs[lease.run], lease.step, done.run_failure)
            case _:
                assert_never(done)
        return True

    def _executed(self, done: StepExecuted, queued: QueuedStep) -> None:
        tables, lease = self._tables, done.lease
        run, place = tables.runs[lease.run], (lease.run, lease.step)
        tables.results[place] = StepResult(
            status=StepStatus.COMPLETED,
            attempt=queued.attempt,
            lease_losses=queued.lease_losses,
            started_at=queued.leased_at if queued.epoch == queued.attempt else queued.begun_at,
            ended_at=self._now,
            epoch=queued.epoch,
            source=OutputSource.EXECUTED,
            producer=place,
            input_hash=done.input_hash,
            cache_version=done.cache_version,
            output_hash=done.output_hash,
            decision=done.decision,
        )
        tables.outputs[place], tables.artifacts[place] = done.output, done.artifacts
        if done.filing is not None:
            key = (run.new.tenant, done.filing.workflow_name, done.filing.step_id, done.input_hash)
            tables.filed[key] = done.filing.fingerprint, place
            tables.removed.discard(key)
        for ordinal in range(len(done.artifacts)):
            self._move(lease.run, Move(step=lease.step, attempt=None, ordinal=ordinal))
        self._move(lease.run, _from_running(lease.step, queued.attempt, StepStatus.COMPLETED))
        if done.flight is not None and done.filing is None:
            self._unfiled[lease.run] = None
        elif done.flight is not None:
            self._ended_flights.append((done.flight, place))
        self._count_down(run, done.dependents)

    def _reused(self, done: StepReused, queued: QueuedStep) -> None:
        lease, attempt = done.lease, queued.attempt - 1
        self._tables.results[lease.run, lease.step] = StepResult(
            status=StepStatus.SKIPPED,
            attempt=attempt,
            lease_losses=queued.lease_losses,
            started_at=queued.leased_at,
            ended_at=self._now,
            epoch=queued.epoch,
            source=done.source,
            producer=(done.producer_run, done.producer_step),
            input_hash=done.input_hash,
            cache_version=done.cache_version,
            output_hash=done.output_hash,
            decision=done.decision,
        )
        self._move(lease.run, _from_running(lease.step, attempt, StepStatus.SKIPPED))
        if done.flight is not None:
            self._ended_flights.append((done.flight, (lease.run, lease.step)))
        self._count_down(self._tables.runs[lease.run], done.dependents)

    def _tried(self, failed: AttemptFailed, queued: QueuedStep) -> None:
        """Back to the queue, delayed; the epoch goes on counting."""
        place = failed.lease.run, failed.lease.step
        self._note_try(place, queued, queued.attempt, failed)
        self._queued[place] = QueuedStep(
            timeout_ms=abs(queued.timeout_ms),
            ready_at=self._now,
            available_at=self._now + failed.delay_ms / 1000,
            epoch=queued.epoch,
            attempt=queued.attempt + 1,
            lease_losses=queued.lease_losses,
        )
        self._move(place[0], _from_running(place[1], queued.attempt, StepStatus.READY))

    def _failed(self, failed: AttemptFailed | StepFailed, queued: QueuedStep, attempt: int) -> None:
        place = failed.lease.run, failed.lease.step
        self._note_try(place, queued, attempt, failed)
        self._tables.results[place] = StepResult(
            status=StepStatus.FAILED,
            attempt=attempt,
            lease_losses=queued.lease_losses,
            started_at=queued.leased_at,
            ended_at=self._now,
            epoch=queued.epoch,
            input_hash=failed.input_hash or "",
            decision=failed.decision,
            error=failed.failure,
        )
        self._failing[place[0]] = None
        self._move(place[0], _from_running(place[1], attempt, StepStatus.FAILED))

    def _note_try(self, place: Place, queued: QueuedStep, attempt: int, failed: AttemptFailed | StepFailed) -> None:
        self._tables.tries.append(FailedTry(place=place, attempt=attempt, epoch=queued.epoch, failure=failed.failure))

    def _count_down(self, run: RunRecord, dependents: Dependents) -> None:
        for step, timeout_ms in zip(dependents.steps, dependents.timeouts_ms, strict=True):
            run.waiting_for[step] -= 1
            self._unlocked.setdefault((run.key, step), timeout_ms)

    # -- leases

    def _lease_ready(self, capacity: int, *, has_waiting: bool) -> None:
        """Queue what this turn made ready; leased at once, but others get half of the capacity where any wait."""
        self_max = capacity // 2 if has_waiting and len(self._ready) * 2 > capacity else capacity
        runs, urgent = self._tables.runs, self._priorities_waiting() if has_waiting else {}
        for place in self._ready:
            assert place not in self._tables.results, f"step {place} has ended; it must not become ready"
            new = runs[place[0]].new
            queued = QueuedStep(timeout_ms=self._unlocked[place], ready_at=self._now, available_at=self._now)
            self._queued[place] = queued
            is_leased = len(self.leases) < self_max and urgent.get(new.tenant, new.priority) <= new.priority
            if is_leased:
                self._grant(place, queued)
            to = StepStatus.RUNNING if is_leased else StepStatus.READY
            self._move(place[0], Move(step=place[1], attempt=1, from_status=StepStatus.PENDING, to_status=to))
        self._tables.queue.update(self._queued)

    def _priorities_waiting(self) -> dict[str, int]:
        """The highest priority of each tenant's steps in the queue."""
        found: dict[str, int] = {}
        for place, queued in self._tables.queue.items():
            if queued.is_free:
                new = self._tables.runs[place[0]].new
                found[new.tenant] = max(found.get(new.tenant, 0), new.priority)
        return found

    def _known(self, places: Sequence[Place]) -> Picked:
        """Those that are free."""
        queue = self._tables.queue
        free = [
            place
            for place in places
            if place in queue and queue[place].is_free and queue[place].available_at <= self._now
        ]
        return Picked(places=free, has_more=False, next_at=None)

    def _lease_picked(self, picked: Picked) -> None:
        leased_before = len(self.leases)
        for place in picked.places:
            run, queued = self._tables.runs[place[0]], self._tables.queue[place]
            if run.is_failing or run.status.is_terminal:
                continue
            self._grant(place, queued)
            self._move(
                place[0],
                Move(step=place[1], attempt=queued.attempt, from_status=StepStatus.READY, to_status=StepStatus.RUNNING),
            )
        if picked.has_more:
            self.next_available_s = 0.0
        elif len(picked.places) > len(self.leases) - leased_before:
            self.next_available_s = _SOON_S
        elif picked.next_at is not None:
            self.next_available_s = picked.next_at - self._now

    def _grant(self, place: Place, queued: QueuedStep) -> None:
        queued.engine, queued.leased_at = self._engine, self._now
        queued.begun_at = queued.begun_at or self._now
        queued.epoch += 1
        self.leases.append(as_lease(place, queued))

    # -- flights

    def _end_flights(self) -> bool:
        """What was filed wakes all that wait for it, what was not the oldest; True when some step may be free by it."""
        flights = self._tables.flights
        is_any = bool(self._unfiled)
        for run in sorted(self._unfiled):
            flights.hand_over(run)
        for flight, leader in self._ended_flights:
            is_any = flights.end(flight, leader) or is_any
        self._unfiled, self._ended_flights = {}, []
        return is_any

    def _miss(self, question: CacheQuestion, place: Place) -> CacheMiss | None:
        tables, key = self._tables, question.query.key
        if not tables.flights.claim(question.flight, place) or tables.is_key_known(key):
            return None
        is_known = question.is_step_known or tables.is_step_known(key)
        return CacheMiss(
            reason=MissReason.INPUT_CHANGED if is_known else MissReason.NEVER_SEEN,
            generation=tables.removals[key.tenant, key.workflow_name],
        )

    # -- moves

    def _move(self, run: RunKey, move: Move) -> None:
        self._moves.setdefault(run, []).append(move)

    def _apply_moves(self) -> None:
        for key, moves in self._moves.items():
            has_begun, has_ended = self._tables.apply_moves(self._tables.runs[key], moves)
            self.begun += [key] * has_begun
            self.ended += [key] * has_ended


def as_lease(place: Place, queued: QueuedStep) -> Lease:
    """The lease of a queued step."""
    return Lease(place[0], place[1], queued.epoch, queued.attempt, queued.lease_losses, queued.is_follower)


def _from_running(step: StepNo, attempt: int, to_status: StepStatus) -> Move:
    return Move(step=step, attempt=attempt, from_status=StepStatus.RUNNING, to_status=to_status)

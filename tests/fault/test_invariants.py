"""The checker itself: it is content with what the engine writes, and every invariant notices its violation."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg
import pytest

from runengine_client.skills import LedgerEvent, LedgerRecord
from runengine_server.ports.step_queue import Lease

from ..support.hand_driven import (
    TENANT,
    CreateOptions,
    DrivenRun,
    HandDriven,
    chain,
    dag,
    file_named,
    hand_driven,
    wide,
)
from ..support.invariants import (
    Acknowledged,
    Connection,
    SeenEvent,
    WatcherLog,
    check_invariants,
    invariants,
    report,
    run_fingerprints,
)

pytestmark = pytest.mark.anyio

BY_HAND = ("i8_output_has_its_digest", "i9_base_is_unchanged")
"""Invariants that no statement can express: checked in Python."""

# What to break, and the invariant that must notice: $done is a completed run with a retry, an artifact and a cache
# entry, $update one that reuses steps 0 and 1 of it, $live one with step 1 leased, $failed one that failed.
VIOLATIONS = {
    "i1_one_terminal_event": "UPDATE run_events SET to_status = 5 WHERE run = $done AND step = 2 AND to_status = 4",
    "i1_ended_is_not_queued": "INSERT INTO step_queue (run, step, tenant, priority, timeout_ms, ready_at, available_at)"
    " VALUES ($done, 2, 'acme', 0, 1, now(), now())",
    "i1_output_has_its_result": "DELETE FROM outputs WHERE run = $done AND step = 2",
    "i2_epochs_grow": "UPDATE step_attempts SET lease_epoch = 9 WHERE run = $done",
    "i2_leases_leave_events": "UPDATE step_results SET lease_epoch = 5 WHERE run = $done AND step = 2",
    "i3_dependencies_first": "UPDATE run_events SET step = 2 WHERE run = $done AND step = 1 AND to_status = 4",
    "i3_definition_is_there": "DELETE FROM workflow_definitions",
    "i4_counters_equal_recount": "UPDATE run_progress SET skipped = skipped + 1 WHERE run = $live",
    "i4_events_count_the_same": "UPDATE run_events SET completed = 9 WHERE run = $done",
    "i4_waiting_equals_recount": "UPDATE run_state SET waiting_for[3] = 0 WHERE run = $live",
    "i5_events_contiguous": "DELETE FROM run_events WHERE run = $done AND sequence = 3",
    "i5_states_follow": "UPDATE run_events SET from_status = 1 WHERE run = $done AND step = 2 AND to_status = 4",
    "i5_artifacts_have_events": "DELETE FROM artifacts",
    "i6_terminal_event_is_last": "UPDATE run_progress SET last_sequence = last_sequence + 1 WHERE run = $done",
    "i6_terminal_is_still": "UPDATE run_progress SET deadline = now() WHERE run = $failed",
    "i6_live_can_move": "DELETE FROM step_queue WHERE run = $live",
    "i8_cache_names_a_success": "UPDATE step_cache SET output_hash = sha256('other')",
    "i8_output_has_its_digest": "UPDATE outputs SET body = '{}' WHERE run = $done AND step = 2",
    "i9_reused_is_the_producers": "UPDATE step_results SET output_hash = sha256('') WHERE run = $update AND step = 0",
    "i9_plan_is_kept": "UPDATE runs SET plan = set_byte(plan, 2, 34) WHERE run = $update",
    "i9_base_is_unchanged": 'UPDATE runs SET labels = \'{"late": "1"}\' WHERE run = $done',
    "i10_acknowledged_is_there": "DELETE FROM idempotency_keys",
    "i10_request_has_its_run": "UPDATE idempotency_keys SET request_id = 'other'",
    "i11_attempts_within_bounds": "UPDATE step_results SET attempt = 4 WHERE run = $done AND step = 2",
    "i12_leases_have_living_engines": "UPDATE engines SET lease_until = now() - interval '3 seconds'",
    "i12_leases_end": "UPDATE step_queue SET leased_at = now() - interval '1 day' WHERE engine IS NOT NULL",
    "i13_permits_within_limits": "INSERT INTO skill_permits (skill_id, engine, turn, skill_limit, wanted, held,"
    " asked_at) SELECT 'x', engine, 1, 1, 2, 2, now() FROM engines",
    "i14_flights_have_leaders": "INSERT INTO cache_flights (flight, run, step, started_at)"
    " VALUES (decode(repeat('00', 16), 'hex'), $done, 2, now() - interval '1 minute')",
    "i14_followers_have_flights": "UPDATE step_queue SET waiting_on = decode(repeat('00', 16), 'hex')",
    "i15_rows_have_their_run": "DELETE FROM runs WHERE run = $done",
    "i15_run_is_whole": "DELETE FROM run_state WHERE run = $update",
}


@dataclass(slots=True, kw_only=True)
class Observed:
    """Runs of every kind, and what was seen and said of them."""

    connection: Connection
    runs: dict[str, DrivenRun] = field(default_factory=dict)
    watcher_logs: list[WatcherLog] = field(default_factory=list)
    ledger: list[LedgerRecord] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    unchanged: dict[str, str] = field(default_factory=dict)

    async def violated(self) -> set[str]:
        """The names of the invariants that do not hold."""
        violations = await check_invariants(
            self.connection,
            watcher_logs=self.watcher_logs,
            ledger=self.ledger,
            acknowledged=self.acknowledged,
            unchanged=self.unchanged,
        )
        return {violation.invariant for violation in violations}


@pytest.fixture
async def observed(database_url: str):
    """A database with runs of every kind, none of them wrong."""
    connection = await asyncpg.connect(database_url)
    try:
        async with hand_driven(database_url) as driven:
            observed = Observed(connection=connection)
            await _make_runs(driven, observed)
            yield observed
    finally:
        await connection.close()


async def test_what_the_engine_writes_is_right(observed: Observed) -> None:
    """Runs that were completed, updated, failed, cancelled or are under way violate nothing."""
    violations = await check_invariants(observed.connection, watcher_logs=observed.watcher_logs, ledger=observed.ledger)
    assert not violations, report(violations)
    assert not await observed.violated()


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_a_violation_is_noticed(observed: Observed, name: str) -> None:
    """A row that breaks the invariant is reported under its name."""
    statement = VIOLATIONS[name]
    for kind, run in observed.runs.items():
        statement = statement.replace(f"${kind}", str(run.key))
    assert (await observed.connection.execute(statement)).split()[-1] != "0", "nothing was broken"
    assert name in await observed.violated()


async def test_a_missed_event_is_noticed(observed: Observed) -> None:
    """A watcher that did not get an event, or another one, violates I5."""
    log = observed.watcher_logs[0]
    observed.watcher_logs = [WatcherLog(run_id=log.run_id, after_sequence=0, events=[*log.events[:3], *log.events[4:]])]
    assert await observed.violated() == {"i5_watchers_saw_the_table"}
    other = SeenEvent(sequence=4, type=2, step_id="s3", to_status=7)
    changed = [*log.events[:3], other, *log.events[4:]]
    observed.watcher_logs = [WatcherLog(run_id=log.run_id, after_sequence=0, events=changed)]
    assert await observed.violated() == {"i5_watchers_saw_the_table"}


async def test_an_event_seen_twice_is_noticed(observed: Observed) -> None:
    """A watcher that got an event again violates I5."""
    log = observed.watcher_logs[0]
    observed.watcher_logs = [WatcherLog(run_id=log.run_id, after_sequence=0, events=[*log.events, log.events[2]])]
    assert await observed.violated() == {"i5_watchers_saw_in_order"}


async def test_an_output_nobody_made_is_noticed(observed: Observed) -> None:
    """A committed output that the runner did not return violates I7."""
    observed.ledger = observed.ledger[1:]
    assert await observed.violated() == {"i7_executed_is_in_the_ledger"}


async def test_a_forgotten_run_is_noticed(observed: Observed) -> None:
    """A run or a cancellation that was acknowledged and is not there violates I10."""
    observed.acknowledged = [Acknowledged(run_id="00000000-0000-0000-0000-000000000001")]
    assert await observed.violated() == {"i10_acknowledged_is_there"}
    observed.acknowledged = [Acknowledged(run_id=observed.runs["done"].run_id, is_cancelled=True)]
    assert await observed.violated() == {"i10_acknowledged_is_there"}


def test_every_invariant_is_tested() -> None:
    """No statement is left that no test has seen fail."""
    observed_elsewhere = {"i5_watchers_saw_the_table", "i5_watchers_saw_in_order", "i7_executed_is_in_the_ledger"}
    assert {*VIOLATIONS, *observed_elsewhere} == {*invariants(), *BY_HAND}


async def _make_runs(driven: HandDriven, observed: Observed) -> None:
    engine = await driven.engine()
    diamond = dag("diamond", [[], [0], [0], [1, 2]])

    async def finish(run: DrivenRun) -> None:
        leases = (await driven.queue.tick(engine, [], 10)).leases
        retried: set[int] = set()
        while leases:
            batch = []
            for lease in leases:
                if lease.step == 1 and lease.step not in retried:
                    retried.add(lease.step)
                    batch.append(driven.attempt_failed(lease))
                else:
                    files = [file_named("mix"), file_named("cover")] if lease.step == 3 else []
                    batch.append(driven.executed(lease, *files, is_filed=True))
                    _write_ledger(driven, observed, run, lease)
            leases = (await driven.queue.tick(engine, batch, 10)).leases

    done = observed.runs["done"] = await driven.started(diamond, CreateOptions(request_id="first"), variant="a")
    await finish(done)
    reused = {step: driven.binding(done, step) for step in (0, 1)}
    update = await driven.started(diamond, CreateOptions(base=done.key, reused=reused), variant="a")
    observed.runs["update"] = update
    await finish(update)

    failed = observed.runs["failed"] = await driven.started(wide(2))
    leases = (await driven.queue.tick(engine, [], 1)).leases
    await driven.queue.tick(engine, [driven.step_failed(leases[0])], 0)
    cancelled = await driven.started(wide(3))
    await driven.queue.tick(engine, [], 2)
    assert await driven.store.cancel(TENANT, cancelled.run_id, "ann", "enough")
    live = observed.runs["live"] = await driven.started(chain(3))
    leases = (await driven.queue.tick(engine, [], 1)).leases
    await driven.queue.tick(engine, [driven.executed(leases[0])], 1)
    _write_ledger(driven, observed, live, leases[0])
    assert [await driven.status(run) for run in (done, update, failed, cancelled, live)] == [3, 3, 4, 5, 2]

    observed.watcher_logs = [await _watched(observed.connection, run) for run in (done, update, failed)]
    observed.acknowledged = [
        Acknowledged(run_id=done.run_id, request_id="first"),
        Acknowledged(run_id=cancelled.run_id, is_cancelled=True),
    ]
    observed.unchanged = await run_fingerprints(observed.connection, [done.run_id])


def _write_ledger(driven: HandDriven, observed: Observed, run: DrivenRun, lease: Lease) -> None:
    completion = driven.executed(lease)
    step_id = run.compiled.workflow.steps[lease.step].step_id
    observed.ledger.append(
        LedgerRecord(
            event=LedgerEvent.SUCCEEDED,
            at=datetime.now(UTC).isoformat(),
            worker_id="w",
            tenant="acme",
            key=f"{run.run_id}/{step_id}/{completion.input_hash}",
            skill_id="no.op",
            run_id=run.run_id,
            step_id=step_id,
            attempt=lease.attempt,
            fencing_token=lease.epoch,
            digest=completion.output_hash,
        )
    )


async def _watched(connection: Connection, run: DrivenRun) -> WatcherLog:
    rows = await connection.fetch(
        "SELECT sequence, type, step, to_status FROM run_events WHERE run = $1 ORDER BY sequence", run.key
    )
    events = [
        SeenEvent(sequence=r["sequence"], type=r["type"], step_id="" if r["step"] is None else f"s{r['step']}",
                  to_status=r["to_status"])
        for r in rows
    ]  # fmt: skip
    return WatcherLog(run_id=run.run_id, after_sequence=0, events=events)

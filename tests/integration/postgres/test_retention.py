"""What retention deletes and what it leaves: on a real database, in any portions, beside whoever else is at work."""

import pytest

from runengine_server.adapters.postgres import retention
from runengine_server.adapters.postgres.retention import Deleted, RetentionSettings
from runengine_server.domain.errors import NotFoundError
from runengine_server.domain.ids import StepNo, Tenant
from runengine_server.ports.run_store import EarlierAnswer

from ...support.hand_driven import (
    TENANT,
    CreateOptions,
    DrivenRun,
    chain,
    wide,
)
from .past_runs import DAY_S, DIAMOND, HISTORY, Past

pytestmark = pytest.mark.anyio

HOT_DAYS_MAX = 2


@pytest.fixture(params=[1, 7, 5_000], ids=lambda n: f"portions of {n}")
def portion(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How much a transaction takes."""
    monkeypatch.setattr(retention, "RUNS_AT_ONCE", request.param)
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", request.param)
    return int(request.param)


async def test_runs_go_with_all_they_have(past: Past, portion: int) -> None:
    """What ended longer ago than it is kept goes, in any portions; younger runs and live ones stay as they are."""
    gone = [await past.run(31 + n, options=CreateOptions(request_id=f"r{n}")) for n in range(3)]
    failed = await past.driven.started(wide(2))
    (lease,) = await past.driven.lease(past.engine, 1)
    await past.driven.queue.tick(past.engine, [past.driven.step_failed(lease)], 0)
    await past.age(failed, 40)
    live = await past.driven.started(chain(2))
    await past.age(live, 90)
    young = await past.run(29)
    kept = [await past.rows(young), await past.rows(live)]
    assert (await past.retire()).runs == 4
    for run in [*gone, failed]:
        assert await past.driven.store.base(TENANT, run.run_id) is None
        assert not await past.driven.database.fetchval(
            "SELECT count(*) FROM run_progress AS p JOIN idempotency_keys AS i USING (run) WHERE p.run = $1", run.key
        )
    await past.retire_later()
    deleted = await past.retire_later()
    assert (deleted.outputs, deleted.artifacts) == (3 * 4, 3 * 2)
    assert [await past.rows(run) for run in [*gone, failed]] == [{}] * 4
    kept[0].pop("run_events")
    assert [await past.rows(young), await past.rows(live)] == kept
    assert await past.retire_later() == Deleted()


async def test_events_go_first(past: Past, portion: int) -> None:
    """Events go a week after their run ended, those of younger runs and of live ones stay."""
    old, young = await past.run(8), await past.run(6)
    live = await past.driven.started(chain(2))
    await past.age(live, 90)
    before = [await past.rows(run) for run in (old, young, live)]
    deleted = await past.retire()
    assert deleted == Deleted(events=before[0].pop("run_events"))
    assert [await past.rows(run) for run in (old, young, live)] == before


async def test_a_clock_that_was_wrong(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that seems younger than it is, or of the future, hides none of those behind it."""
    monkeypatch.setattr(retention, "RUNS_AT_ONCE", 2)
    await past.run(-1_000)
    later = [await past.run(31) for _ in range(3)]
    assert (await past.retire()).runs == 3
    assert [(await past.rows(run)).get("run_events") for run in later] == [None] * 3


async def test_never(past: Past) -> None:
    """What is to be kept for ever is."""
    past.settings = RetentionSettings(runs_s=None, events_s=None, audit_s=None)
    run = await past.run(10_000)
    await past.driven.database.fetch("UPDATE audit_log SET at = at - interval '30 years'")
    before = await past.rows(run)
    assert await past.retire() == Deleted()
    assert await past.rows(run) == before


async def test_events_that_are_kept_go_with_their_run(past: Past) -> None:
    """Where events are not deleted before, they do not outlive their run."""
    past.settings = RetentionSettings(runs_s=30 * DAY_S, events_s=None, audit_s=None)
    run = await past.run(31)
    count = (await past.rows(run))["run_events"]
    assert await past.retire() == Deleted(runs=1)
    assert (await past.retire_later()).events == count


async def test_an_hour_passes_before_results_go(past: Past) -> None:
    """Whoever had found the run still finds all its results for an hour; events may be gone."""
    run = await past.run(31)
    before = await past.rows(run)
    await past.retire()
    await past.retire()
    after = await past.rows(run)
    assert after.pop("deleted_runs") == 1
    assert after == {table: before[table] for table in HISTORY if table != "run_events"}
    due = await past.driven.database.fetchval("SELECT extract(epoch FROM next_at - now()) FROM deleted_runs")
    assert 3500 < due <= 3600


async def test_a_reused_output_stays(past: Past) -> None:
    """What a retained run reuses stays with its artifacts and the result that says how it was made; the rest goes. It
    goes once that run has gone as well.
    """
    base = await past.run(31)
    reused = {n: past.driven.binding(base, n) for n in (1, 3)}
    update = await past.run(1, options=CreateOptions(base=base.key, reused=reused))
    for _ in range(3):
        await past.retire_later()
    assert await past.rows(base) == {"deleted_runs": 1, "outputs": 2, "step_results": 2, "artifacts": 2}
    results = (await past.driven.store.base_results([update.key]))[update.key]
    assert [results[StepNo(n)].producer_run_id for n in (1, 3)] == [base.run_id] * 2
    outputs = await past.driven.store.outputs([(update.key, StepNo(n)) for n in range(4)])
    assert len(outputs) == 4
    assert [len(outputs[update.key, StepNo(n)].artifacts) for n in (1, 3)] == [0, 2]
    await past.age(update, 40)
    for _ in range(3):
        await past.retire_later()
    assert [await past.rows(run) for run in (base, update)] == [{}, {}]
    for table in (*HISTORY, "deleted_runs", "artifact_contents"):
        assert await past.driven.database.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_a_chain_of_reuse_names_the_first(past: Past) -> None:
    """A run that reuses through runs that are gone keeps what the first of them made, and only that."""
    first = await past.run(60)
    reused = {n: past.driven.binding(first, n) for n in (0, 1, 2)}
    second = await past.run(50, options=CreateOptions(base=first.key, reused=reused))
    third = await past.run(
        1, options=CreateOptions(base=second.key, reused={0: reused[0], 3: past.driven.binding(second, 3)})
    )
    for _ in range(3):
        await past.retire_later()
    assert (await past.rows(first))["outputs"] == 1
    assert await past.rows(second) == {"deleted_runs": 1, "outputs": 1, "step_results": 1, "artifacts": 2}
    assert len(await past.driven.store.outputs([(third.key, StepNo(n)) for n in range(4)])) == 4


async def test_a_cached_output_stays(past: Past) -> None:
    """What the cache refers to is found there with the id of the run that is gone; once it is evicted it goes."""
    run = await past.run(31, is_filed=True)
    for _ in range(3):
        await past.retire_later()
    hits = await past.hits(run, 4)
    assert [hit.entry.producer.run_id for hit in hits] == [run.run_id] * 4
    assert [len(hit.entry.artifacts) for hit in hits] == [0, 0, 0, 2]
    await past.driven.database.fetch("UPDATE step_cache SET step = -6, created_at = now() WHERE step_id = 's3'")
    for _ in range(2):
        await past.retire_later()
    assert await past.rows(run) == {"deleted_runs": 1, "outputs": 3, "step_results": 3}
    assert len(await past.hits(run, 4)) == 3


async def test_an_overwritten_entry_refers_to_the_newer_success(past: Past) -> None:
    """Of two runs that filed the same keys only the later one's outputs are kept."""
    old, new = await past.run(33, is_filed=True), await past.run(32, is_filed=True)
    for _ in range(3):
        await past.retire_later()
    assert await past.rows(old) == {}
    assert (await past.rows(new))["outputs"] == 4


async def test_a_late_reference_is_seen(past: Past) -> None:
    """An output to which nothing referred at one look is kept if something does at the next: a hit in the hot cache."""
    run = await past.run(31)
    await past.retire()
    await past.retire_later()
    assert (await past.rows(run))["outputs"] == 4
    late = await past.driven.started(wide(1))
    (lease,) = await past.driven.lease(past.engine)
    past.driven.runs[late.key] = run  # what it reuses says so
    await past.driven.queue.tick(past.engine, [past.driven.reused(lease, (run.key, StepNo(0)))], 0)
    for _ in range(3):
        await past.retire_later()
    assert await past.rows(run) == {"deleted_runs": 1, "outputs": 1, "step_results": 1}
    assert len(await past.driven.store.outputs([(late.key, StepNo(0))])) == 1


async def test_an_earlier_run_may_reuse_a_later_one(past: Past) -> None:
    """What a run took from the cache stays with it, also where a run that was begun later had made it."""
    waiting = await past.driven.started(wide(1))
    (lease,) = await past.driven.lease(past.engine)
    later = await past.run(31, is_filed=True)
    past.driven.runs[waiting.key] = later  # what it reuses says so
    await past.driven.queue.tick(past.engine, [past.driven.reused(lease, (later.key, StepNo(0)))], 0)
    await past.driven.database.fetch("DELETE FROM step_cache")
    for _ in range(3):
        await past.retire_later()
    assert (await past.rows(later))["outputs"] == 1
    assert len(await past.driven.store.outputs([(waiting.key, StepNo(0))])) == 1


async def test_looks_are_further_apart_than_hot_values_last(past: Past) -> None:
    """Between the look that finds an output without references and the one that deletes it a hot value has ended."""
    await past.run(31)
    await past.retire()
    await past.retire_later()
    due_s = await past.driven.database.fetchval("SELECT extract(epoch FROM next_at - now()) FROM deleted_runs")
    assert due_s > HOT_DAYS_MAX * DAY_S + 3600


async def test_a_base_of_a_live_run_stays(past: Past) -> None:
    """A run is not deleted while one that builds on it is under way: that one compares its inputs with the base's."""
    base = await past.run(31)
    update = await past.driven.started(DIAMOND, CreateOptions(base=base.key, reused={0: past.driven.binding(base, 0)}))
    assert (await past.retire()).runs == 0
    await past.finish(update)
    assert (await past.retire()).runs == 1


async def test_a_run_that_was_just_being_begun(past: Past) -> None:
    """A run that was planned before its base was deleted, and begun after, has whole reuses, and its base's results
    stay until it has ended.
    """
    base = await past.run(31)
    reused = {n: past.driven.binding(base, n) for n in (0, 1)}
    await past.retire()
    update = await past.driven.started(DIAMOND, CreateOptions(base=base.key, reused=reused))
    for _ in range(3):
        await past.retire_later()
    assert (await past.rows(base))["step_results"] == 4
    assert (await past.driven.store.facts([update.key]))[update.key].base_digest == DIAMOND.digest
    assert len(await past.driven.store.outputs([(update.key, StepNo(n)) for n in (0, 1)])) == 2
    await past.finish(update)
    for _ in range(3):
        await past.retire_later()
    assert (await past.rows(base))["step_results"] == 2


async def test_a_base_without_its_results_is_refused(past: Past) -> None:
    """Whoever planned on a run an hour and more before its results went is told that it is gone; nothing begins."""
    base = await past.run(31)
    reused = {n: past.driven.binding(base, n) for n in (0, 1)}
    for _ in range(4):
        await past.retire_later()
    with pytest.raises(NotFoundError, match="base run was deleted") as refused:
        await past.driven.create(DIAMOND, CreateOptions(base=base.key, reused=reused))
    assert refused.value.reason == "RUN_NOT_FOUND"
    assert await past.driven.database.fetchval("SELECT count(*) FROM runs") == 0
    await past.check()


async def test_a_request_id_goes_with_its_run(past: Past) -> None:
    """It is remembered as long as its run, and starts a new one after that."""
    options = CreateOptions(request_id="again")
    run = await past.run(29, options=options)
    await past.retire()
    assert isinstance(await past.driven.create(DIAMOND, options), EarlierAnswer)
    await past.age(run, 2)
    await past.retire()
    assert isinstance(await past.driven.create(DIAMOND, options), DrivenRun)


async def test_other_requests_stay(past: Past) -> None:
    """The same request id of another tenant, or of another method, is that of another run and is not touched."""
    await past.run(31, options=CreateOptions(request_id="same"))
    await past.driven.started(wide(1), CreateOptions(request_id="same", tenant=Tenant("globex")))
    retried = await past.driven.started(wide(1))
    await past.driven.database.fetch(
        "INSERT INTO idempotency_keys VALUES ('acme', 'RetryRun', 'same', '', $1, '', now())", retried.key
    )
    await past.driven.database.fetch("UPDATE runs SET request_id = 'same' WHERE run = $1", retried.key)
    assert (await past.retire()).runs == 1
    rows = await past.driven.database.fetch("SELECT tenant, rpc FROM idempotency_keys ORDER BY tenant")
    assert [tuple(row) for row in rows] == [("acme", "RetryRun"), ("globex", "Trigger")]


async def test_the_audit_log_is_kept_for_its_time(past: Past, portion: int) -> None:
    """Entries older than that go, the others stay, also those of runs that are gone."""
    for n in range(20):
        await past.driven.database.fetch(
            "INSERT INTO audit_log (at, tenant, principal, action, target)"
            " VALUES (now() - $1 * interval '1 day', '', '', '', '')",
            399 - 5 * n,
        )
    assert (await past.retire()).audit == 7
    assert await past.driven.database.fetchval("SELECT count(*) FROM audit_log") == 13


async def test_statistics_are_of_retained_runs(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was added up for a group of runs goes once none of its runs is retained."""
    monkeypatch.setattr(retention, "GROUPS_AT_ONCE", 1)
    await past.run(31)
    await past.driven.database.fetch("SELECT setval('run_key', (SELECT last_value FROM run_key) / 256 * 256 + 256)")
    young = await past.run(1)
    group = young.key // 256
    for n in (group - 2, group - 1, group):
        await past.driven.database.fetch("INSERT INTO cache_counted VALUES ($1)", n)
        await past.driven.database.fetch("INSERT INTO cache_counts VALUES ('acme', 'w', $1, '', 0, 1, 1, 1, 1)", n)
    await past.retire()
    for table in ("cache_counted", "cache_counts"):
        assert [r[0] for r in await past.driven.database.fetch(f"SELECT run_group FROM {table}")] == [group]

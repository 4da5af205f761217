"""Creating runs: a request id starts one run, whoever asks how often and at what moment."""

from collections import defaultdict
from collections.abc import AsyncIterator

import anyio
import asyncpg
import pytest

from runengine_server.adapters.postgres.database import open_database
from runengine_server.adapters.postgres.run_store import PostgresRunStore
from runengine_server.domain.errors import NotFoundError
from runengine_server.ports.run_store import EarlierAnswer

from ...support.hand_driven import CreateOptions, DrivenRun, HandDriven, chain, dag, hand_driven, wide
from ...support.invariants import check_invariants, report

pytestmark = pytest.mark.anyio


@pytest.fixture
async def driven(database_url: str) -> AsyncIterator[HandDriven]:
    """An empty database; afterwards every invariant holds."""
    async with hand_driven(database_url) as driven:
        yield driven
    connection = await asyncpg.connect(database_url)
    try:
        violations = await check_invariants(connection)
        assert not violations, report(violations)
    finally:
        await connection.close()


async def test_duplicates_start_one_run_each(driven: HandDriven) -> None:
    """400 concurrent requests over 20 ids, through three servers, start exactly 20 runs; the others hear of them."""
    workflow = chain(3)
    await driven.started(workflow)  # the definition is stored
    started: dict[str, list[DrivenRun]] = defaultdict(list)
    answers: dict[str, list[EarlierAnswer]] = defaultdict(list)
    own_store = driven.store

    async def trigger(store: PostgresRunStore, request_id: str) -> None:
        driven.store = store  # read before the first await of `create`
        made = await driven.create(workflow, CreateOptions(request_id=request_id))
        (started if isinstance(made, DrivenRun) else answers)[request_id].append(made)  # type: ignore[arg-type]

    async with (
        open_database(driven.url, connections_max=2) as second,
        open_database(driven.url, connections_max=2) as third,
        anyio.create_task_group() as tasks,
    ):
        stores = [own_store, PostgresRunStore(second), PostgresRunStore(third)]
        for store in stores[1:]:
            tasks.start_soon(store.creations.run)
        async with anyio.create_task_group() as requests:
            for n in range(400):
                requests.start_soon(trigger, stores[n % 3], f"request-{n % 20}")
        tasks.cancel_scope.cancel()
    assert len(started) == 20 and all(len(runs) == 1 for runs in started.values())
    assert sum(map(len, answers.values())) == 380
    assert {answer.answer for given in answers.values() for answer in given} == {b"answer"}
    assert await driven.database.fetchval("SELECT count(*) FROM runs WHERE request_id <> ''") == 20


async def test_a_reused_id_tells_its_first_digest(driven: HandDriven) -> None:
    """Other content under the same id starts nothing and gets the first request's digest, to be refused by."""
    await driven.started(wide(1), CreateOptions(request_id="one", request_digest="11" * 32))
    again = await driven.create(wide(1), CreateOptions(request_id="one", request_digest="22" * 32))
    assert isinstance(again, EarlierAnswer)
    assert again.digest == "11" * 32


async def test_an_empty_id_starts_a_run_each_time(driven: HandDriven) -> None:
    """Requests without an id are not deduplicated, in the same batch as ones that are."""
    made: list[DrivenRun | EarlierAnswer] = []

    async def trigger(request_id: str) -> None:
        made.append(await driven.create(wide(1), CreateOptions(request_id=request_id)))

    async with anyio.create_task_group() as requests:
        for request_id in ("", "same", "", "same", ""):
            requests.start_soon(trigger, request_id)
    assert sum(isinstance(one, DrivenRun) for one in made) == 4


async def test_a_run_that_reuses_everything_is_complete_at_once(driven: HandDriven) -> None:
    """Queued, skipped steps, running and completed are written by the creation itself."""
    engine = await driven.engine()
    workflow = dag("pair", [[], [0]])
    base = await driven.started(workflow)
    leases = (await driven.queue.tick(engine, [], 5)).leases
    while leases:
        leases = (await driven.queue.tick(engine, [driven.executed(lease) for lease in leases], 5)).leases
    reused = {step: driven.binding(base, step) for step in (0, 1)}
    run = await driven.started(workflow, CreateOptions(base=base.key, reused=reused))
    assert await driven.status(run) == 3
    events = await driven.database.fetch(
        "SELECT type, step, to_status FROM run_events WHERE run = $1 ORDER BY sequence", run.key
    )
    assert [tuple(event) for event in events] == [(1, None, 1), (2, 0, 5), (2, 1, 5), (1, None, 2), (1, None, 3)]


async def test_a_run_keeps_of_its_base_what_the_plan_says(driven: HandDriven) -> None:
    """Steps kept of the base have its results, whoever produced them; several runs of a batch do not mix."""
    engine = await driven.engine()
    workflow = wide(3)
    base = await driven.started(workflow)
    leases = (await driven.queue.tick(engine, [], 5)).leases
    await driven.queue.tick(engine, [driven.executed(lease) for lease in leases], 5)
    kept: dict[tuple[int, ...], DrivenRun] = {}

    async def create(steps: tuple[int, ...]) -> None:
        reused = {step: driven.binding(base, step) for step in steps}
        kept[steps] = await driven.started(workflow, CreateOptions(base=base.key, reused=reused))

    async with anyio.create_task_group() as requests:
        for steps in ((0,), (0, 2), (), (1, 2)):
            requests.start_soon(create, steps)
    columns = "step, status, source, input_hash, cache_version, output_hash, producer_run, producer_step"
    query = f"SELECT {columns} FROM step_results WHERE run = $1 ORDER BY step"
    of_base = [tuple(row) for row in await driven.database.fetch(query, base.key)]
    for steps, run in kept.items():
        copied = [tuple(row) for row in await driven.database.fetch(query, run.key)]
        assert copied == [(step, 5, 2, *of_base[step][3:]) for step in steps]


async def test_a_run_never_begins_without_what_it_reuses(driven: HandDriven) -> None:
    """Where the base has not all that the plan found there, nothing is created."""
    engine = await driven.engine()
    workflow = wide(2)
    base = await driven.started(workflow)
    lease, _ = (await driven.queue.tick(engine, [], 5)).leases
    await driven.queue.tick(engine, [driven.executed(lease)], 0)
    reused = {step: driven.binding(base, step) for step in (0, 1)}
    with pytest.raises(NotFoundError, match="base run was deleted"):
        await driven.create(workflow, CreateOptions(base=base.key, reused=reused))
    assert await driven.database.fetchval("SELECT count(*) FROM runs") == 1


async def test_a_creation_is_whole_or_nothing(driven: HandDriven) -> None:
    """A creation that fails in the middle leaves no run, no request id and no event behind."""
    with pytest.raises(asyncpg.PostgresError):
        await driven.create(wide(1), CreateOptions(request_id="broken", priority=10))
    tables = ("runs", "run_progress", "run_state", "run_events", "step_queue", "idempotency_keys", "audit_log")
    for table in tables:
        assert await driven.database.fetchval(f"SELECT count(*) FROM {table}") == 0, table

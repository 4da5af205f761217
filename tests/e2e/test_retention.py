"""Real engines delete what is older than it is to be kept, and go on building on what later runs took over from it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace

import anyio
import asyncpg
import httpx
import pytest

from runengine_client import NotFoundError, RunEngineClient
from runengine_client.handle import RunHandle
from runengine_client.states import OutputSource, PlanAction, RunStatus, SnapshotReason
from runengine_client.watch_items import RunEnded, RunSnapshot

from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.invariants import check_invariants, report
from ..support.server_sent_events import read_events
from .workflows import DEMO, demo

pytestmark = pytest.mark.anyio

ADMIN = {"authorization": f"Bearer {TOKENS.admin}"}
BRIEF = {"brief": {"title": "old"}}


@pytest.fixture(scope="module")
def engines(engine_settings: EngineSettings) -> Iterator[list[EngineProcess]]:
    """Two, of which either makes a pass each second."""
    with (
        EngineProcess(engine_settings, "first", RUNENGINE_RETENTION_INTERVAL_S="1") as first,
        EngineProcess(engine_settings, "second", RUNENGINE_RETENTION_INTERVAL_S="1") as second,
    ):
        yield [first, second]


@pytest.fixture
async def client(engines: list[EngineProcess]) -> AsyncIterator[RunEngineClient]:
    """A client of the first."""
    async with engines[0].client() as connected:
        await connected.register_workflow(demo())
        yield connected


@pytest.fixture
async def database(engine_settings: EngineSettings) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """The engines' database, where nothing violates an invariant in the end."""
    connection = await asyncpg.connect(engine_settings.database_url)
    try:
        yield connection
        violations = await check_invariants(connection)
        assert not violations, report(violations)
    finally:
        await connection.close()


async def age(database: "asyncpg.Connection[asyncpg.Record]", handle: RunHandle, days: int) -> None:
    """The run was so many days earlier; at once, or a pass would see half of it."""
    async with database.transaction():
        for statement in (
            "UPDATE step_cache AS c SET created_at = created_at - $2 * interval '1 day'"
            " WHERE c.run = (SELECT run FROM runs WHERE id = $1)",
            "UPDATE step_results SET ended_at = ended_at - $2 * interval '1 day'"
            " WHERE run = (SELECT run FROM runs WHERE id = $1)",
            "UPDATE run_progress SET ended_at = ended_at - $2 * interval '1 day'"
            " WHERE run = (SELECT run FROM runs WHERE id = $1)",
            "UPDATE runs SET created_at = created_at - $2 * interval '1 day' WHERE id = $1",
        ):
            await database.execute(statement, handle.id, days)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """The condition has become true."""
    with anyio.fail_after(20):
        while not await condition():
            await anyio.lowlevel.checkpoint()


async def ended(handle: RunHandle) -> RunHandle:
    assert (await handle.result()).status is RunStatus.COMPLETED
    return handle


async def test_a_base_is_deleted(
    client: RunEngineClient, engines: list[EngineProcess], database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The run is not found any more; what was built on it is as before and can be built on, and the cache still has
    what the run made.
    """
    base = await ended(await client.start(DEMO, BRIEF, request_id="the-base"))
    update = await ended(await client.start_update(base.id, "music.update", {"style": "loud"}))
    before = await update.steps(full=True)
    await age(database, base, 31)

    async def is_gone() -> bool:
        try:
            await client.get_run(base.id)
        except NotFoundError:
            return True
        return False

    async def is_settled() -> bool:
        await database.execute("UPDATE deleted_runs SET next_at = now() WHERE next_at > now() + interval '1 minute'")
        counts = "SELECT count(*) FILTER (WHERE status = 4) = 4 AND count(*) = 4 FROM step_results WHERE run = "
        return bool(await database.fetchval(counts + "(SELECT run FROM deleted_runs WHERE id = $1)", base.id))

    await until(is_gone)
    await until(is_settled)
    for refused in (base.steps(), client.retry(base.id), client.start_update(base.id, "music.update", {})):
        with pytest.raises(NotFoundError) as error:
            await refused
        assert error.value.reason == "RUN_NOT_FOUND"

    now = await update.steps(full=True)
    # the nearest success, with which a miss was explained, was the base's
    assert [replace(step, cache=None) for step in now] == [replace(step, cache=None) for step in before]
    assert (await client.get_run(update.id)).base_run_id == base.id
    for step in before:
        assert (await client.explain_step(update.id, step.step_id)).text
    plan = await client.plan_update(update.id, "music.update", {"style": "louder"})
    assert [step.action for step in plan.steps] == [
        PlanAction.REUSE,
        PlanAction.EXECUTE,
        PlanAction.REUSE,
        PlanAction.UNKNOWN,
    ]
    third = await ended(await client.start_update(update.id, "music.update", {"style": "louder"}))
    assert [step.source_run_id for step in await third.steps()] == [base.id, third.id, base.id, third.id]

    again = await ended(await client.start(DEMO, BRIEF, request_id="the-base"))
    assert again.id != base.id, "the request id went with its run"
    steps = await again.steps(full=True)
    assert {step.output_source for step in steps} <= {OutputSource.CACHE_HOT, OutputSource.CACHE_COLD}
    assert {step.source_run_id for step in steps} == {base.id}
    assert any("[RunEngine] Retention: deleted runs=1," in process.log for process in engines)


async def test_events_are_deleted(
    client: RunEngineClient, engines: list[EngineProcess], database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Who watches the run after that, by gRPC or by HTTP, gets its state and its end."""
    run = await ended(await client.start(DEMO, {"brief": {"title": "events"}}))
    await age(database, run, 8)
    events = "SELECT count(*) = 0 FROM run_events WHERE run = (SELECT run FROM runs WHERE id = $1)"

    async def are_gone() -> bool:
        return bool(await database.fetchval(events, run.id))

    await until(are_gone)
    for after, reason in ((None, SnapshotReason.INITIAL), (3, SnapshotReason.HISTORY_COMPACTED)):
        items = [item async for item in client.watch(run.id, after_sequence=after)]
        snapshot, end = items
        assert isinstance(snapshot, RunSnapshot)
        assert (snapshot.reason, len(snapshot.steps)) == (reason, 4)
        assert isinstance(end, RunEnded)
    for last, names in (("", ["snapshot", "end"]), ("3", ["bookmark", "snapshot", "end"])):
        headers = {**ADMIN, **({"last-event-id": last} if last else {})}
        with httpx.stream(
            "GET", f"{engines[1].http_url}/api/v1/runs/{run.id}/events", headers=headers, timeout=20
        ) as stream:
            assert stream.status_code == 200
            assert [event.name for event in read_events(stream.iter_lines())] == names

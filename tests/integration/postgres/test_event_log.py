"""The events of a run as they are read: complete, in order, by index."""

import json

import pytest

from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.artifact import Artifact
from runengine_server.domain.events import RunStatusChanged, StepStatusChanged
from runengine_server.domain.states import STEP_TRANSITIONS, OutputSource, RunStatus, StepStatus
from runengine_server.ports.event_log import EventPage

from .conftest import Made, World, diamond, music_file, wide

pytestmark = pytest.mark.anyio


async def read(world: World, made: Made, *, after: int = 0, limit: int = 1000) -> EventPage:
    page = await world.log.read(made.identity, made.compiled.workflow, after=after, limit=limit)
    assert page is not None
    return page


async def test_a_whole_run(world: World) -> None:
    """Events are numbered without gaps, every step moves legally, summaries add up, and details come with the end."""
    made = await world.create(diamond())
    (plan,) = await world.lease()
    music, art = await world.complete(world.executed(plan), capacity=2)
    await world.complete(world.attempt_failed(music), world.executed(art), capacity=0)
    (music,) = await world.lease()
    (mix,) = await world.complete(world.executed(music, music_file()))
    await world.complete(world.executed(mix))
    page = await read(world, made)
    assert [event.sequence for event in page.events] == list(range(1, page.last_sequence + 1))
    assert page.status is RunStatus.COMPLETED
    assert [event.detail.to_status for event in page.events if isinstance(event.detail, RunStatusChanged)] == [1, 2, 3]

    last = {step.step_id: StepStatus.PENDING for step in made.compiled.workflow.steps}
    for event in page.events:
        if isinstance(event.detail, StepStatusChanged):
            assert event.step_id is not None
            assert event.detail.from_status is last[event.step_id]
            assert event.detail.to_status in STEP_TRANSITIONS[event.detail.from_status]
            last[event.step_id] = event.detail.to_status
            summary = event.detail.steps_summary
            assert summary.total == 4 == sum(
                (summary.pending, summary.running, summary.completed, summary.skipped, summary.failed,
                 summary.cancelled)
            )  # fmt: skip
            assert summary.running == sum(status is StepStatus.RUNNING for status in last.values())
    assert set(last.values()) == {StepStatus.COMPLETED}

    music_events = [event for event in page.events if event.step_id == "music"]
    retry = music_events[1]
    assert isinstance(retry.detail, StepStatusChanged)
    assert (retry.detail.from_status, retry.detail.to_status, retry.attempt) == (3, 2, 1)
    assert retry.detail.error is not None
    assert retry.detail.error.message == "try 1"
    assert retry.detail.duration_ms is not None
    artifact, completed = music_events[-2:]
    assert isinstance(artifact.detail, Artifact)
    assert artifact.detail.produced == music_file()
    assert (artifact.detail.skill_id, artifact.detail.skill_version) == ("music.make", "1")
    assert isinstance(completed.detail, StepStatusChanged)
    assert completed.sequence == artifact.sequence + 1
    assert (completed.detail.output_source, completed.attempt) == (OutputSource.EXECUTED, 2)
    assert completed.detail.cache is not None
    assert completed.detail.cache.key.startswith("diamond:music:")


async def test_failure_and_lost_lease(world: World) -> None:
    """A failed run's last event carries its error; a lost lease carries none, even when its attempt fails later."""
    made = await world.create(wide(1))
    await world.lease()
    await world.database.fetch("SELECT leases_release($1, true, 5, 10)", world.engine)
    (lease,) = await world.lease()
    await world.complete(world.failed(lease))
    page = await read(world, made)
    lost = [
        event.detail
        for event in page.events
        if isinstance(event.detail, StepStatusChanged) and event.detail.from_status == 3
    ]
    assert [(detail.to_status, detail.error is None) for detail in lost] == [(2, True), (6, False)]
    end = page.events[-1].detail
    assert isinstance(end, RunStatusChanged)
    assert end.error is not None
    assert (end.to_status, end.error.code) == (RunStatus.FAILED, "MAX_RETRIES_EXCEEDED")


async def test_pages(world: World) -> None:
    """A page ends at the limit and the next goes on after it; beyond the end there is nothing."""
    made = await world.create(wide(5))
    await world.finish(made)
    whole = await read(world, made)
    first = await read(world, made, limit=4)
    rest = await read(world, made, after=4)
    assert (*first.events, *rest.events) == whole.events
    assert first.last_sequence == whole.last_sequence
    assert (await read(world, made, after=whole.last_sequence)).events == ()


async def test_last_sequences(world: World) -> None:
    """The newest sequence of each existing run comes in one query."""
    made = [await world.create(wide(1)) for _ in range(3)]
    newest = await world.log.last_sequences([one.key for one in made] + [made[0].key + 1000])  # type: ignore[list-item]
    assert newest == {one.key: 2 for one in made}


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("events_read", "1, 0, 200"),
        ("events_last_sequences", "'{1,2}'"),
        ("steps_read", "1, 0, 13, '{}', 51"),
        ("artifacts_read", "1, 0, -1, NULL, 51"),
        ("runs_read", "'{1,2}', false, 20000"),
        ("step_attempts_read", "1, '{1}'"),
        ("step_outputs_read", "'{1}', '{1}'"),
    ],
)
async def test_reads_use_indexes(world: World, query: str, arguments: str) -> None:
    """Nothing that is read for a run scans a table, whatever the planner thinks of its size."""
    scans = [node for node in await generic_plan(world, query, arguments) if "Relation Name" in node]
    assert scans
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}


async def test_event_reads_go_straight_to_the_place(world: World) -> None:
    """A page's events come from the index in their order, and what they refer to by primary key."""
    nodes = await generic_plan(world, "events_read", "1, 0, 200")
    conditions = {
        # a bitmap scan of an index names no relation
        str(node.get("Relation Name", str(node["Index Name"]).removesuffix("_pkey")))
        .rstrip("0123456789")
        .rstrip("_"): str(node["Index Cond"])
        for node in nodes
        if "Index Cond" in node
    }
    assert "run = " in conditions["run_events"]
    assert "sequence >" in conditions["run_events"]
    for table, columns in {"step_results": ("run", "step"), "artifacts": ("run", "step", "ordinal")}.items():
        assert all(f"{column} =" in conditions[table] for column in columns)


async def generic_plan(world: World, query: str, arguments: str) -> list[dict[str, object]]:
    """The nodes of the plan that connections with pinned plans use, whatever the arguments."""
    async with world.database.connection() as connection:
        await connection.execute(f"PREPARE explained AS {sql(query)}")
        try:
            plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE explained({arguments})")
        finally:
            await connection.execute("DEALLOCATE explained")
    return _nodes(json.loads(plan)[0]["Plan"])


def _nodes(plan: dict[str, object]) -> list[dict[str, object]]:
    below = [node for child in plan.get("Plans", []) for node in _nodes(child)]  # type: ignore[attr-defined]
    return [plan, *below]

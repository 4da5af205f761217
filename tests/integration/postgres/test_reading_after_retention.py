"""What callers are told of runs after retention: of those that are gone, and of those that build on them."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from runengine_server.adapters.postgres.cache_admin import PostgresCacheAdmin
from runengine_server.adapters.postgres.retention import Retention
from runengine_server.adapters.telemetry.observer_group import ObserverGroup
from runengine_server.domain.errors import NotFoundError
from runengine_server.domain.states import RunStatus
from runengine_server.ports.cache_admin import CacheSelector
from runengine_server.service.compare_runs import compare_runs
from runengine_server.service.explain_step import explain_step
from runengine_server.service.get_lineage import get_lineage
from runengine_server.service.get_run import get_run
from runengine_server.service.list_artifacts import list_artifacts
from runengine_server.service.list_runs import list_runs
from runengine_server.service.list_steps import list_steps
from runengine_server.service.messages import (
    ListArtifactsRequest,
    ListRunsRequest,
    ListStepsRequest,
    WatchEnd,
    WatchEvents,
    WatchSnapshot,
)

from .conftest import CALLER, TENANT, Made, World
from .past_runs import DAY_S, KEPT
from .played_runs import play, reuse
from .test_explain_step import CALM, campaign
from .test_get_lineage import ALL_EDGES, FILES, artifact_ids, edges, film
from .test_watch_run import collect, events_in, take, watching

pytestmark = pytest.mark.anyio

PAYLOAD = {"brief": "b", "style": "energetic"}


async def retire(world: World, *, passes: int = 3) -> None:
    """Passes so far apart that each looks at everything."""
    for _ in range(passes):
        await world.database.fetch("DELETE FROM housekeeping")
        await world.database.fetch("UPDATE deleted_runs SET next_at = now()")
        assert await Retention(world.database, KEPT, ObserverGroup([])).run_if_due() is not None


async def age(world: World, made: Made, days: float) -> None:
    """The run ended so many days ago."""
    for table, column in (("runs", "created_at"), ("run_progress", "ended_at"), ("step_results", "ended_at")):
        await world.database.fetch(
            f"UPDATE {table} SET {column} = {column} - make_interval(secs => $2) WHERE run = $1", made.key, days * DAY_S
        )


async def updated(world: World) -> tuple[Made, Made]:
    """A base that is gone, and the update that it left behind, which did only the last step again."""
    base = await play(world, await world.create(film()), FILES)
    kept = await reuse(world, base, "plan", "image", "title")
    update = await play(world, await world.create(film(), base=base, reused=kept), FILES)
    await age(world, base, 31)
    await retire(world)
    return base, update


async def test_a_run_that_is_gone_was_never_there(world: World) -> None:
    """Every question about it, and its listing, answers as if there had been none."""
    gone = await play(world, await world.create(campaign(), PAYLOAD), CALM)
    other = await play(world, await world.create(campaign(), PAYLOAD), CALM)
    await age(world, gone, 31)
    await retire(world, passes=1)
    questions: list[Callable[[], Awaitable[object]]] = [
        lambda: get_run(world.read, CALLER, gone.run_id, is_full=True),
        lambda: list_steps(world.read, CALLER, ListStepsRequest(run_id=gone.run_id)),
        lambda: list_artifacts(world.read, CALLER, ListArtifactsRequest(run_id=gone.run_id)),
        lambda: explain_step(world.read, CALLER, gone.run_id, "plan"),
        lambda: compare_runs(world.read, CALLER, other.run_id, gone.run_id),
        lambda: collect(watching(world, gone)),
        lambda: collect(watching(world, gone, after_sequence=3)),
    ]
    for question in questions:
        with pytest.raises(NotFoundError) as refused:
            await question()
        assert refused.value.reason == "RUN_NOT_FOUND"
    assert await world.store.base(TENANT, gone.run_id) is None
    assert await world.store.cancel(TENANT, gone.run_id, "ann", "") is None
    listed = await list_runs(world.read, CALLER, ListRunsRequest())
    assert [run.id for run in listed.runs] == [other.run_id]


async def test_a_watcher_of_a_run_that_goes(world: World) -> None:
    """Whoever still watches it when it is deleted is told so, and does not wait for ever."""
    made = await play(world, await world.create(campaign(), PAYLOAD), CALM)
    await age(world, made, 31)
    async with aclosing(watching(world, made)) as messages:
        assert isinstance((await take(messages)).kind, WatchSnapshot)
        await retire(world, passes=1)
        with pytest.raises(NotFoundError) as refused:
            await collect(messages)
        assert refused.value.reason == "RUN_NOT_FOUND"


async def test_watching_without_events(world: World) -> None:
    """Of a run whose events are gone a watcher gets the state and the end: told that history is missing if it asked for
    it, and nothing of that if it did not.
    """
    made = await play(world, await world.create(campaign(), PAYLOAD), CALM)
    await age(world, made, 8)
    await retire(world)
    for after, reason in ((None, "INITIAL"), (0, "HISTORY_COMPACTED"), (2, "HISTORY_COMPACTED")):
        messages = await collect(watching(world, made, after_sequence=after))
        kinds = [message.kind for message in messages if not isinstance(message.kind, WatchEvents)]
        assert events_in(messages) == []
        *_, snapshot, end = kinds
        assert isinstance(snapshot, WatchSnapshot)
        assert (snapshot.reason, [step.status for step in snapshot.steps]) == (reason, [4, 4, 4])
        assert isinstance(end, WatchEnd)
        assert end.run.status is RunStatus.COMPLETED
    last = messages[-1].sequence
    messages = await collect(watching(world, made, after_sequence=last))
    assert not any(isinstance(message.kind, WatchSnapshot) for message in messages), "it missed nothing"


async def test_watching_with_some_events(world: World) -> None:
    """Where a pass was cut short, what is left of the history is no history: the state comes first."""
    made = await play(world, await world.create(campaign(), PAYLOAD), CALM)
    await world.database.fetch("DELETE FROM run_events WHERE run = $1 AND sequence < 4", made.key)
    messages = await collect(watching(world, made, after_sequence=0))
    reasons = [message.kind.reason for message in messages if isinstance(message.kind, WatchSnapshot)]
    assert reasons == ["HISTORY_COMPACTED"]
    assert events_in(messages) == []
    assert events_in(await collect(watching(world, made, after_sequence=3)))[0].sequence == 4


async def test_steps_without_events(world: World) -> None:
    """Steps of a run whose events are gone read as before, their times included."""
    made = await play(world, await world.create(campaign(), PAYLOAD), CALM)
    await age(world, made, 8)
    before = await list_steps(world.read, CALLER, ListStepsRequest(run_id=made.run_id))
    await retire(world)
    assert await list_steps(world.read, CALLER, ListStepsRequest(run_id=made.run_id)) == before


async def test_an_update_reads_as_before(world: World) -> None:
    """A run whose base is gone shows the same steps, outputs and artifacts, and still names where they are from."""
    base = await play(world, await world.create(film()), FILES)
    kept = await reuse(world, base, "plan", "image", "title")
    update = await play(world, await world.create(film(), base=base, reused=kept), FILES)
    request = ListStepsRequest(run_id=update.run_id, is_full=True)

    async def read() -> tuple[object, ...]:
        return (
            await get_run(world.read, CALLER, update.run_id, is_full=True),
            await list_steps(world.read, CALLER, request),
            await list_artifacts(world.read, CALLER, ListArtifactsRequest(run_id=update.run_id)),
        )

    await age(world, base, 31)  # before: what it saved is counted from the times
    before = await read()
    await retire(world)
    assert await world.database.fetchval("SELECT count(*) FROM runs") == 1
    assert await read() == before


async def test_lineage_goes_through_what_is_kept(world: World) -> None:
    """An artifact leads to everything that its run reuses, also of a run that is gone."""
    base, update = await updated(world)
    ids = await artifact_ids(world, update)
    lineage = await get_lineage(world.read, CALLER, ids["film.mp4"], 0)
    assert edges(lineage) == ALL_EDGES
    assert {artifact.run_id for artifact in lineage.artifacts} == {base.run_id, update.run_id}


async def test_lineage_ends_where_nothing_is_kept(world: World) -> None:
    """An artifact whose sources are gone has a lineage without them."""
    base = await play(world, await world.create(film()), FILES)
    update = await play(world, await world.create(film(), base=base, reused=await reuse(world, base, "image")), FILES)
    await age(world, base, 31)
    await retire(world)
    ids = await artifact_ids(world, update)
    lineage = await get_lineage(world.read, CALLER, ids["image.png"], 0)
    assert [artifact.produced.filename for artifact in lineage.artifacts] == ["image.png"]
    assert lineage.artifacts[0].step_id == "image"


async def test_explanations_without_the_base(world: World) -> None:
    """Each step of a run whose base is gone is explained, with the run that made what it reuses."""
    base, update = await updated(world)
    for step in update.compiled.workflow.steps:
        text = (await explain_step(world.read, CALLER, update.run_id, step.step_id)).text
        assert text
        assert (base.run_id in text[0]) is (step.step_id != "film")


async def test_building_on_what_builds_on_it(world: World) -> None:
    """A run whose base is gone is itself a base: with every success, and who made it."""
    base, update = await updated(world)
    found = await world.store.base(TENANT, update.run_id)
    assert found is not None
    makers = [found.results[number].producer_run_id for number in sorted(found.results)]
    assert makers == [base.run_id, base.run_id, base.run_id, update.run_id]
    third = await play(
        world, await world.create(film(), base=update, reused=await reuse(world, update, "plan", "film"))
    )
    outputs = await world.store.outputs([(third.key, step) for step in found.results])
    assert len(outputs) == 4


async def test_entries_of_a_run_that_is_gone(world: World) -> None:
    """They can be listed, and removed, by the id of the run that made them."""
    base, _ = await updated(world)
    await world.database.fetch(
        "INSERT INTO step_cache SELECT 'acme', 'film', 'plan', input_hash, 'plan', '1', '', run, step, output_hash,"
        " ended_at FROM step_results WHERE run = $1 AND step = 0",
        base.key,
    )
    admin = PostgresCacheAdmin(world.database)
    selector = CacheSelector(source_run_id=base.run_id)
    assert (await admin.count(TENANT, selector)).count == 1
    assert (await admin.invalidate(TENANT, "ann", selector, "")).count == 1

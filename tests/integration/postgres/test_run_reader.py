"""What callers read of runs: derived from rows, in every state a run and its steps can have."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from runengine_server.domain.errors import InvalidError, NotFoundError, ScopeRequiredError
from runengine_server.domain.run import Step
from runengine_server.domain.states import OutputSource, RunStatus, StepStatus, TriggerType
from runengine_server.planner.step_input import RunScope, StepInput, StepValue, resolve_input
from runengine_server.service.get_run import get_run
from runengine_server.service.list_artifacts import list_artifacts
from runengine_server.service.list_runs import list_runs
from runengine_server.service.list_steps import list_steps
from runengine_server.service.messages import ListArtifactsRequest, ListRunsRequest, ListStepsRequest

from .conftest import CALLER, STRANGER, Made, World, diamond, music_file, wide

pytestmark = pytest.mark.anyio


async def steps_of(world: World, made: Made, *, is_full: bool = False) -> dict[str, Step]:
    page = await list_steps(world.read, CALLER, ListStepsRequest(run_id=made.run_id, is_full=is_full))
    assert page.as_of_sequence == (await get_run(world.read, CALLER, made.run_id, is_full=False)).last_sequence
    return {step.step_id: step for step in page.steps}


async def test_new_run(world: World) -> None:
    """A queued run shows its facts, and the payload only in the FULL view."""
    made = await world.create(diamond(), labels={"team": "a"})
    run = await get_run(world.read, CALLER, made.run_id.upper(), is_full=False)
    assert (run.id, run.status, run.trigger_type) == (made.run_id, RunStatus.QUEUED, TriggerType.INITIAL)
    assert (run.steps_summary.total, run.steps_summary.pending, run.last_sequence) == (4, 4, 2)
    assert (run.root_run_id, run.base_run_id, run.labels) == (made.run_id, None, {"team": "a"})
    assert run.trigger_payload is None
    assert run.savings is None
    full = await get_run(world.read, CALLER, made.run_id, is_full=True)
    assert full == replace(run, trigger_payload={"brief": "happy"})


async def test_steps_on_their_way(world: World) -> None:
    """Pending, ready, running, completed and backing-off steps each show what is known of them, and no more."""
    made = await world.create(diamond())
    (plan,) = await world.lease()
    music, art = await world.complete(world.executed(plan), capacity=2)
    steps = await steps_of(world, made)
    assert [step.status for step in steps.values()] == [4, 3, 3, 1]
    assert [step.level for step in steps.values()] == [0, 1, 1, 2]
    assert steps["plan"].output_source is OutputSource.EXECUTED
    assert steps["plan"].source_run_id == made.run_id
    assert steps["plan"].duration_ms is not None
    assert steps["plan"].cache is not None
    assert steps["plan"].cache.key == steps["plan"].cache_key == f"diamond:plan:{steps['plan'].input_hash}"
    assert (steps["music"].attempt, steps["music"].ended_at, steps["music"].error) == (1, None, None)
    assert (steps["mix"].attempt, steps["mix"].ready_at, steps["mix"].input_hash) == (0, None, "")

    await world.complete(world.attempt_failed(music, delay_ms=60_000), world.executed(art), capacity=0)
    music_step = (await steps_of(world, made, is_full=True))["music"]
    assert (music_step.status, music_step.attempt, music_step.max_attempts) == (StepStatus.READY, 1, 3)
    assert music_step.next_attempt_at is not None
    assert music_step.next_attempt_at > datetime.now(UTC)
    assert music_step.started_at is not None
    assert music_step.error is not None
    assert (music_step.error.message, music_step.error.retryable) == ("try 1", True)
    assert [(one.attempt, one.worker_id) for one in music_step.attempts] == [(1, "w1")]
    assert (await steps_of(world, made))["music"].attempts == ()


async def test_failed_run(world: World) -> None:
    """A failed run names its step and carries its error; while it is only failing it does not."""
    made = await world.create(diamond())
    (plan,) = await world.lease()
    music, art = await world.complete(world.executed(plan), capacity=2)
    await world.complete(world.failed(music))
    failing = await get_run(world.read, CALLER, made.run_id, is_full=False)
    assert (failing.status, failing.error, failing.failed_step) == (RunStatus.RUNNING, None, "music")
    await world.complete(world.executed(art))
    run = await get_run(world.read, CALLER, made.run_id, is_full=False)
    assert (run.status, run.failed_step) == (RunStatus.FAILED, "music")
    assert run.error is not None
    assert (run.error.code, run.error.step_id) == ("MAX_RETRIES_EXCEEDED", "music")
    assert run.error.details == {"cause": {"code": "X"}}
    steps = await steps_of(world, made)
    assert [step.status for step in steps.values()] == [4, 6, 4, 7]
    assert steps["mix"].error is not None
    assert (steps["mix"].error.code, steps["mix"].attempt) == ("UPSTREAM_FAILED", 0)
    assert steps["mix"].ended_at is not None


async def test_cancelled_run(world: World) -> None:
    """A cancelled run keeps the reason; what was ready or running is cancelled with the attempts it had."""
    made = await world.create(wide(2))
    await world.lease(capacity=1)
    await world.store.cancel(CALLER.tenant, made.run_id, "ann", "enough")
    run = await get_run(world.read, CALLER, made.run_id, is_full=False)
    assert (run.status, run.cancel_reason, run.error) == (RunStatus.CANCELLED, "enough", None)
    steps = await steps_of(world, made)
    assert [step.attempt for step in steps.values()] == [1, 0]
    assert [step.started_at is None for step in steps.values()] == [False, True]


async def test_full_view_derives_the_input(world: World) -> None:
    """The FULL view shows output and input, the input only when it has the recorded hash; reused steps show theirs."""
    made = await world.create(diamond())
    (plan,) = await world.lease()
    music, art = await world.complete(world.executed(plan, input_hash=resolved(made, 0)), capacity=2)
    (mix,) = await world.complete(
        world.executed(music, music_file(), input_hash=resolved(made, 1)),
        world.executed(art, input_hash=resolved(made, 2)),
    )
    await world.complete(world.executed(mix))  # with a hash of something else
    steps = await steps_of(world, made, is_full=True)
    assert steps["plan"].input == {"brief": "happy"}
    assert steps["music"].input == {"mood": "plan"}
    assert steps["art"].input == {"run": made.run_id}
    assert steps["mix"].input is None
    assert steps["music"].output == {"of": "music"}

    art_again = replace(world.binding(made, 2), input_hash=resolved(made, 2))
    update = await world.create(diamond(), base=made, reused={0: world.binding(made, 0), 2: art_again})
    steps = await steps_of(world, update, is_full=True)
    assert steps["art"].input == {"run": made.run_id}
    assert (steps["art"].output, steps["art"].source_run_id) == ({"of": "art"}, made.run_id)


async def test_reused_steps_and_savings(world: World) -> None:
    """An update shows whose outputs and artifacts it uses and what that saved; the change's payload only when FULL."""
    base = await world.create(diamond())
    (plan,) = await world.lease()
    music, art = await world.complete(world.executed(plan), capacity=2)
    (mix,) = await world.complete(world.executed(music, music_file(), music_file()), world.executed(art))
    await world.complete(world.executed(mix, music_file()))
    update = await world.create(diamond(), base=base, reused={n: world.binding(base, n) for n in (0, 1)})

    run = await get_run(world.read, CALLER, update.run_id, is_full=True)
    assert (run.base_run_id, run.root_run_id, run.trigger_type) == (base.run_id, base.run_id, TriggerType.UPDATE)
    assert run.change_request is not None
    assert (run.change_request.type, run.change_request.payload) == ("audio.update", {"brief": "sad"})
    assert run.savings is not None
    spent = await steps_of(world, base)
    expected_s = sum((spent[s].ended_at - spent[s].started_at).total_seconds() for s in ("plan", "music"))  # type: ignore[operator]
    assert run.savings.skipped_steps == 2
    assert run.savings.seconds_saved == pytest.approx(expected_s)
    basic = (await list_runs(world.read, CALLER, ListRunsRequest())).runs[0]
    assert basic.savings == run.savings
    assert basic.change_request is not None
    assert basic.change_request.payload == {}

    steps = await steps_of(world, update)
    assert (steps["music"].status, steps["music"].output_source) == (StepStatus.SKIPPED, OutputSource.BASE_RUN)
    assert (steps["music"].source_run_id, steps["music"].duration_ms) == (base.run_id, None)
    mine = (await list_artifacts(world.read, CALLER, ListArtifactsRequest(run_id=update.run_id))).artifacts
    assert tuple(artifact.id for artifact in mine) == steps["music"].output_artifact_ids
    assert {(one.run_id, one.source_run_id, one.source) for one in mine} == {
        (update.run_id, base.run_id, OutputSource.BASE_RUN)
    }
    assert {(one.skill_id, one.skill_version) for one in mine} == {("music.make", "1")}
    assert mine[0].produced == music_file()


async def test_time_of_a_step_that_was_taken_over(world: World) -> None:
    """A step that another engine took over took since its first lease, for itself and for what reusing it saves."""
    base = await world.create(wide(2))
    await world.lease()
    await world.database.fetch("SELECT leases_release($1, false, 5, 100)", world.engine)
    # as if the first leases had been an hour before
    await world.database.fetch(
        "UPDATE run_events SET occurred_at = occurred_at - interval '1 hour' WHERE to_status = 3"
    )
    again = await world.lease()
    assert [lease.epoch for lease in again] == [2, 2]
    running = (await steps_of(world, base))["s0"]
    await world.complete(*[world.executed(lease) for lease in again])
    done = (await steps_of(world, base))["s0"]
    assert done.duration_ms is not None and 3_600_000 <= done.duration_ms < 3_700_000
    assert done.started_at == running.started_at
    update = await world.create(wide(2), base=base, reused={0: world.binding(base, 0)})
    run = await get_run(world.read, CALLER, update.run_id, is_full=False)
    assert run.savings is not None and 3600 <= run.savings.seconds_saved < 3700
    await world.database.fetch("UPDATE run_progress SET last_sequence = 5001 WHERE run = $1", base.key)
    bounded = (await steps_of(world, base))["s0"]
    assert bounded.duration_ms is not None and bounded.duration_ms < 100_000


async def test_artifact_pages(world: World) -> None:
    """Pages of artifacts follow one another without gap or repetition, in order of steps; a step can be asked for."""
    made = await world.create(wide(3))
    await world.complete(*[world.executed(lease, *[music_file()] * (lease.step + 1)) for lease in await world.lease()])
    ids, token = [], ""
    while True:
        page = await list_artifacts(
            world.read, CALLER, ListArtifactsRequest(run_id=made.run_id, page_size=2, page_token=token)
        )
        ids += [(artifact.step_id, artifact.id) for artifact in page.artifacts]
        if not (token := page.next_page_token):
            break
    assert [step for step, _ in ids] == ["s0", "s1", "s1", "s2", "s2", "s2"]
    assert len({one for _, one in ids}) == 6
    of_one = await list_artifacts(world.read, CALLER, ListArtifactsRequest(run_id=made.run_id, step_id="s1"))
    assert [artifact.id for artifact in of_one.artifacts] == [one for step, one in ids if step == "s1"]
    with pytest.raises(NotFoundError, match="has no step 'nope'") as refused:
        await list_artifacts(world.read, CALLER, ListArtifactsRequest(run_id=made.run_id, step_id="nope"))
    assert refused.value.reason == "STEP_NOT_FOUND"


async def test_step_pages_and_filter(world: World) -> None:
    """Pages of steps follow one another, also under a filter; a token does not work with another filter."""
    made = await world.create(wide(7))
    await world.complete(*[world.executed(lease) for lease in await world.lease(3)], capacity=0)
    ready = ListStepsRequest(run_id=made.run_id, page_size=3, statuses=(StepStatus.READY,))
    first = await list_steps(world.read, CALLER, ready)
    second = await list_steps(world.read, CALLER, replace(ready, page_token=first.next_page_token))
    assert [step.step_id for step in (*first.steps, *second.steps)] == ["s3", "s4", "s5", "s6"]
    assert second.next_page_token == ""
    with pytest.raises(InvalidError) as refused:
        await list_steps(world.read, CALLER, replace(ready, page_token=first.next_page_token, statuses=()))
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_one_step(world: World) -> None:
    """A named step comes alone, or not at all where the filter excludes it; one that is not there is not found."""
    made = await world.create(wide(3))
    await world.complete(world.executed((await world.lease(1))[0]), capacity=0)
    named = ListStepsRequest(run_id=made.run_id, step_id="s1", page_size=2, is_full=True)
    page = await list_steps(world.read, CALLER, named)
    assert [step.step_id for step in page.steps] == ["s1"]
    assert page.next_page_token == ""
    done = await list_steps(world.read, CALLER, replace(named, step_id="s0", statuses=(StepStatus.COMPLETED,)))
    assert [(step.step_id, step.output is not None) for step in done.steps] == [("s0", True)]
    other = await list_steps(world.read, CALLER, replace(named, step_id="s0", statuses=(StepStatus.READY,)))
    assert (other.steps, other.next_page_token) == ((), "")
    with pytest.raises(NotFoundError, match="has no step 'nope'"):
        await list_steps(world.read, CALLER, replace(named, step_id="nope"))


async def test_pages_end_before_they_are_too_large(world: World) -> None:
    """A page of steps with large outputs ends early and the next goes on where it ended; each step is there once."""
    made = await world.create(wide(5))
    large = {"text": "x" * 1_000_000}
    await world.complete(*[world.executed(lease, output=large) for lease in await world.lease()])
    request = ListStepsRequest(run_id=made.run_id, is_full=True)
    pages, token = [], ""
    while True:
        page = await list_steps(world.read, CALLER, replace(request, page_token=token))
        pages.append([step.step_id for step in page.steps])
        if not (token := page.next_page_token):
            break
    assert [one for page in pages for one in page] == ["s0", "s1", "s2", "s3", "s4"]
    assert max(map(len, pages)) == 2


async def test_list_runs(world: World) -> None:
    """Runs come newest first, page by page, and only those that match every field of the filter."""
    one = await world.create(wide(1), labels={"team": "a", "env": "x"})
    two = await world.create(wide(1), labels={"team": "a"})
    await world.finish(one)
    three = await world.create(diamond(), labels={"team": "b"})
    update = await world.create(wide(1), base=one, reused={0: world.binding(one, 0)})

    async def ids(request: ListRunsRequest) -> list[str]:
        return [run.id for run in (await list_runs(world.read, CALLER, request)).runs]

    assert await ids(ListRunsRequest()) == [update.run_id, three.run_id, two.run_id, one.run_id]
    assert await ids(ListRunsRequest(workflow_name="diamond")) == [three.run_id]
    assert await ids(ListRunsRequest(labels={"team": "a"})) == [two.run_id, one.run_id]
    assert await ids(ListRunsRequest(labels={"team": "a", "env": "x"})) == [one.run_id]
    assert await ids(ListRunsRequest(statuses=(RunStatus.QUEUED,))) == [three.run_id]
    assert await ids(ListRunsRequest(base_run_id=one.run_id)) == [update.run_id]
    assert await ids(ListRunsRequest(base_run_id=str(uuid4()))) == []
    assert await ids(ListRunsRequest(trigger_type=TriggerType.UPDATE)) == [update.run_id]
    created_at = (await get_run(world.read, CALLER, three.run_id, is_full=False)).created_at
    assert await ids(ListRunsRequest(created_before=created_at)) == [two.run_id, one.run_id]
    assert await ids(ListRunsRequest(created_after=created_at)) == [update.run_id, three.run_id]
    assert await ids(ListRunsRequest(created_after=created_at + timedelta(days=1))) == []

    first = await list_runs(world.read, CALLER, ListRunsRequest(page_size=3))
    second = await list_runs(world.read, CALLER, ListRunsRequest(page_size=3, page_token=first.next_page_token))
    assert [run.id for run in second.runs] == [one.run_id]
    assert second.next_page_token == ""
    with pytest.raises(InvalidError) as refused:
        await list_runs(world.read, STRANGER, ListRunsRequest(page_size=3, page_token=first.next_page_token))
    assert refused.value.reason == "PAGE_TOKEN_INVALID"
    assert (await list_runs(world.read, STRANGER, ListRunsRequest())).runs == ()


async def test_unknown_foreign_and_unauthorised(world: World) -> None:
    """Another tenant's run, an unknown one and no UUID are equally not found; without the scope, refused."""
    made = await world.create(wide(1))
    refusals = []
    for caller, run_id in ((STRANGER, made.run_id), (CALLER, str(uuid4())), (CALLER, "42")):
        with pytest.raises(NotFoundError, match="there is no run") as refused:
            await get_run(world.read, caller, run_id, is_full=False)
        refusals.append(refused.value.reason)
        with pytest.raises(NotFoundError):
            await list_steps(world.read, caller, ListStepsRequest(run_id=run_id))
    assert refusals == ["RUN_NOT_FOUND"] * 3
    with pytest.raises(ScopeRequiredError):
        await get_run(world.read, replace(CALLER, scopes=frozenset()), made.run_id, is_full=False)


def resolved(made: Made, step: int) -> str:
    """The hash of the step's input, with outputs that say which step they are of."""
    scope = RunScope(
        trigger=made.payload,
        change=None,
        run={"id": made.run_id, "workflowName": made.compiled.workflow.name},
        value_of=lambda step_id: StepValue({"of": step_id}),
    )
    found = resolve_input(made.compiled, step, scope)  # type: ignore[arg-type]
    assert isinstance(found, StepInput)
    return found.hash

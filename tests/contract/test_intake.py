"""A run and the leases of its first steps in one transaction, for whoever creates it; in memory and on PostgreSQL."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import pytest

from runengine_server.domain.ids import RunKey, StepNo
from runengine_server.domain.states import MissReason, RunStatus
from runengine_server.ports.run_store import Assumptions, CreatedRun, EarlierAnswer, NewRun, Outdated

from .queue_subject import Subject, Taking
from .queue_values import (
    CHAIN,
    DIAMOND,
    QUEUED,
    RUNNING,
    S_PENDING,
    S_READY,
    S_RUNNING,
    S_SKIPPED,
    Needs,
    binding,
    filing,
    new_run,
    query,
)

pytestmark = pytest.mark.anyio

PAIR: Needs = {0: (), 1: (), 2: (0, 1)}


async def taken(subject: Subject, new: NewRun, steps: Sequence[int], needs: Needs) -> CreatedRun:
    """The run, created with leases of these steps; the intake has heard of it too."""
    intake = Taking(subject.engine, steps)
    created = await subject.store.create(new, intake)
    assert isinstance(created, CreatedRun)
    assert intake.told == [created]
    subject.needs[created.run], subject.ids[created.run] = needs, new.id
    return created


async def test_first_steps_are_leased_with_their_run(subject: Subject) -> None:
    """The run is running with all its first steps, which lead their flights; nobody else can lease them."""
    created = await taken(subject, new_run(PAIR), [0, 1], PAIR)
    run = created.run
    assert [(lease.run, lease.step, lease.epoch, lease.attempt) for lease in created.leases] == [
        (run, 0, 1, 1),
        (run, 1, 1, 1),
    ]
    assert [miss and miss.reason for miss in created.misses] == [MissReason.NEVER_SEEN] * 2
    assert [(e[0], e[2], e[3], e[5], e[6], e[7]) for e in await subject.history(run)] == [
        (1, None, None, None, QUEUED, (0, 0, 0, 0, 0)),
        (2, None, None, QUEUED, RUNNING, (0, 0, 0, 0, 0)),
        (3, 0, 1, S_PENDING, S_RUNNING, (1, 0, 0, 0, 0)),
        (4, 1, 1, S_PENDING, S_RUNNING, (2, 0, 0, 0, 0)),
    ]
    assert {leader for leader, _ in (await subject.flights()).values()} == {(run, 0), (run, 1)}
    assert not (await subject.tick()).leases
    turn = await subject.tick(*(subject.executed(lease, is_flying=True) for lease in created.leases))
    assert all(turn.accepted) and not turn.begun
    (last,) = turn.leases
    assert (await subject.tick(subject.executed(last))).ended[0].status is RunStatus.COMPLETED


async def test_what_is_not_asked_about_stays_in_the_queue(subject: Subject) -> None:
    """Of ready steps those without a question are free, with events that come before the run's begin."""
    created = await taken(subject, new_run(PAIR), [1], PAIR)
    assert [lease.step for lease in created.leases] == [1]
    assert await subject.moves(created.run) == [
        (None, None, QUEUED),
        (0, S_PENDING, S_READY),
        (None, QUEUED, RUNNING),
        (1, S_PENDING, S_RUNNING),
    ]
    turn = await subject.tick()
    assert [(lease.run, lease.step) for lease in turn.leases] == [(created.run, 0)]
    assert not turn.begun


async def test_a_run_with_reused_steps_is_taken_up(subject: Subject) -> None:
    """What is reused comes before what is leased, in events and in counts."""
    base = await taken(subject, new_run(CHAIN), [0], CHAIN)
    await subject.tick(subject.executed(*base.leases), capacity=0)
    reused = {0: binding(base.run, subject.ids[base.run], 0)}
    created = await taken(subject, new_run(CHAIN, reused=reused), [1], CHAIN)
    assert [(e[0], e[2], e[5], e[6], e[7]) for e in await subject.history(created.run)] == [
        (1, None, None, QUEUED, (0, 0, 0, 0, 0)),
        (2, 0, S_PENDING, S_SKIPPED, (0, 0, 1, 0, 0)),
        (3, None, QUEUED, RUNNING, (0, 0, 1, 0, 0)),
        (4, 1, S_PENDING, S_RUNNING, (1, 0, 1, 0, 0)),
    ]


async def test_an_engine_whose_lease_has_ended_takes_nothing(subject: Subject) -> None:
    """The run is created all the same, and its steps are free for others."""
    dead = await subject.registry.register(str(uuid4()), "dead", -1.0)
    intake = Taking(dead, [0, 1])
    created = await subject.store.create(new_run(PAIR), intake)
    assert isinstance(created, CreatedRun)
    assert (created.leases, created.misses, intake.told) == ([], [], [created])
    assert await subject.moves(created.run) == [
        (None, None, QUEUED),
        (0, S_PENDING, S_READY),
        (1, S_PENDING, S_READY),
    ]
    turn = await subject.tick()
    assert [lease.step for lease in turn.leases] == [0, 1]
    assert turn.begun == [created.run]


async def test_a_key_in_flight_is_not_led_twice(subject: Subject) -> None:
    """The second run has its leases, but is told to ask the cache: another step executes the same."""
    first = await taken(subject, new_run(PAIR), [0, 1], PAIR)
    second = await taken(subject, new_run(PAIR), [0, 1], PAIR)
    assert [lease.step for lease in second.leases] == [0, 1]
    assert second.misses == [None, None]
    assert {leader[0] for leader, _ in (await subject.flights()).values()} == {first.run}


async def test_what_is_in_the_cache_is_asked_for(subject: Subject) -> None:
    """A step whose key has an entry is no miss; of a step that was ever filed another input is INPUT_CHANGED."""
    first = await taken(subject, new_run(DIAMOND), [0], DIAMOND)
    await subject.tick(subject.executed(*first.leases, filing=filing(), is_flying=True), capacity=0)
    second = await taken(subject, new_run(DIAMOND), [0], DIAMOND)
    assert second.misses == [None]


async def test_a_repeated_request_takes_nothing(subject: Subject) -> None:
    """A request id that was used gets its answer; nobody is told of a run, and nothing is leased."""
    await taken(subject, new_run(PAIR, request_id="once"), [0, 1], PAIR)
    intake = Taking(subject.engine, [0, 1])
    again = await subject.store.create(new_run(PAIR, request_id="once"), intake)
    assert isinstance(again, EarlierAnswer)
    assert not intake.told
    assert not (await subject.tick()).leases


async def test_nothing_is_created_on_a_wrong_assumption(subject: Subject) -> None:
    """A plan that took for absent what the cache has creates no run; one that was right does."""
    assumes = Assumptions(version=None, absent=[query((RunKey(0), StepNo(0))).key])
    first = await taken(subject, replace(new_run(CHAIN), assumes=assumes), [0], CHAIN)
    await subject.tick(subject.executed(*first.leases, filing=filing(), is_flying=True), capacity=0)
    intake = Taking(subject.engine, [0])
    new = replace(new_run(CHAIN, request_id="not used up"), assumes=assumes)
    assert await subject.store.create(new, intake) == Outdated()
    assert not intake.told
    assert await subject.store.base(new.tenant, new.id) is None
    assert isinstance(await subject.store.create(replace(new, assumes=None)), CreatedRun)

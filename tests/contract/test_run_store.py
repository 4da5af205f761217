"""What creating, cancelling and loading runs must do, in memory and on PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from uuid import uuid4

import anyio
import pytest

from runengine_server.domain.ids import RunId, RunKey, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import CacheMode, FailurePolicy, PlanAction, PlanReason, RunStatus
from runengine_server.domain.trace_context import TraceContext
from runengine_server.ports.run_store import CreatedRun, EarlierAnswer

from .queue_subject import Subject, lease_one
from .queue_values import (
    CANCELLED,
    CHAIN,
    COMPLETED,
    DIAMOND,
    QUEUED,
    RUNNING,
    S_CANCELLED,
    S_PENDING,
    S_READY,
    S_RUNNING,
    S_SKIPPED,
    TENANT,
    binding,
    new_run,
    step_failed,
)

pytestmark = pytest.mark.anyio

# What a run keeps of its base may be copied, where steps have the same numbers; anything else is bound one by one.
OF_BASE = pytest.mark.parametrize("is_of_base", [False, True])


@OF_BASE
async def test_reuse_at_creation_readies_the_rest(subject: Subject, *, is_of_base: bool) -> None:
    """Reused steps are skipped in the run's transaction; their dependents are ready, and read them by reference."""
    base = await subject.create(CHAIN)
    lease = await lease_one(subject)
    for _ in range(3):
        turn = await subject.tick(subject.executed(lease))
        lease = turn.leases[0] if turn.leases else lease
    update = await subject.create(
        CHAIN, reused={n: binding(base, subject.ids[base], n) for n in (0, 1)}, base=base if is_of_base else None
    )
    assert [(e[0], e[2], e[5], e[6], e[7]) for e in await subject.history(update)] == [
        (1, None, None, QUEUED, (0, 0, 0, 0, 0)),
        (2, 0, S_PENDING, S_SKIPPED, (0, 0, 1, 0, 0)),
        (3, 1, S_PENDING, S_SKIPPED, (0, 0, 2, 0, 0)),
        (4, 2, S_PENDING, S_READY, (0, 0, 2, 0, 0)),
    ]
    (lease,) = (await subject.tick()).leases
    assert (lease.run, lease.step) == (update, 2)
    outputs = await subject.store.outputs([(update, StepNo(0)), (base, StepNo(0))])
    assert outputs[update, StepNo(0)].body == outputs[base, StepNo(0)].body
    assert (await subject.tick(subject.executed(lease))).ended[0].status is RunStatus.COMPLETED
    results = (await subject.store.base_results([update]))[update]
    assert [results[StepNo(n)].producer_run for n in range(3)] == [base, base, update]


async def test_a_reused_step_never_becomes_ready(subject: Subject) -> None:
    """A step reused at creation is done, also when something it depends on is executed later."""
    base = await subject.create(CHAIN)
    lease = await lease_one(subject)
    for _ in range(3):
        turn = await subject.tick(subject.executed(lease))
        lease = turn.leases[0] if turn.leases else lease
    update = await subject.create(CHAIN, reused={1: binding(base, subject.ids[base], 1)})
    leases = (await subject.tick()).leases
    assert [(lease.run, lease.step) for lease in leases] == [(update, 0), (update, 2)]
    turn = await subject.tick(subject.executed(leases[0]))
    assert not turn.leases
    assert (await subject.tick(subject.executed(leases[1]))).ended[0].status is RunStatus.COMPLETED


@OF_BASE
async def test_a_run_that_only_reuses_is_complete(subject: Subject, *, is_of_base: bool) -> None:
    """A run without anything to execute is queued, running and completed at once."""
    base = await subject.create({0: ()})
    await subject.tick(subject.executed(await lease_one(subject)))
    run = await subject.create(
        {0: ()}, reused={0: binding(base, subject.ids[base], 0)}, base=base if is_of_base else None
    )
    assert await subject.moves(run) == [
        (None, None, QUEUED),
        (0, S_PENDING, S_SKIPPED),
        (None, QUEUED, RUNNING),
        (None, RUNNING, COMPLETED),
    ]
    assert not (await subject.tick()).leases


async def test_a_request_id_starts_one_run(subject: Subject) -> None:
    """The same request id gives the first answer, whether it comes later or at the same time."""
    first = await subject.submit(new_run({0: ()}, request_id="r1"))
    assert isinstance(first, CreatedRun)
    again = await subject.submit(new_run({0: ()}, request_id="r1", digest="11" * 32))
    assert again == EarlierAnswer(digest="00" * 32, answer=b"first")
    answers: list[CreatedRun | EarlierAnswer] = []

    async def submit() -> None:
        answers.append(await subject.submit(new_run({0: ()}, request_id="r2")))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(submit)
    assert sorted(isinstance(answer, CreatedRun) for answer in answers) == [False] * 4 + [True]
    assert len((await subject.tick()).leases) == 2


async def test_facts_and_base_say_what_was_created(subject: Subject) -> None:
    """What the scheduler and a rebuild load is what the run was created with."""
    run = await subject.create({0: ()})
    facts = (await subject.store.facts([run, RunKey(999_999)]))[run]
    assert (facts.run_id, facts.tenant, facts.payload, len(facts.plan)) == (subject.ids[run], TENANT, {"x": 1}, 1)
    base = await subject.store.base(TENANT, subject.ids[run])
    assert base is not None
    assert (base.run, base.root_run, base.status, dict(base.results)) == (run, run, RunStatus.QUEUED, {})
    assert await subject.store.base(Tenant("other"), subject.ids[run]) is None


async def test_facts_say_which_entries_a_plan_turned_down(subject: Subject) -> None:
    """The moment goes with its run, whatever is created with it; a request that was made before changes nothing."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    news = [replace(new_run({0: ()}, request_id=f"r{n}"), cache_after=moment if n == 1 else None) for n in range(3)]
    created: dict[int, CreatedRun | EarlierAnswer] = {}

    async def submit(n: int) -> None:
        created[n] = await subject.submit(news[n])

    async with anyio.create_task_group() as tasks:
        for n in range(3):
            tasks.start_soon(submit, n)
    runs = [made.run for n in range(3) if isinstance(made := created[n], CreatedRun)]
    again = await subject.submit(replace(news[0], cache_after=moment))
    assert isinstance(again, EarlierAnswer)
    facts = await subject.store.facts(runs)
    assert [facts[run].cache_after for run in runs] == [None, moment, None]


async def test_a_base_carries_what_a_retry_repeats(subject: Subject) -> None:
    """Change, mode, policy, priority, labels and plan are the run's; a run on a base knows the base's version."""
    first = await subject.create({0: ()})
    new = replace(
        new_run({0: (), 1: ()}, priority=7, policy=FailurePolicy.FAIL_FAST),
        change=ChangeRequest(type="a.change", payload={"x": [1, None]}),
        cache_mode=CacheMode.READ_ONLY,
        labels={"team": "x"},
        workflow_digest=WorkflowDigest("ef" * 32),
        base_run=first,
        root_run=first,
    )
    created = await subject.submit(new)
    assert isinstance(created, CreatedRun)
    base = await subject.store.base(TENANT, new.id)
    assert base is not None
    assert (base.change, base.cache_mode, base.failure_policy) == (new.change, new.cache_mode, new.failure_policy)
    assert (base.priority, dict(base.labels), base.root_run) == (7, {"team": "x"}, first)
    assert list(base.plan) == [(PlanAction.EXECUTE, PlanReason.INITIAL)] * 2
    facts = await subject.store.facts([first, created.run])
    assert (facts[first].base_run, facts[first].base_digest) == (None, None)
    assert (facts[created.run].base_run, facts[created.run].base_digest) == (first, "cd" * 32)


async def test_recent_runs_are_the_newest_completed_ones(subject: Subject) -> None:
    """History is that of the tenant's workflow, newest first, completed runs only, whatever their version."""
    runs = [await subject.create({0: ()}) for _ in range(4)]
    for lease in (await subject.tick()).leases:
        await subject.tick(step_failed(lease) if lease.run == runs[1] else subject.executed(lease))
    other = replace(new_run({0: ()}), workflow_digest=WorkflowDigest("ef" * 32))
    created = await subject.submit(other)
    assert isinstance(created, CreatedRun)
    subject.needs[created.run] = {0: ()}
    completed = (runs[3], runs[2], runs[0])
    assert dict(await subject.store.recent_runs(TENANT, "wf", 9)) == dict.fromkeys(completed, "cd" * 32)
    await subject.tick(subject.executed(await lease_one(subject)))
    found = await subject.store.recent_runs(TENANT, "wf", 2)
    assert list(found.items()) == [(created.run, "ef" * 32), (runs[3], "cd" * 32)]
    assert not await subject.store.recent_runs(Tenant("other"), "wf", 9)
    assert not await subject.store.recent_runs(TENANT, "other", 9)


async def test_durations_are_those_of_the_producer(subject: Subject) -> None:
    """A step took what its producer took, for every run that reuses it; what has no output took nothing."""
    base = await subject.create({0: (), 1: ()})
    leases = list((await subject.tick()).leases)
    await subject.age(leases[0], 5.0)
    await subject.tick(subject.executed(leases[0]), step_failed(leases[1]))
    update = await subject.create({0: ()}, reused={0: binding(base, subject.ids[base], 0)})
    places = [(base, StepNo(0)), (base, StepNo(1)), (update, StepNo(0)), (RunKey(999_999), StepNo(0))]
    found = await subject.store.durations(places)
    assert found.keys() == {(base, 0), (update, 0)}
    assert found[base, StepNo(0)] == found[update, StepNo(0)]
    assert 5.0 <= found[base, StepNo(0)].seconds < 60.0
    assert not found[base, StepNo(0)].is_resumed


async def test_a_taken_over_attempt_is_told_apart(subject: Subject) -> None:
    """An attempt whose first engine died took as long as all its leases, as far as they are known: it says so."""
    run = await subject.create({0: ()})
    await subject.dead_engine()
    begun_at = monotonic()
    await subject.registry.reap()
    lease = await lease_one(subject)
    taken_over_s = monotonic() - begun_at
    await subject.tick(subject.executed(lease))
    found = (await subject.store.durations([(run, StepNo(0))]))[run, StepNo(0)]
    assert found.is_resumed
    assert found.seconds >= taken_over_s


async def test_cancel_is_final(subject: Subject) -> None:
    """After a cancel nothing is leased and no late result counts; the terminal event is last; twice is once."""
    run = await subject.create(DIAMOND)
    lease = await lease_one(subject)
    assert await subject.cancel(run) is True
    assert list((await subject.tick(subject.executed(lease))).accepted) == [False]
    assert not (await subject.tick()).leases
    assert (await subject.moves(run))[-5:] == [
        (0, S_RUNNING, S_CANCELLED),
        (1, S_PENDING, S_CANCELLED),
        (2, S_PENDING, S_CANCELLED),
        (3, S_PENDING, S_CANCELLED),
        (None, RUNNING, CANCELLED),
    ]
    assert await subject.cancel(run) is False
    assert await subject.store.cancel(Tenant("other"), subject.ids[run], "eve", "") is None
    assert await subject.store.cancel(TENANT, RunId(str(uuid4())), "ann", "") is None


async def test_a_queued_run_can_be_cancelled(subject: Subject) -> None:
    """A run that never began goes from queued to cancelled."""
    run = await subject.create({0: ()})
    assert await subject.cancel(run) is True
    assert (await subject.moves(run))[-2:] == [(0, S_READY, S_CANCELLED), (None, QUEUED, CANCELLED)]


async def test_facts_say_how_much_time_is_left(subject: Subject) -> None:
    """The time left until a run's deadline is told by the database's clock: no engine's need agree with it."""
    late, patient, free = [await subject.create({0: ()}, deadline_s=s) for s in (0.001, 3600.0, None)]
    facts = await subject.store.facts([late, patient, free])
    left = [facts[run].deadline_in_s for run in (late, patient, free)]
    assert left[0] is not None
    assert left[0] < 0.001
    assert left[1] is not None
    assert 3500 < left[1] < 3600
    assert left[2] is None


async def test_the_trace_travels_with_the_run(subject: Subject) -> None:
    """What a run is traced in comes back in its facts, also for others than its creator; its base's span beside it."""
    begun_in = TraceContext(traceparent=f"00-{'a1' * 16}-{'b2' * 8}-01", tracestate="vendor=1,other=2")
    first = replace(new_run(CHAIN), trace=begun_in)
    # Created together, in one batch where there are batches: each run keeps its own.
    plain = new_run(CHAIN)
    async with anyio.create_task_group() as tasks:
        for new in (plain, first):
            tasks.start_soon(subject.store.create, new)
    base = await subject.store.base(TENANT, first.id)
    assert base is not None and base.trace == begun_in
    update = replace(new_run(CHAIN, base=base.run), trace=begun_in.at("c3" * 8))
    created = await subject.store.create(update)
    assert isinstance(created, CreatedRun)
    facts = await subject.store.facts([base.run, created.run])
    assert (facts[base.run].trace, facts[base.run].base_span) == (begun_in, None)
    assert facts[created.run].trace == begun_in.at("c3" * 8)
    assert facts[created.run].base_span == begun_in.at(first.id.replace("-", "")[16:])
    untraced = await subject.store.base(TENANT, plain.id)
    assert untraced is not None and untraced.trace is None


async def test_a_traced_request_is_repeated(subject: Subject) -> None:
    """The same request id gets its first answer, in whichever trace it comes again; the run stays in its own."""
    trace = TraceContext(traceparent=f"00-{'a1' * 16}-{'b2' * 8}-01")
    first = replace(new_run(CHAIN, request_id="once"), trace=trace)
    again = replace(new_run(CHAIN, request_id="once"), trace=trace.at("c3" * 8))
    created = await subject.store.create(first)
    assert isinstance(created, CreatedRun)
    assert isinstance(await subject.store.create(again), EarlierAnswer)
    assert (await subject.store.facts([created.run]))[created.run].trace == trace

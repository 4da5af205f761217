"""Who is leased next: tenants by turns, then priority, then runs by turns; in memory and on PostgreSQL."""

from collections import Counter

import pytest

from runengine_server.domain.ids import RunKey, Tenant

from .queue_subject import Subject
from .queue_values import Needs, attempt_failed

pytestmark = pytest.mark.anyio

LOUD, QUIET, THIRD = Tenant("loud"), Tenant("quiet"), Tenant("third")


def wide(count: int) -> Needs:
    return dict.fromkeys(range(count), ())


def fan_out(count: int) -> Needs:
    """Steps that all wait for the first one."""
    return {0: (), **dict.fromkeys(range(1, count + 1), (0,))}


async def test_each_tenant_gets_its_share(subject: Subject) -> None:
    """However many steps and runs a tenant has waiting, the others get as much of each turn, and first what is left."""
    for _ in range(10):
        await subject.create(wide(20), tenant=LOUD)
    await subject.create(wide(3), tenant=QUIET)
    await subject.create(wide(9), tenant=THIRD)
    tenants = await _tenants(subject)
    first = await subject.tick(capacity=9)
    assert Counter(tenants[lease.run] for lease in first.leases) == {LOUD: 3, QUIET: 3, THIRD: 3}
    assert first.next_available_s == 0
    second = await subject.tick(capacity=8)
    assert Counter(tenants[lease.run] for lease in second.leases) == {LOUD: 4, THIRD: 4}


async def test_priority_orders_a_tenants_own_steps(subject: Subject) -> None:
    """Higher priority goes first within a tenant, and takes nothing from another tenant."""
    low = await subject.create(wide(2), tenant=LOUD)
    high = await subject.create(wide(5), tenant=LOUD, priority=9)
    quiet = await subject.create(wide(5), tenant=QUIET)
    turn = await subject.tick(capacity=4)
    assert Counter(lease.run for lease in turn.leases) == {high: 2, quiet: 2}
    turn = await subject.tick(capacity=6)
    assert Counter(lease.run for lease in turn.leases) == {high: 3, quiet: 3}
    turn = await subject.tick(capacity=6)
    assert Counter(lease.run for lease in turn.leases) == {low: 2}


async def test_who_leases_its_own_dependents_leaves_room(subject: Subject) -> None:
    """A tenant whose steps unlock more than there is room for does not keep another one waiting for a turn."""
    run = await subject.create(fan_out(50), tenant=LOUD)
    (root,) = (await subject.tick()).leases
    quiet = await subject.create(wide(1), tenant=QUIET)
    turn = await subject.tick(subject.executed(root), capacity=4)
    assert Counter(lease.run for lease in turn.leases) == {run: 3, quiet: 1}


async def test_what_a_run_unlocks_leaves_room_for_another(subject: Subject) -> None:
    """What a run unlocks takes half of a turn while another run waits, which gets its part of the rest."""
    run = await subject.create(fan_out(50))
    (root,) = (await subject.tick()).leases
    other = await subject.create(wide(10))
    turn = await subject.tick(subject.executed(root), capacity=8)
    assert Counter(lease.run for lease in turn.leases) == {run: 6, other: 2}
    turn = await subject.tick(capacity=8)
    assert Counter(lease.run for lease in turn.leases) == {run: 4, other: 4}


async def test_a_small_run_is_leased_beside_a_wide_one(subject: Subject) -> None:
    """However many steps of an older run wait, a newer one gets its part of the next turn, and no more."""
    old = await subject.create(wide(1000))
    assert len((await subject.tick(capacity=10)).leases) == 10, "alone it gets everything"
    new = await subject.create(wide(3))
    turn = await subject.tick(capacity=4)
    assert Counter(lease.run for lease in turn.leases) == {old: 2, new: 2}
    turn = await subject.tick(capacity=10)
    assert Counter(lease.run for lease in turn.leases) == {old: 9, new: 1}
    assert turn.next_available_s == 0
    assert [lease.step for lease in turn.leases if lease.run == old] == list(range(12, 21)), "the longest ready first"


async def test_single_slots_go_to_runs_by_lot(subject: Subject) -> None:
    """Where fewer steps can be leased than there are runs, each run still comes up soon."""
    runs = {await subject.create(wide(100)) for _ in range(3)}
    assert {(await subject.tick(capacity=1)).leases[0].run for _ in range(60)} == runs


async def test_of_many_runs_the_oldest_and_newest_share(subject: Subject) -> None:
    """Where very many runs wait the oldest and the newest get equal parts, and readiness orders what is left."""
    runs = [await subject.create(wide(5)) for _ in range(40)]
    leased = Counter(lease.run for lease in (await subject.tick(capacity=40)).leases)
    assert all(leased[run] >= 1 for run in [*runs[:16], *runs[-16:]])
    assert leased[runs[0]] == 5
    assert leased.total() == 40


async def test_a_run_that_only_waits_takes_no_part(subject: Subject) -> None:
    """Steps that are delayed leave the turn to other runs, and say when to come again."""
    delayed = await subject.create(wide(2))
    one, two = (await subject.tick()).leases
    await subject.tick(attempt_failed(one, delay_ms=60_000), attempt_failed(two, delay_ms=60_000), capacity=0)
    busy = [await subject.create(wide(20)), await subject.create(wide(20))]
    turn = await subject.tick(capacity=10)
    assert Counter(lease.run for lease in turn.leases) == dict.fromkeys(busy, 5)
    turn = await subject.tick(capacity=100)
    assert delayed not in {lease.run for lease in turn.leases}
    assert turn.next_available_s is not None
    assert 50 < turn.next_available_s <= 60


async def test_delays_of_one_tenant_hide_nothing(subject: Subject) -> None:
    """Delayed steps take no share, and the turn says when the first of them is due."""
    await subject.create(wide(2), tenant=LOUD, priority=5)
    late, later = (await subject.tick()).leases
    await subject.tick(attempt_failed(late, delay_ms=60_000), attempt_failed(later, delay_ms=90_000), capacity=0)
    quiet = await subject.create(wide(2), tenant=QUIET)
    await subject.create(wide(1), tenant=LOUD)
    turn = await subject.tick(capacity=10)
    assert [lease.run for lease in turn.leases if lease.run == quiet] == [quiet, quiet]
    assert len(turn.leases) == 3
    assert turn.next_available_s is not None
    assert 50 < turn.next_available_s <= 60


async def _tenants(subject: Subject) -> dict[RunKey, Tenant]:
    if subject.tables is not None:
        return {key: run.new.tenant for key, run in subject.tables.runs.items()}
    assert subject.database is not None
    rows = await subject.database.fetch("SELECT run, tenant FROM runs")
    return {RunKey(row["run"]): Tenant(row["tenant"]) for row in rows}

"""Who is leased next: tenants by turns, a tenant's own steps by priority and age, in memory and on PostgreSQL."""

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


async def test_a_wide_run_does_not_starve_an_older_one(subject: Subject) -> None:
    """What a run unlocks takes half of a turn while an older run of the tenant waits; else the older goes first."""
    run = await subject.create(fan_out(50))
    (root,) = (await subject.tick()).leases
    older = await subject.create(wide(10))
    turn = await subject.tick(subject.executed(root), capacity=6)
    assert Counter(lease.run for lease in turn.leases) == {run: 3, older: 3}
    turn = await subject.tick(capacity=7)
    assert Counter(lease.run for lease in turn.leases) == {older: 7}


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

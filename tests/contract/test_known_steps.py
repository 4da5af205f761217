"""An engine that knows what is ready leases just that, and looks at the queue where there may be more; both stores."""

import pytest

from runengine_server.domain.ids import StepNo

from .queue_subject import Subject
from .queue_values import CHAIN, LONG_MS, attempt_failed, step_failed

pytestmark = pytest.mark.anyio

WIDE = {0: (), 1: (), 2: ()}


async def test_only_known_steps_are_leased(subject: Subject) -> None:
    """Of the queue a turn leases what its engine names and nothing else, and does not say what else there is."""
    run, other = await subject.create(WIDE), await subject.create(WIDE)
    turn = await subject.tick(known=[(run, StepNo(0)), (run, StepNo(2))])
    assert sorted((lease.run, lease.step) for lease in turn.leases) == [(run, 0), (run, 2)]
    assert list(turn.begun) == [run]
    assert (turn.look_s, turn.next_available_s) == (None, None)
    turn = await subject.tick()
    assert sorted((lease.run, lease.step) for lease in turn.leases) == [(run, 1), (other, 0), (other, 1), (other, 2)]
    assert turn.look_s is not None


async def test_nothing_known_leases_nothing(subject: Subject) -> None:
    """A turn that need not look commits and leases its own dependents, whatever waits."""
    await subject.create(CHAIN)
    (root,) = (await subject.tick()).leases
    await subject.create(WIDE)
    turn = await subject.tick(subject.executed(root), known=[])
    assert [(lease.run, lease.step) for lease in turn.leases] == [(root.run, 1)]
    assert turn.look_s is None


async def test_what_is_not_there_any_more_is_left_alone(subject: Subject) -> None:
    """A known step that is leased, delayed, ended or cancelled is not leased."""
    run = await subject.create(WIDE)
    zero, one, _ = (await subject.tick()).leases
    await subject.tick(attempt_failed(zero, delay_ms=LONG_MS), subject.executed(one), known=[])
    turn = await subject.tick(known=[(run, StepNo(step)) for step in WIDE])
    assert not turn.leases
    assert turn.next_available_s is None


async def test_more_than_fits_makes_a_turn_look(subject: Subject) -> None:
    """Where not everything known can be leased the queue decides, by its rules, and says that there is more."""
    run = await subject.create(WIDE)
    turn = await subject.tick(capacity=2, known=[(run, StepNo(step)) for step in WIDE])
    assert len(turn.leases) == 2
    assert turn.look_s is not None
    assert turn.next_available_s == 0


async def test_what_a_turn_leaves_behind_makes_it_look(subject: Subject) -> None:
    """A turn that delays a step, or makes more ready than it leases, says when to come again."""
    run = await subject.create(WIDE)
    zero, one, two = (await subject.tick()).leases
    turn = await subject.tick(attempt_failed(zero, delay_ms=LONG_MS), known=[])
    assert turn.look_s is not None
    assert turn.next_available_s is not None
    turn = await subject.tick(step_failed(one), known=[])
    assert turn.next_available_s == 0
    (ended,) = (await subject.tick(subject.executed(two), known=[])).ended
    assert ended.run == run

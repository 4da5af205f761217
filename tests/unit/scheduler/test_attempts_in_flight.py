"""The leases a process holds: counted once, found by run, cancelled also before they begin."""

import anyio
import pytest

from runengine_server.domain.ids import RunKey, StepNo
from runengine_server.ports.step_queue import Lease
from runengine_server.scheduler.attempts_in_flight import AttemptsInFlight

pytestmark = pytest.mark.anyio


def _lease(run: int, step: int, epoch: int = 1) -> Lease:
    return Lease(RunKey(run), StepNo(step), epoch, 1, 0)


def test_a_lease_is_held_once() -> None:
    """Adding a lease again neither counts it twice nor returns it as new; another epoch is another lease."""
    held = AttemptsInFlight()
    assert held.add([_lease(1, 0), _lease(1, 0), _lease(1, 1)]) == [_lease(1, 0), _lease(1, 1)]
    assert held.add([_lease(1, 0), _lease(1, 0, epoch=2)]) == [_lease(1, 0, epoch=2)]
    assert len(held) == 3
    assert held.leases() == {_lease(1, 0), _lease(1, 1), _lease(1, 0, epoch=2)}


def test_letting_go_is_idempotent() -> None:
    """A lease let go of twice is counted off once."""
    held = AttemptsInFlight()
    held.add([_lease(1, 0), _lease(2, 0)])
    first = held.remove(_lease(1, 0))
    assert first is not None
    assert first.lease == _lease(1, 0)
    assert held.remove(_lease(1, 0)) is None
    assert len(held) == 1


async def test_cancelling_a_run_cancels_its_attempts_only() -> None:
    """What runs for the run is cancelled and unwanted; what runs for others is not."""
    held = AttemptsInFlight()
    held.add([_lease(1, 0), _lease(2, 0)])
    mine, other = anyio.CancelScope(), anyio.CancelScope()
    held.began(_lease(1, 0), mine)
    held.began(_lease(2, 0), other)
    held.cancel_runs([RunKey(1), RunKey(3)])
    assert (mine.cancel_called, other.cancel_called) == (True, False)
    gone = held.remove(_lease(1, 0))
    assert gone is not None
    assert gone.is_unwanted
    assert not held.is_cancelled(_lease(2, 0))


async def test_what_is_cancelled_before_it_begins_never_begins() -> None:
    """A cancel between lease and call is remembered."""
    held = AttemptsInFlight()
    held.add([_lease(1, 0)])
    held.cancel([_lease(1, 0), _lease(9, 9)])
    assert held.is_cancelled(_lease(1, 0))
    scope = anyio.CancelScope()
    held.began(_lease(1, 0), scope)
    assert scope.cancel_called
    lost = held.remove(_lease(1, 0))
    assert lost is not None
    assert not lost.is_unwanted


def test_collecting_remembers_what_came_and_went() -> None:
    """Inside the block every lease that was held at any moment is collected; outside nothing is."""
    held = AttemptsInFlight()
    held.add([_lease(1, 0)])
    with held.collected() as seen:
        held.remove(_lease(1, 0))
        held.add([_lease(1, 1)])
        held.remove(_lease(1, 1))
    held.add([_lease(1, 2)])
    assert seen == {_lease(1, 0), _lease(1, 1)}

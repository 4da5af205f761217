"""An engine looks at the queue when there may be something, and rarely where looking costs much and finds nothing."""

from dataclasses import dataclass

import pytest

from runengine_server.domain.ids import RunKey, StepNo
from runengine_server.ports.step_queue import Lease, Turn
from runengine_server.scheduler.lookout import KNOWN_MAX, Lookout

POLL_S = 0.5


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lookout(clock: Clock) -> Lookout:
    """One that has looked, in no time, and found nothing."""
    made = Lookout(POLL_S, clock)
    assert made.known(10, has_batch=False) is None
    made.heed(turn(), 10)
    clock.now += 0.01
    return made


def turn(*, leases: int = 0, next_s: float | None = None, look_s: float | None = 0.0) -> Turn:
    granted = [Lease(RunKey(1), StepNo(step), 1, 1, 0) for step in range(leases)]
    return Turn(accepted=(), leases=granted, misses=(), begun=(), ended=(), next_available_s=next_s, look_s=look_s)


def test_known_steps_need_no_look(lookout: Lookout) -> None:
    """What is known is told once, and nothing else is looked for."""
    assert not lookout.has_work
    lookout.learn([(RunKey(1), StepNo(0))])
    assert lookout.has_work
    assert lookout.known(10, has_batch=False) == [(1, 0)]
    assert not lookout.has_work
    assert lookout.known(10, has_batch=True) == []


def test_too_many_to_remember(lookout: Lookout) -> None:
    """What is too much to remember is found by a look."""
    lookout.learn([(RunKey(1), StepNo(step)) for step in range(KNOWN_MAX + 1)])
    assert lookout.known(10, has_batch=False) is None


def test_looks_after_the_poll_interval(lookout: Lookout, clock: Clock) -> None:
    """Without any hint the queue is looked at when the interval is over."""
    assert 0.4 < lookout.wait_s <= POLL_S
    clock.now += lookout.wait_s - 0.0001
    lookout.waited()
    assert lookout.known(10, has_batch=False) is None


def test_comes_when_a_delay_ends(lookout: Lookout, clock: Clock) -> None:
    """A look that learned of a delayed step is followed by one when it may be leased, though others come between."""
    lookout.want()
    assert lookout.known(10, has_batch=False) is None
    lookout.heed(turn(next_s=0.2), 10)
    clock.now += 0.1
    assert lookout.known(10, has_batch=True) == []
    lookout.heed(turn(look_s=None), 10)
    assert lookout.wait_s == pytest.approx(0.1)


def test_a_hint_during_a_look_is_not_lost(lookout: Lookout) -> None:
    """Who says that there is work while a turn looks gets another look."""
    lookout.want()
    assert lookout.known(10, has_batch=False) is None
    lookout.want()
    lookout.heed(turn(leases=1), 10)
    assert lookout.known(10, has_batch=False) is None


def test_without_a_slot_the_look_is_owed(lookout: Lookout) -> None:
    """A look that came when everything was taken takes place in the turn that frees a slot."""
    lookout.want()
    assert lookout.known(0, has_batch=False) == ()
    assert not lookout.has_work
    assert lookout.known(1, has_batch=True) is None
    lookout.learn([(RunKey(1), StepNo(0))])
    assert lookout.known(0, has_batch=False) == ()
    assert lookout.known(1, has_batch=True) is None


def test_a_full_lease_looks_again(lookout: Lookout) -> None:
    """Who leased all that it could may have left something behind."""
    lookout.heed(turn(leases=3, look_s=None), 3)
    assert lookout.known(10, has_batch=False) is None


def test_fruitless_looks_are_paced(lookout: Lookout, clock: Clock) -> None:
    """A look of 10 ms that found nothing is not repeated within 200 ms, whoever hints; one that found something is."""
    lookout.want()
    assert lookout.known(10, has_batch=False) is None
    lookout.heed(turn(look_s=0.01), 10)
    lookout.want()
    assert lookout.wait_s == pytest.approx(0.2)
    clock.now += 0.2
    assert lookout.known(10, has_batch=False) is None
    lookout.heed(turn(look_s=0.01, leases=1), 10)
    lookout.want()
    assert lookout.wait_s == 0

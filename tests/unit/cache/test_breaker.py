"""The circuit breaker, by a clock that the test moves."""

import pytest

from runengine_server.adapters.breaker import CircuitBreaker

from ...support.manual_clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


@pytest.fixture
def breaker(clock: ManualClock) -> CircuitBreaker:
    return CircuitBreaker(clock, failures_max=3, open_s=1.0)


def test_it_opens_after_failures_in_a_row(breaker: CircuitBreaker) -> None:
    """The third failure in a row opens it, and only that one says so."""
    assert [breaker.failed() for _ in range(4)] == [False, False, True, False]
    assert breaker.is_open
    assert not breaker.admits()


def test_a_success_between_starts_the_count_anew(breaker: CircuitBreaker) -> None:
    """Failures that are not in a row never open it."""
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.admits()
    assert not breaker.is_open


def test_one_probe_at_a_time(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """After `open_s` exactly one call is admitted until it has told its outcome."""
    _open(breaker)
    clock.at += 0.99
    assert not breaker.admits()
    clock.at += 0.01
    assert [breaker.admits() for _ in range(3)] == [True, False, False]


def test_a_failed_probe_keeps_it_open(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """A single failed probe is enough to wait for `open_s` again."""
    _open(breaker)
    clock.at += 1
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()
    clock.at += 1
    assert breaker.admits()


def test_a_good_probe_closes_it(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """After a successful probe every call is admitted, and it takes a full count of failures to open again."""
    _open(breaker)
    clock.at += 1
    assert breaker.admits()
    assert breaker.succeeded()
    assert [breaker.admits() for _ in range(3)] == [True] * 3
    assert [breaker.failed() for _ in range(3)] == [False, False, True]


def test_a_cancelled_probe_leaves_the_place_to_another(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """A probe that was cancelled does not keep all others out for ever."""
    _open(breaker)
    clock.at += 1
    assert breaker.admits()
    breaker.abandoned()
    assert breaker.is_open
    assert breaker.admits()


def _open(breaker: CircuitBreaker) -> None:
    while not breaker.is_open:
        breaker.failed()

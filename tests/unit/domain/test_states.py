"""The states of runs and steps: every pair of step states is legal or it is not."""

from itertools import product

import pytest

from runengine_server.domain.states import STEP_TRANSITIONS, CacheMode, RunStatus, StepStatus

PENDING, READY, RUNNING, COMPLETED, SKIPPED, FAILED, CANCELLED = StepStatus

LEGAL = {
    (PENDING, READY),
    (PENDING, RUNNING),
    (PENDING, SKIPPED),
    (PENDING, CANCELLED),
    (READY, RUNNING),
    (READY, SKIPPED),
    (READY, CANCELLED),
    (READY, READY),
    (RUNNING, COMPLETED),
    (RUNNING, SKIPPED),
    (RUNNING, FAILED),
    (RUNNING, READY),
    (RUNNING, CANCELLED),
}


@pytest.mark.parametrize(("before", "after"), list(product(StepStatus, StepStatus)))
def test_every_pair(before: StepStatus, after: StepStatus) -> None:
    """A move is legal exactly when SPEC lists it; from a terminal state there is none."""
    assert (after in STEP_TRANSITIONS[before]) is ((before, after) in LEGAL)


def test_every_state_has_its_moves() -> None:
    """The table knows every state, and the terminal ones absorb."""
    assert set(STEP_TRANSITIONS) == set(StepStatus)
    assert {status for status in StepStatus if status.is_terminal} == {COMPLETED, SKIPPED, FAILED, CANCELLED}
    assert all(not STEP_TRANSITIONS[status] for status in StepStatus if status.is_terminal)


def test_terminal_runs() -> None:
    """A run has ended when it is completed, failed or cancelled."""
    assert [status.name for status in RunStatus if status.is_terminal] == ["COMPLETED", "FAILED", "CANCELLED"]


def test_modes_that_write() -> None:
    """DEFAULT and REFRESH store successes, READ_ONLY and BYPASS do not."""
    assert [mode.name for mode in CacheMode if mode.writes] == ["DEFAULT", "REFRESH"]

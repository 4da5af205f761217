"""The rule that planning and execution share, for every combination of mode, policy and base."""

from itertools import product

import pytest

from runengine_server.domain.states import CacheMode, CacheOutcome, CacheScope, MissReason, PlanReason
from runengine_server.domain.workflow import CachePolicy
from runengine_server.planner.decision import (
    ExecuteNow,
    KnownResult,
    LookUp,
    ReuseBase,
    decide,
    is_execution_certain,
    step_cache_mode,
)

SHARED, OWN, OFF = CachePolicy(), CachePolicy(scope=CacheScope.RUN_ONLY), CachePolicy(enabled=False)
SAME = KnownResult(input_hash="h", cache_version="1")
DEFAULT, REFRESH, READ_ONLY, BYPASS = CacheMode


@pytest.mark.parametrize(("mode", "policy"), list(product(CacheMode, (SHARED, OWN, OFF))))
def test_an_equal_base_is_reused_unless_reading_is_off(mode: CacheMode, policy: CachePolicy) -> None:
    """Equal input and version: the base's output, whatever the policy, except under REFRESH and BYPASS."""
    is_reused = decide(mode, policy, SAME, "h", "1") == ReuseBase()
    assert is_reused is (mode in (DEFAULT, READ_ONLY))


@pytest.mark.parametrize("base", [None, KnownResult(input_hash="x", cache_version="1")])
@pytest.mark.parametrize(
    ("mode", "policy", "version", "expected"),
    [
        (DEFAULT, SHARED, "1", LookUp()),
        (READ_ONLY, SHARED, "1", LookUp()),
        (REFRESH, SHARED, "1", ExecuteNow(CacheOutcome.REFRESHED)),
        (BYPASS, SHARED, "1", ExecuteNow(CacheOutcome.BYPASSED)),
        (DEFAULT, SHARED, None, ExecuteNow(CacheOutcome.LOOKUP_FAILED)),
        *[(mode, OFF, "1", ExecuteNow(CacheOutcome.DISABLED)) for mode in CacheMode],
        *[(mode, OWN, "1", ExecuteNow(CacheOutcome.MISS, MissReason.SCOPE)) for mode in CacheMode],
    ],
)
def test_without_an_equal_base(
    mode: CacheMode, policy: CachePolicy, version: str | None, expected: object, base: KnownResult | None
) -> None:
    """Otherwise the cache is asked where it may be, and what is executed says why."""
    assert decide(mode, policy, base, "h", version) == expected


def test_another_version_is_no_equal_base() -> None:
    """The base counts only with the cache version that its skill declares now."""
    assert decide(DEFAULT, SHARED, SAME, "h", "2") == LookUp()
    assert decide(DEFAULT, OFF, SAME, "h", None) == ExecuteNow(CacheOutcome.DISABLED)


@pytest.mark.parametrize(
    ("mode", "reason", "expected"),
    [
        (REFRESH, PlanReason.INITIAL, REFRESH),
        (REFRESH, PlanReason.SEED, REFRESH),
        (REFRESH, PlanReason.DOWNSTREAM, DEFAULT),
        (REFRESH, PlanReason.WIDENED, DEFAULT),
        (REFRESH, PlanReason.NO_BASE_OUTPUT, DEFAULT),
        (BYPASS, PlanReason.DOWNSTREAM, BYPASS),
        (READ_ONLY, PlanReason.SEED, READ_ONLY),
        (DEFAULT, PlanReason.INITIAL, DEFAULT),
        *[(mode, PlanReason.FORCED, REFRESH) for mode in CacheMode],
    ],
)
def test_the_mode_of_a_step(mode: CacheMode, reason: PlanReason, expected: CacheMode) -> None:
    """REFRESH covers all of an initial run and the seeds of an update; a forced step is refreshed in every mode."""
    assert step_cache_mode(mode, reason) is expected


def test_certain_execution() -> None:
    """Where nothing may be read, execution is certain."""
    assert [mode for mode in CacheMode if is_execution_certain(mode)] == [REFRESH, BYPASS]

"""What to do with a step whose input is known: the one rule that planning and execution share."""

from dataclasses import dataclass

from runengine_server.domain.states import CacheMode, CacheOutcome, CacheScope, MissReason, PlanReason
from runengine_server.domain.value import value
from runengine_server.domain.workflow import CachePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownResult:
    """The input hash and cache version with which a base run has an output of the step."""

    input_hash: str
    cache_version: str


@dataclass(frozen=True, slots=True)
class ReuseBase:
    """The base run's output is the answer."""


@value()
class LookUp:
    """The cache decides: a hit is reused, a miss is executed."""


@dataclass(frozen=True, slots=True)
class ExecuteNow:
    """The step is executed without asking the cache, for the reason recorded in its decision."""

    outcome: CacheOutcome
    miss_reason: MissReason | None = None


Decision = ReuseBase | LookUp | ExecuteNow


def step_cache_mode(run_mode: CacheMode, reason: PlanReason) -> CacheMode:
    """The mode that holds for one step of a run.

    A forced step is refreshed. REFRESH covers every step of an initial run but only the seeds of an update, whose
    downstream goes on as DEFAULT.
    """
    if reason is PlanReason.FORCED:
        return CacheMode.REFRESH
    if run_mode is CacheMode.REFRESH and reason not in (PlanReason.INITIAL, PlanReason.SEED):
        return CacheMode.DEFAULT
    return run_mode


def is_execution_certain(mode: CacheMode) -> bool:
    """True when a step is executed whatever its input: nothing may be read."""
    return mode in (CacheMode.REFRESH, CacheMode.BYPASS)


def decide(
    mode: CacheMode, policy: CachePolicy, base: KnownResult | None, input_hash: str, cache_version: str | None
) -> Decision:
    """What to do with a step that is affected and whose input hash is known.

    Args:
        mode: the step's mode, from `step_cache_mode`.
        policy: the step's cache policy.
        base: how the base run did it, None without one.
        input_hash: hex SHA-256 of the canonical input.
        cache_version: what the skill's runner declares now; None while it is not known.
    """
    if (
        base is not None
        and not is_execution_certain(mode)
        and base.input_hash == input_hash
        and base.cache_version == cache_version
    ):
        return ReuseBase()
    if not policy.enabled:
        return ExecuteNow(CacheOutcome.DISABLED)
    if policy.scope is CacheScope.RUN_ONLY:
        return ExecuteNow(CacheOutcome.MISS, MissReason.SCOPE)
    if mode is CacheMode.REFRESH:
        return ExecuteNow(CacheOutcome.REFRESHED)
    if mode is CacheMode.BYPASS:
        return ExecuteNow(CacheOutcome.BYPASSED)
    if cache_version is None:
        return ExecuteNow(CacheOutcome.LOOKUP_FAILED)
    return LookUp()

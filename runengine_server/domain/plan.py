"""A plan: for every step EXECUTE, REUSE or UNKNOWN, why, and the digest that binds it to what then happens."""

from dataclasses import dataclass
from datetime import datetime

from runengine_server.domain.cache import CacheDecision, CacheKey
from runengine_server.domain.ids import RunId, RunKey, SkillId, StepId, StepNo
from runengine_server.domain.states import CacheTier, OutputSource, PlanAction, PlanReason
from runengine_server.domain.value import value


@dataclass(frozen=True, slots=True, kw_only=True)
class ReuseBinding:
    """The producer a REUSE is bound to and what the run will record for it; `cache`: where it was found, if there."""

    producer_run: RunKey
    producer_step: StepNo
    producer_run_id: RunId
    source: OutputSource
    input_hash: str
    cache_version: str
    output_hash: str
    decision: CacheDecision | None = None
    cache: tuple[CacheKey, CacheTier] | None = None


@value(kw_only=True)
class PlannedStep:
    """What happens to one step; `caused_by` and `unknown_until` are direct dependencies, at most 16 each.

    `skill_id` is that of a step whose output is reused.
    """

    step_id: StepId
    action: PlanAction
    reason: PlanReason
    caused_by: tuple[StepId, ...] = ()
    changed_pointers: tuple[str, ...] = ()
    unknown_until: tuple[StepId, ...] = ()
    estimate_s: float | None = None
    binding: ReuseBinding | None = None
    skill_id: SkillId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildPlan:
    """The plan of a run, steps in definition order; `digest` as SPEC: Partial rebuild.

    `cache_after`: when the newest cache entry was filed that was found and could not be used; what the plan executes
    takes later entries only.
    """

    steps: tuple[PlannedStep, ...]
    digest: str
    seed_step_ids: tuple[StepId, ...] = ()
    base_run_id: RunId | None = None
    estimate_s: float | None = None
    cache_after: datetime | None = None

    def count(self, action: PlanAction) -> int:
        """How many steps have this action."""
        return sum(step.action is action for step in self.steps)

    @property
    def to_execute_count(self) -> int:
        """How many steps will or may be executed: EXECUTE + UNKNOWN, the number in the message."""
        return self.count(PlanAction.EXECUTE) + self.count(PlanAction.UNKNOWN)

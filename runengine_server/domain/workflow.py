"""A workflow: a named, versioned DAG of steps with its change rules; immutable once registered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from runengine_server.domain.ids import SkillId, StepId, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.states import CacheMode, CacheScope, FailurePolicy

HOT_TTL_S_DEFAULT = 24 * 3600
ATTEMPT_TIMEOUT_S_DEFAULT = 60.0
ATTEMPT_TIMEOUT_S_MAX = 7 * 24 * 3600.0
BACKOFF_MS_MAX_DEFAULT = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """Whether and how a step's successes are reused; `hot_ttl_s` is 24 to 48 hours, in seconds."""

    enabled: bool = True
    scope: CacheScope = CacheScope.GLOBAL
    hot_ttl_s: int = HOT_TTL_S_DEFAULT

    @property
    def is_shared(self) -> bool:
        """True when the step reads and writes the cache at all."""
        return self.enabled and self.scope is CacheScope.GLOBAL


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how soon a failed attempt is repeated; times in milliseconds."""

    max_attempts: int = 3
    backoff_ms: int = 1_000
    max_backoff_ms: int = BACKOFF_MS_MAX_DEFAULT
    non_retryable_codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDefinition:
    """One step: the skill it calls, what it waits for and how its input is selected."""

    step_id: StepId
    skill_id: SkillId
    depends_on: tuple[StepId, ...] = ()
    input_selector: JsonObject = field(default_factory=dict)
    cache_policy: CachePolicy = CachePolicy()
    retry_policy: RetryPolicy = RetryPolicy()
    timeout_s: float | None = None
    description: str = ""
    verify_artifacts: bool = False

    def attempt_timeout_s(self, skill_default_s: float | None) -> float:
        """How long an attempt may take, in seconds: the step's timeout, else the skill's default, else 60.

        A week at most, whatever a runner declares.
        """
        return min(self.timeout_s or skill_default_s or ATTEMPT_TIMEOUT_S_DEFAULT, ATTEMPT_TIMEOUT_S_MAX)

    def lease_timeout_ms(self, skill_default_s: float | None, *, is_skill_known: bool) -> int:
        """How long a lease may last before its engine has evidently lost sight of it, in milliseconds.

        The attempt's timeout; the longest there is while nobody has heard the skill's runner, whose default may turn
        out to be more than ours by the time the attempt runs.
        """
        if self.timeout_s is None and not is_skill_known:
            return round(ATTEMPT_TIMEOUT_S_MAX * 1000)
        return round(self.attempt_timeout_s(skill_default_s) * 1000)


NO_DIGEST = WorkflowDigest("")
"""Of a workflow whose digest nobody has computed yet."""

ALL_STEPS = "*"
"""In a change rule's seeds: every step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRule:
    """Which steps a change request of this type re-runs first; `("*",)` means all."""

    type: str
    seed_step_ids: tuple[str, ...]
    cache_mode: CacheMode | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow version; `digest` is the SHA-256 of its RFC 8785 form with defaults filled in."""

    name: str
    version: str
    steps: tuple[StepDefinition, ...]
    change_rules: tuple[ChangeRule, ...] = ()
    description: str = ""
    trigger_schema: JsonObject | None = None
    cache_epoch: str = ""
    failure_policy: FailurePolicy = FailurePolicy.FINISH_RUNNING
    labels: Mapping[str, str] = field(default_factory=dict)
    digest: WorkflowDigest = NO_DIGEST
    created_at: datetime | None = None

    def change_rule(self, change_type: str) -> ChangeRule | None:
        """The rule for a change type, or None when the workflow has none."""
        return next((rule for rule in self.change_rules if rule.type == change_type), None)

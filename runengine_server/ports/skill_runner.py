"""Calling skills: one call is one attempt of one step."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, SkillId, StepId, Tenant
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.trace_context import TraceContext
from runengine_server.domain.value import value


@value(kw_only=True)
class SkillCall:
    """One attempt; `input_json` is RFC 8785 and its SHA-256 is `input_hash`; `timeout_s` covers the whole attempt.

    `trace`: what the runner's spans belong to; None where the run is not traced.
    """

    skill_id: SkillId
    idempotency_key: str
    run_id: RunId
    step_id: StepId
    attempt: int
    fencing_token: int
    input_json: bytes
    input_hash: str
    workflow_name: str
    tenant: Tenant
    timeout_s: float
    trace: TraceContext | None = None


@value(kw_only=True)
class Succeeded:
    """The skill returned an output; `cache_version` is that of the build that executed, as `accepted` reported it."""

    output_json: bytes
    artifacts: tuple[ProducedArtifact, ...] = ()
    do_not_cache: bool = False
    skill_version: str = ""
    cache_version: str = ""
    worker_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The attempt failed; `failure.retryable` says whether another may help, `retry_after_s` when at the earliest."""

    failure: Failure
    retry_after_s: float | None = None
    worker_id: str = ""


Outcome = Succeeded | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillInfo:
    """What a runner says of a skill it offers; timeout None when it names none, concurrency 0 when unbounded."""

    skill_id: SkillId
    version: str
    cache_version: str
    description: str = ""
    max_concurrency: int = 0
    default_timeout_s: float | None = None
    input_schema: JsonObject | None = None
    output_schema: JsonObject | None = None


@value(kw_only=True)
class SkillAvailability:
    """What is known of a skill right now.

    `has_target`: an operator's pattern matches. `is_catalogue_known`: its runner's list has been read at least once.
    `info`: the skill's entry in the last known list, None when not listed or no list is known.
    """

    has_target: bool
    is_catalogue_known: bool
    info: SkillInfo | None

    @property
    def cache_version(self) -> str | None:
        """What the runner declares now; None while it is not known."""
        return self.info.cache_version if self.info is not None else None

    @property
    def default_timeout_s(self) -> float | None:
        """The skill's own attempt timeout in seconds; None without one, or while it is not known."""
        return self.info.default_timeout_s if self.info is not None else None


ProgressListener = Callable[[float, str, datetime], None]


class SkillRunner(Protocol):
    """Runs attempts; never raises for what a skill or its network does (that is a `Failed`), only for cancellation."""

    async def execute(self, call: SkillCall, on_progress: ProgressListener) -> Outcome:
        """Run one attempt to its end; cancelling the task cancels the call.

        Failure codes: SKILL_TIMEOUT, SKILL_FAILED or the skill's own, SKILL_UNAVAILABLE, SKILL_PROTOCOL_ERROR,
        HEARTBEAT_TIMEOUT, OUTPUT_TOO_LARGE.
        """

    def execute_at_once(self, call: SkillCall) -> Outcome | None:
        """Run an attempt that needs no waiting, such as an inline function; None when the skill is of another kind."""

    async def abandon(self, call: SkillCall) -> None:
        """Tell the runner that nobody wants an attempt any more, after its task was cancelled; best effort, bounded.

        Cancelling the task alone also happens when an engine stops: the runner keeps the call for the next one.
        """

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        """What is known of a skill, from memory, at once."""

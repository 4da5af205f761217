"""What a test saw of runs, plans and cache entries: what the oracle of rebuilds judges."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runengine_server.domain.plan import PlannedStep
from runengine_server.domain.states import CacheMode, OutputSource, RunStatus, StepStatus

from .workflow_model import WorkflowModel


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenStep:
    """How a step ended; `producer` is (run id, step id) of who executed it; times on the database's clock."""

    status: StepStatus
    source: OutputSource | None
    producer: tuple[str, str] | None
    input_hash: str
    cache_version: str
    output_hash: str
    started_at: float | None
    ended_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRun:
    """A run as a test saw it; its plan was made between `planned_since` and `created_at`."""

    run_id: str
    model: WorkflowModel
    payload: Mapping[str, Any]
    change: Mapping[str, Any] | None
    mode: CacheMode
    base: str | None
    is_retry: bool
    seeds: frozenset[str]
    forced: frozenset[str]
    is_strict: bool
    plan: Mapping[str, PlannedStep]
    status: RunStatus
    planned_since: float
    created_at: float
    steps: Mapping[str, SeenStep]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filing:
    """A success became a cache entry: not before `at`, for everyone by `visible_at`, and until it was removed."""

    step_id: str
    input_hash: str
    skill_id: str
    cache_version: str
    cache_epoch: str
    producer: tuple[str, str]
    at: float
    visible_at: float
    removed_at: float = math.inf


@dataclass(slots=True, kw_only=True)
class Seen:
    """Everything a test saw.

    Attributes:
        runs: by id.
        outputs: canonical bytes by producer.
        artifacts: what selectors see of a producer's artifacts.
        filings: in the order in which they were committed.
        versions: what each skill declared from when on, in order; None while nobody knew.
        lag_s: how much later than that an engine may have heard of it.
    """

    runs: dict[str, SeenRun] = field(default_factory=dict)
    outputs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], Sequence[Any]] = field(default_factory=dict)
    filings: list[Filing] = field(default_factory=list)
    versions: dict[str, list[tuple[float, str | None]]] = field(default_factory=dict)
    lag_s: float = 0.0

    def declared(self, skill_id: str, since: float, until: float) -> set[str | None]:
        """What an engine may have known a skill to declare at any moment of a window."""
        told, since = self.versions[skill_id], since - self.lag_s
        before = [version for at, version in told if at <= since][-1:] or [told[0][1]]
        return {*before, *(version for at, version in told if since < at <= until)}

    def filed(self, step_id: str, input_hash: str | None) -> list[Filing]:
        """What was filed under a key, in order."""
        return [f for f in self.filings if (f.step_id, f.input_hash) == (step_id, input_hash)]

"""Sums the queue up by skill, and keeps the answer as long as it takes to make asking for it cheap."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import anyio

from runengine_server.domain.ids import SkillId, StepId, Tenant, WorkflowDigest
from runengine_server.planner.compiled import CompiledWorkflow, CompiledWorkflows
from runengine_server.ports.clock import Clock
from runengine_server.ports.queue_reader import (
    Depth,
    QueueDepths,
    QueuedStep,
    QueueGroup,
    QueueReader,
    QueueState,
)

KEPT_S: Final = 1.0
COST_SHARE: Final = 0.05
"""Of a connection's time: what took 0.1 s to read is kept for 2 s."""

SKILLS_MAX: Final = 500
STEPS_MAX: Final = 100
_TENANTS_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedStep:
    """A step of the queue by name."""

    queued: QueuedStep
    step_id: StepId
    skill_id: SkillId


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOverview:
    """The queue at a moment.

    Attributes:
        read_at: when.
        engines_alive: how many engines hold a lease.
        total: all steps.
        by_skill: at most 500 skills, those with most steps first; the steps of the others are in `total` only.
        delayed: at most 100, the next to be tried first; none in an overview of all tenants.
        stuck: at most 100, the longest first; none in an overview of all tenants.
    """

    read_at: datetime
    engines_alive: int
    total: QueueDepths
    by_skill: Mapping[SkillId, QueueDepths]
    delayed: Sequence[NamedStep] = ()
    stuck: Sequence[NamedStep] = ()


class QueueOverviews:
    """Overviews of all tenants and of each; this process reads one at a time."""

    def __init__(
        self, reader: QueueReader, workflows: CompiledWorkflows, clock: Clock, has_capacity: Callable[[], bool]
    ) -> None:
        """Read from `reader`.

        Args:
            reader: counts.
            workflows: knows the skills of steps.
            clock: says how old an overview is.
            has_capacity: whether this engine would take a step that is ready: only then is one that waits stuck.
        """
        self._reader = reader
        self._workflows = workflows
        self._clock = clock
        self._has_capacity = has_capacity
        self._kept: dict[Tenant | None, tuple[QueueOverview, float]] = {}
        self._reading = anyio.Lock()

    async def of_all(self) -> QueueOverview:
        """The whole queue, without anything of a tenant; a second old, or older where reading it takes long.

        Raises:
            UnavailableError: the database cannot be reached.
        """
        return await self._current(None, self._read_all)

    async def of_tenant(self, tenant: Tenant) -> QueueOverview:
        """The part of a tenant, as old.

        Raises:
            UnavailableError: the database cannot be reached.
        """
        return await self._current(tenant, lambda: self._read_tenant(tenant))

    async def _current(self, key: Tenant | None, read: Callable[[], Awaitable[QueueOverview]]) -> QueueOverview:
        if (kept := self._at_hand(key)) is not None:
            return kept
        async with self._reading:
            if (kept := self._at_hand(key)) is not None:
                return kept
            began_s = self._clock.monotonic()
            overview = await read()
            now_s = self._clock.monotonic()
            self._kept.pop(key, None)
            self._kept[key] = overview, now_s + max(KEPT_S, (now_s - began_s) / COST_SHARE)
            if len(self._kept) > _TENANTS_MAX:
                del self._kept[next(iter(self._kept))]
            return overview

    def _at_hand(self, key: Tenant | None) -> QueueOverview | None:
        kept = self._kept.get(key)
        return kept[0] if kept is not None and self._clock.monotonic() < kept[1] else None

    async def _read_all(self) -> QueueOverview:
        groups = await self._reader.groups(None)
        return await self._summed(groups, await self._reader.engines_alive())

    async def _read_tenant(self, tenant: Tenant) -> QueueOverview:
        groups = await self._reader.groups(tenant)
        overview = await self._summed(groups, await self._reader.engines_alive())
        if not any(group.is_stuck or group.state is QueueState.DELAYED for group in groups):
            return overview
        found = await self._named(await self._reader.conspicuous(tenant, STEPS_MAX))
        has_capacity = self._has_capacity()
        return replace(
            overview,
            delayed=[step for step in found if step.queued.state is QueueState.DELAYED],
            stuck=[
                step
                for step in found
                if step.queued.state is not QueueState.DELAYED
                and (has_capacity or step.queued.state is not QueueState.READY)
            ],
        )

    async def _summed(self, groups: Sequence[QueueGroup], engines_alive: int) -> QueueOverview:
        has_capacity = self._has_capacity()
        total = _Sum()
        by_skill: dict[SkillId, _Sum] = {}
        for group in groups:
            is_stuck = group.is_stuck and (has_capacity or group.state is not QueueState.READY)
            total.add(group, is_stuck=is_stuck)
            if group.step is not None and (version := await self._version(group.workflow_digest)) is not None:
                skill_id = version.workflow.steps[group.step].skill_id
                by_skill.setdefault(skill_id, _Sum()).add(group, is_stuck=is_stuck)
        depths = {skill_id: each.depths() for skill_id, each in by_skill.items()}
        largest = sorted(depths, key=lambda skill_id: (-depths[skill_id].steps, skill_id))[:SKILLS_MAX]
        return QueueOverview(
            read_at=self._clock.now(),
            engines_alive=engines_alive,
            total=total.depths(),
            by_skill={skill_id: depths[skill_id] for skill_id in largest},
        )

    async def _named(self, steps: Sequence[QueuedStep]) -> Sequence[NamedStep]:
        named = []
        for queued in steps:
            if (version := await self._version(queued.workflow_digest)) is not None:
                step = version.workflow.steps[queued.step]
                named.append(NamedStep(queued=queued, step_id=step.step_id, skill_id=step.skill_id))
        return named

    async def _version(self, digest: WorkflowDigest | None) -> CompiledWorkflow | None:
        """The workflow version; None for none, and for one that nobody can read any more."""
        if digest is None:
            return None
        try:
            return await self._workflows.compiled(digest)
        except LookupError:
            return None


class _Sum:
    """Adds groups up."""

    def __init__(self) -> None:
        self._by_state = dict.fromkeys(QueueState, Depth())
        self._stuck = Depth()

    def add(self, group: QueueGroup, *, is_stuck: bool) -> None:
        depth = Depth(group.steps, group.oldest_ms)
        self._by_state[group.state] += depth
        if is_stuck:
            self._stuck += depth

    def depths(self) -> QueueDepths:
        return QueueDepths(by_state=self._by_state, stuck=self._stuck)

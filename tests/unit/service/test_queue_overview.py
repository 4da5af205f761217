"""How the queue is summed up, and how rarely it is read for it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from runengine_server.domain.ids import RunId, SkillId, StepId, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.planner.compiled import CompiledWorkflow, compile_workflow
from runengine_server.ports.queue_reader import Depth, QueuedStep, QueueGroup, QueueState
from runengine_server.service.queue_overview import KEPT_S, QueueOverviews

pytestmark = pytest.mark.anyio

MINE, THEIRS = Tenant("mine"), Tenant("theirs")
DIGEST, GONE = WorkflowDigest("11" * 32), WorkflowDigest("22" * 32)
NOW = datetime(2026, 1, 19, 10, tzinfo=UTC)


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.at_s)

    def monotonic(self) -> float:
        return self.at_s


class Workflows:
    """One version with the steps `a` of skill x.one and `b` of skill x.two."""

    def __init__(self) -> None:
        steps = tuple(
            StepDefinition(step_id=StepId(step_id), skill_id=SkillId(skill_id))
            for step_id, skill_id in (("a", "x.one"), ("b", "x.two"))
        )
        self._compiled = compile_workflow(Workflow(name="w", version="1.0.0", steps=steps, digest=DIGEST))

    async def compiled(self, digest: WorkflowDigest) -> CompiledWorkflow:
        if digest != DIGEST:
            raise LookupError(digest)
        return self._compiled


class Reader:
    """QueueReader that says what it is given, and takes as long as it is told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.found: list[QueueGroup] = []
        self.steps: list[QueuedStep] = []
        self.reads: list[Tenant | None] = []
        self.takes_s = 0.0

    async def groups(self, tenant: Tenant | None) -> Sequence[QueueGroup]:
        self.reads.append(tenant)
        await anyio.lowlevel.checkpoint()
        self._clock.at_s += self.takes_s
        return self.found

    async def conspicuous(self, tenant: Tenant, limit: int) -> Sequence[QueuedStep]:
        return self.steps

    async def engines_alive(self) -> int:
        return 2


def group(
    step: int | None,
    state: QueueState,
    steps: int,
    oldest_ms: int,
    *,
    digest: WorkflowDigest | None = DIGEST,
    stuck: bool = False,
) -> QueueGroup:
    return QueueGroup(
        workflow_digest=digest,
        step=None if step is None else StepNo(step),
        state=state,
        is_stuck=stuck,
        steps=steps,
        oldest_ms=oldest_ms,
    )


def queued(state: QueueState) -> QueuedStep:
    return QueuedStep(
        run_id=RunId("r"),
        workflow_name="w",
        workflow_digest=DIGEST,
        step=StepNo(0),
        state=state,
        attempt=1,
        since=NOW,
        next_attempt_at=NOW if state is QueueState.DELAYED else None,
    )


def overviews(*, has_capacity: bool = True) -> tuple[Reader, Clock, QueueOverviews]:
    clock = Clock()
    reader = Reader(clock)
    return reader, clock, QueueOverviews(reader, Workflows(), clock, lambda: has_capacity)


async def test_groups_add_up() -> None:
    """Totals have every step, skills those of workflows that can be read; the oldest is the oldest of all."""
    reader, _, queue = overviews()
    reader.found = [
        group(0, QueueState.READY, 2, 500),
        group(0, QueueState.READY, 1, 40_000, stuck=True),
        group(1, QueueState.READY, 5, 100),
        group(1, QueueState.RUNNING, 1, 700, stuck=True),
        group(None, QueueState.DELAYED, 7, 900, digest=None),
        group(0, QueueState.DELAYED, 1, 800, digest=GONE),
    ]
    found = await queue.of_all()
    assert found.engines_alive == 2
    assert found.total.steps == 17
    assert found.total.by_state[QueueState.READY] == Depth(8, 40_000)
    assert found.total.by_state[QueueState.DELAYED] == Depth(8, 900)
    assert found.total.by_state[QueueState.WAITING] == Depth()
    assert found.total.stuck == Depth(2, 40_000)
    assert list(found.by_skill) == ["x.two", "x.one"]
    assert found.by_skill[SkillId("x.one")].by_state[QueueState.READY] == Depth(3, 40_000)
    assert found.by_skill[SkillId("x.two")].stuck == Depth(1, 700)


async def test_waiting_is_not_stuck_without_room() -> None:
    """While an engine has no room, a step that waits to be leased is not stuck; one that is lost sight of is."""
    reader, _, queue = overviews(has_capacity=False)
    reader.found = [
        group(0, QueueState.READY, 3, 90_000, stuck=True),
        group(0, QueueState.RUNNING, 1, 90_000, stuck=True),
        group(0, QueueState.DELAYED, 1, 10),
    ]
    reader.steps = [queued(QueueState.DELAYED), queued(QueueState.READY), queued(QueueState.RUNNING)]
    found = await queue.of_tenant(MINE)
    assert found.total.stuck.steps == 1
    assert [step.queued.state for step in found.delayed] == [QueueState.DELAYED]
    assert [step.queued.state for step in found.stuck] == [QueueState.RUNNING]
    assert (found.stuck[0].step_id, found.stuck[0].skill_id) == ("a", "x.one")


async def test_polling_costs_little() -> None:
    """However many ask at once and again, the queue is read once a second; each tenant's part for itself."""
    reader, clock, queue = overviews()
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(queue.of_all)
            tasks.start_soon(queue.of_tenant, MINE)
    await queue.of_tenant(THEIRS)
    assert sorted(reader.reads, key=str) == [None, MINE, THEIRS]
    clock.at_s += KEPT_S - 0.01
    await queue.of_all()
    assert len(reader.reads) == 3
    clock.at_s += 0.02
    await queue.of_all()
    assert len(reader.reads) == 4


async def test_what_is_dear_is_asked_for_rarely() -> None:
    """An answer that took a second to read is kept for twenty."""
    reader, clock, queue = overviews()
    reader.takes_s = 1.0
    await queue.of_all()
    clock.at_s += 19.9
    await queue.of_all()
    assert len(reader.reads) == 1
    clock.at_s += 0.2
    await queue.of_all()
    assert len(reader.reads) == 2


async def test_a_failed_read_is_not_kept() -> None:
    """Who asks after a reader that failed asks the reader again."""
    reader, _, queue = overviews()
    reader.found = [group(0, QueueState.READY, 1, 1)]

    async def fail(tenant: Tenant | None) -> Sequence[QueueGroup]:
        raise ConnectionError

    groups, reader.groups = reader.groups, fail  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await queue.of_all()
    reader.groups = groups  # type: ignore[method-assign]
    assert (await queue.of_all()).total.steps == 1

"""Compiled workflows are loaded once, kept within a bound, and loading survives cancellation and failure."""

from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from runengine_server.domain.ids import SkillId, StepId, Tenant, WorkflowDigest
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.ports.workflow_store import WorkflowVersion
from runengine_server.service.workflow_catalogue import WorkflowCatalogue

pytestmark = pytest.mark.anyio


@dataclass
class SlowStore:
    """A store that answers by digest `<number of steps>-<name>`, once its gate is open."""

    gate: anyio.Event = field(default_factory=anyio.Event)
    reads: list[str] = field(default_factory=list)
    failures: int = 0

    async def by_digest(self, digest: WorkflowDigest) -> Workflow | None:
        self.reads.append(digest)
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the store is away")
        count = int(digest.split("-")[0])
        steps = tuple(StepDefinition(step_id=StepId(f"s{n}"), skill_id=SkillId("demo.echo")) for n in range(count))
        return Workflow(name="demo", version="1.0.0", steps=steps, digest=digest) if steps else None

    async def find_version(self, tenant: Tenant, name: str, version: str) -> WorkflowVersion | None:
        if name != "demo":
            return None
        return WorkflowVersion(owner=tenant, name=name, version="1.0.0", digest=WorkflowDigest("1-found"))

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the catalogue does not need {name}")


def digest(steps: int, name: str = "x") -> WorkflowDigest:
    return WorkflowDigest(f"{steps}-{name}")


async def until_waiting(store: SlowStore, reads: int) -> None:
    """Return once the store has been asked so often."""
    with anyio.fail_after(5):
        while len(store.reads) < reads:
            await checkpoint()


async def test_concurrent_callers_share_one_load() -> None:
    """Fifty callers at once cause one read and get the same object; so does a later one."""
    store = SlowStore()
    catalogue = WorkflowCatalogue(store)
    found: list[CompiledWorkflow] = []

    async def ask() -> None:
        found.append(await catalogue.compiled(digest(2)))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(ask)
        await until_waiting(store, 1)
        store.gate.set()
    found.append(await catalogue.compiled(digest(2)))
    assert len({id(compiled) for compiled in found}) == 1
    assert store.reads == [digest(2)]


async def test_a_cancelled_loader_leaves_the_work_to_the_next() -> None:
    """When the caller that loads goes away, one that waited loads instead."""
    store = SlowStore()
    catalogue = WorkflowCatalogue(store)
    first = anyio.CancelScope()
    found: list[CompiledWorkflow] = []

    async def ask_and_be_cancelled() -> None:
        with first:
            await catalogue.compiled(digest(2))

    async def ask() -> None:
        found.append(await catalogue.compiled(digest(2)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_and_be_cancelled)
        await until_waiting(store, 1)
        tasks.start_soon(ask)
        first.cancel()
        await until_waiting(store, 2)
        store.gate.set()
    assert first.cancelled_caught
    assert len(found) == 1


async def test_a_failed_load_is_not_remembered() -> None:
    """The error reaches the caller, and the next call tries again."""
    store = SlowStore(failures=1)
    store.gate.set()
    catalogue = WorkflowCatalogue(store)
    with pytest.raises(ConnectionError):
        await catalogue.compiled(digest(2))
    assert (await catalogue.compiled(digest(2))).order == (0, 1)


async def test_an_unknown_digest() -> None:
    """A digest nobody registered is a LookupError, every time."""
    store = SlowStore()
    store.gate.set()
    catalogue = WorkflowCatalogue(store)
    for _ in range(2):
        with pytest.raises(LookupError):
            await catalogue.compiled(digest(0))
    assert len(store.reads) == 2


async def test_the_least_recently_used_goes_first() -> None:
    """Beyond its steps the catalogue forgets what was not used for longest, and only that."""
    store = SlowStore()
    store.gate.set()
    catalogue = WorkflowCatalogue(store, steps_max=10)
    for name in ("a", "b"):
        await catalogue.compiled(digest(4, name))
    assert catalogue.at_hand(digest(4, "a")) is not None
    await catalogue.compiled(digest(4, "c"))
    assert catalogue.at_hand(digest(4, "b")) is None
    assert catalogue.at_hand(digest(4, "a")) is not None
    assert catalogue.step_count == 8


async def test_a_workflow_beyond_the_bound_is_still_usable() -> None:
    """The newest version stays, alone, even where it exceeds the bound by itself; large ones compile in a thread."""
    store = SlowStore()
    store.gate.set()
    catalogue = WorkflowCatalogue(store, steps_max=10)
    await catalogue.compiled(digest(4))
    large = await catalogue.compiled(digest(500))
    assert catalogue.at_hand(digest(500)) is large
    assert catalogue.step_count == 500
    await catalogue.compiled(digest(4))
    assert catalogue.step_count == 4


async def test_find_by_name() -> None:
    """A name leads to the compiled version, an unknown one to None without a load."""
    store = SlowStore()
    store.gate.set()
    catalogue = WorkflowCatalogue(store)
    assert await catalogue.find(Tenant("acme"), "other", "") is None
    assert store.reads == []
    found = await catalogue.find(Tenant("acme"), "demo", "")
    assert found is catalogue.at_hand(digest(1, "found"))


async def test_what_was_found_last_can_be_assumed() -> None:
    """A name and version mean what they last meant, as long as it is in memory; unknown ones mean nothing."""
    store = SlowStore()
    store.gate.set()
    catalogue = WorkflowCatalogue(store, steps_max=4)
    tenant = Tenant("acme")
    assert catalogue.assumed(tenant, "demo", "") is None
    found = await catalogue.find(tenant, "demo", "")
    assert found is not None and catalogue.assumed(tenant, "demo", "") is found
    assert catalogue.assumed(tenant, "demo", "1.0.0") is None
    assert catalogue.assumed(Tenant("other"), "demo", "") is None
    assert await catalogue.find(tenant, "other", "") is None
    assert catalogue.assumed(tenant, "other", "") is None
    await catalogue.compiled(digest(4))  # takes all the room
    assert catalogue.assumed(tenant, "demo", "") is None

"""Compiled workflows at hand: loaded once, kept while they are used, bounded by their steps."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio
import anyio.to_thread

from runengine_server.domain.ids import Tenant, WorkflowDigest
from runengine_server.domain.workflow import Workflow
from runengine_server.planner.compiled import CompiledWorkflow, compile_workflow
from runengine_server.ports.workflow_store import WorkflowStore, WorkflowVersion
from runengine_server.service.shared_reads import SharedReads

# A compiled step takes about 3 KB, most of it its selector: 0.6 GB at the very worst, a few MB as a rule.
STEPS_MAX_DEFAULT: Final = 200_000

# As many names and versions are remembered with what they meant when they were last asked for.
FOUND_MAX: Final = 1_000

# Compiling takes up to 0.1 ms a step; what would hold the event loop for longer than 20 ms goes to a thread.
COMPILED_INLINE_STEPS_MAX: Final = 200


@dataclass(slots=True)
class _Loading:
    """One digest being loaded: whoever holds the lock loads, the others wait and then find it."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    users: int = 0


class WorkflowCatalogue:
    """Workflow versions by digest, compiled; the least recently used ones go first."""

    def __init__(self, store: WorkflowStore, *, steps_max: int = STEPS_MAX_DEFAULT) -> None:
        """Read from `store`; keep versions with at most `steps_max` steps in all, but always the newest one."""
        self._store = store
        self._steps_max = steps_max
        self._steps = 0
        self._compiled: OrderedDict[WorkflowDigest, CompiledWorkflow] = OrderedDict()
        self._loading: dict[WorkflowDigest, _Loading] = {}
        self._found: OrderedDict[tuple[Tenant, str, str], WorkflowDigest] = OrderedDict()
        self._finds: SharedReads[tuple[Tenant, str, str], WorkflowVersion | None] = SharedReads()

    async def find(self, tenant: Tenant, name: str, version: str) -> CompiledWorkflow | None:
        """What a tenant gets for a name and version, the highest for an empty version; None when there is none.

        Asks the store each time, so that what any server registered counts at once; callers at the same time share.
        """
        key = (tenant, name, version)
        found = await self._finds.read(key, lambda: self._store.find_version(tenant, name, version))
        self._found.pop(key, None)
        if found is None:
            return None
        self._found[key] = found.digest
        if len(self._found) > FOUND_MAX:
            self._found.popitem(last=False)
        return await self.compiled(found.digest)

    def assumed(self, tenant: Tenant, name: str, version: str) -> CompiledWorkflow | None:
        """What `find` gave last for the same, if that is in memory; whoever goes by it has it checked afterwards."""
        digest = self._found.get((tenant, name, version))
        return None if digest is None else self.at_hand(digest)

    async def compiled(self, digest: WorkflowDigest) -> CompiledWorkflow:
        """The version with this digest; loaded by one caller at a time, also when that caller is cancelled.

        Raises:
            LookupError: no version with this digest was ever registered.
        """
        found = self.at_hand(digest)
        if found is not None:
            return found
        async with self._alone(digest):
            found = self.at_hand(digest)
            return found if found is not None else await self._load(digest)

    def at_hand(self, digest: WorkflowDigest) -> CompiledWorkflow | None:
        """The version with this digest if it is in memory."""
        found = self._compiled.get(digest)
        if found is not None:
            self._compiled.move_to_end(digest)
        return found

    @property
    def step_count(self) -> int:
        """How many steps the versions in memory have together."""
        return self._steps

    async def _load(self, digest: WorkflowDigest) -> CompiledWorkflow:
        workflow = await self._store.by_digest(digest)
        if workflow is None:
            raise LookupError(f"no workflow has the digest {digest}")
        compiled = await _compile(workflow)
        self._compiled[digest] = compiled
        self._steps += len(workflow.steps)
        while self._steps > self._steps_max and len(self._compiled) > 1:
            _, dropped = self._compiled.popitem(last=False)
            self._steps -= len(dropped.workflow.steps)
        return compiled

    @asynccontextmanager
    async def _alone(self, digest: WorkflowDigest) -> AsyncIterator[None]:
        loading = self._loading.setdefault(digest, _Loading())
        loading.users += 1
        try:
            async with loading.lock:
                yield
        finally:
            loading.users -= 1
            if not loading.users:
                del self._loading[digest]


async def _compile(workflow: Workflow) -> CompiledWorkflow:
    if len(workflow.steps) <= COMPILED_INLINE_STEPS_MAX:
        return compile_workflow(workflow)
    return await anyio.to_thread.run_sync(compile_workflow, workflow)

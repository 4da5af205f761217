"""What a plan assumed of versions and of the cache is checked where its run is created, run by run."""

from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256

import anyio
import pytest

from runengine_server.adapters.postgres.database import PINNED_PLANS, Database, open_database
from runengine_server.adapters.postgres.run_store import PostgresRunStore
from runengine_server.adapters.postgres.workflow_store import PostgresWorkflowStore
from runengine_server.domain.ids import RunId, SkillId, StepId, Tenant, WorkflowDigest
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.ports.run_store import Assumptions, CreatedRun, EarlierAnswer, NewRun, Outdated
from runengine_server.ports.workflow_store import DIRECTORY

from ...contract.queue_values import TENANT, new_run

pytestmark = pytest.mark.anyio

Created = CreatedRun | EarlierAnswer | Outdated


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url, connections_max=4, settings=PINNED_PLANS) as opened:
        yield opened


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PostgresRunStore]:
    store = PostgresRunStore(database)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.creations.run)
        yield store
        tasks.cancel_scope.cancel()


def workflow(version: str) -> Workflow:
    return Workflow(
        name="wf",
        version=version,
        steps=(StepDefinition(step_id=StepId("s0"), skill_id=SkillId("no.op")),),
        digest=WorkflowDigest(sha256(version.encode()).hexdigest()),
    )


def assuming(version: str, asked: str | None, request_id: str = "") -> NewRun:
    """A run of this version, planned in the belief that it is what `asked` means."""
    known = workflow(version)
    return replace(
        new_run({0: ()}, request_id=request_id),
        workflow_version=version,
        workflow_digest=known.digest,
        assumes=Assumptions(version=asked, absent=()),
    )


async def created(store: PostgresRunStore, *runs: NewRun) -> list[Created]:
    """What became of runs that were created at the same time, in their order."""
    answers: dict[RunId, Created] = {}

    async def create(new: NewRun) -> None:
        answers[new.id] = await store.create(new)

    async with anyio.create_task_group() as tasks:
        for new in runs:
            tasks.start_soon(create, new)
    return [answers[new.id] for new in runs]


async def test_a_version_that_is_no_longer_the_highest(database: Database, store: PostgresRunStore) -> None:
    """The highest is looked up with the run; a version that was named stays what it is."""
    versions = PostgresWorkflowStore(database)
    await versions.add(TENANT, workflow("1.9.0"), "ann")
    assert isinstance((await created(store, assuming("1.9.0", "")))[0], CreatedRun)
    await versions.add(TENANT, workflow("1.10.0"), "ann")
    old, named, new, known = await created(
        store,
        assuming("1.9.0", ""),
        assuming("1.9.0", "1.9.0"),
        assuming("1.10.0", ""),
        assuming("1.9.0", None),
    )
    assert old == Outdated()
    assert all(isinstance(each, CreatedRun) for each in (named, new, known))


async def test_a_tenants_own_version_comes_before_the_directorys(database: Database, store: PostgresRunStore) -> None:
    """What one tenant registers changes nothing for the others."""
    versions = PostgresWorkflowStore(database)
    await versions.add(DIRECTORY, workflow("1.0.0"), "")
    other = replace(workflow("1.0.0"), digest=WorkflowDigest("ab" * 32))
    await versions.add(TENANT, other, "ann")
    theirs, mine, foreign = await created(
        store,
        assuming("1.0.0", ""),
        replace(assuming("1.0.0", ""), workflow_digest=other.digest),
        replace(assuming("1.0.0", "1.0.0"), tenant=Tenant("others")),
    )
    assert theirs == Outdated()
    assert isinstance(mine, CreatedRun)
    assert isinstance(foreign, CreatedRun)


async def test_a_version_that_never_was(store: PostgresRunStore) -> None:
    """Nothing is started of a workflow that the tenant does not have."""
    assert await created(store, assuming("1.0.0", "")) == [Outdated()]


async def test_what_is_outdated_leaves_nothing_behind(database: Database, store: PostgresRunStore) -> None:
    """No run, no event, no audit row; and its request id is free for the second attempt."""
    await PostgresWorkflowStore(database).add(TENANT, workflow("2.0.0"), "ann")
    before = await database.fetchval("SELECT count(*) FROM audit_log")
    assert await created(store, assuming("1.0.0", "", "once")) == [Outdated()]
    for table in ("runs", "run_progress", "run_events", "step_queue", "idempotency_keys"):
        assert await database.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    assert await database.fetchval("SELECT count(*) FROM audit_log") == before
    assert isinstance((await created(store, assuming("2.0.0", "", "once")))[0], CreatedRun)

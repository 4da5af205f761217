"""Workflow versions in PostgreSQL: immutable, found by precedence, listed in pages, audited with the write."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from runengine_server.adapters.postgres import workflow_store
from runengine_server.adapters.postgres.database import Database, open_database
from runengine_server.adapters.postgres.workflow_store import PostgresWorkflowStore
from runengine_server.domain.ids import SkillId, StepId, Tenant, WorkflowDigest
from runengine_server.domain.states import CacheMode, CacheScope, FailurePolicy
from runengine_server.domain.workflow import CachePolicy, ChangeRule, RetryPolicy, StepDefinition, Workflow
from runengine_server.ports.workflow_store import DIRECTORY

pytestmark = pytest.mark.anyio

ACME, OTHER = Tenant("acme"), Tenant("other")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url, connections_max=8) as opened:
        yield opened


@pytest.fixture
async def store(database: Database) -> PostgresWorkflowStore:
    return PostgresWorkflowStore(database)


def workflow(version: str = "1.0.0", *, name: str = "demo", content: str = "") -> Workflow:
    return Workflow(
        name=name,
        version=version,
        steps=(StepDefinition(step_id=StepId("a"), skill_id=SkillId("demo.echo")),),
        description=content,
        digest=WorkflowDigest(hashlib.sha256(f"{name}{version}{content}".encode()).hexdigest()),
    )


async def listed(
    store: PostgresWorkflowStore, tenant: Tenant, *, limit: int = 2, all_versions: bool
) -> list[tuple[str, str]]:
    """Every (name, version) of a listing, page by page; every page but the last is full."""
    seen: list[tuple[str, str]] = []
    has_more = True
    while has_more:
        page, has_more = await store.names(
            tenant, after=seen[-1] if seen else None, limit=limit, all_versions=all_versions
        )
        assert len(page) == limit or not has_more
        seen += [(found.name, found.version) for found in page]
    return seen


async def test_every_field_comes_back(store: PostgresWorkflowStore) -> None:
    """What was stored is read unchanged by name, by version and by digest."""
    stored = replace(
        workflow("1.2.0-rc.1+build.5", content="ünïcode"),
        steps=(
            StepDefinition(step_id=StepId("a"), skill_id=SkillId("demo.echo")),
            StepDefinition(
                step_id=StepId("b"),
                skill_id=SkillId("demo.other"),
                depends_on=(StepId("a"),),
                input_selector={"z": "${{ trigger.x }}", "a": [1, 1.5, None, True, {"k": "v"}]},
                cache_policy=CachePolicy(enabled=False, scope=CacheScope.RUN_ONLY, hot_ttl_s=100_000),
                retry_policy=RetryPolicy(
                    max_attempts=7, backoff_ms=5, max_backoff_ms=9, non_retryable_codes=("X", "Y")
                ),
                timeout_s=12.5,
                description="second",
                verify_artifacts=True,
            ),
        ),
        change_rules=(
            ChangeRule(type="b.update", seed_step_ids=("b",), cache_mode=CacheMode.REFRESH, description="why"),
            ChangeRule(type="all", seed_step_ids=("*",)),
        ),
        trigger_schema={"type": "object"},
        cache_epoch="3",
        failure_policy=FailurePolicy.FAIL_FAST,
        labels={"team": "audio", "a": ""},
    )
    added, is_created = await store.add(ACME, stored, "ann")
    assert is_created
    assert added.created_at is not None
    assert abs(added.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert replace(added, created_at=None) == stored
    assert await store.find(ACME, "demo", "") == added
    assert await store.find(ACME, "demo", stored.version) == added
    assert await store.by_digest(stored.digest) == stored


async def test_a_version_never_changes(store: PostgresWorkflowStore, database: Database) -> None:
    """A second add under the same version stores nothing, not even its content, and answers with the first."""
    first, _ = await store.add(ACME, workflow(content="first"), "ann")
    again, is_created = await store.add(ACME, workflow(content="first"), "ben")
    assert (again, is_created) == (first, False)
    refused, is_created = await store.add(ACME, workflow(content="second"), "ben")
    assert (refused, is_created) == (first, False)
    assert await store.by_digest(workflow(content="second").digest) is None
    rows = await database.fetch("SELECT tenant, principal, action, target FROM audit_log")
    assert [tuple(row) for row in rows] == [("acme", "ann", "RegisterWorkflow", "demo@1.0.0")]


async def test_concurrent_registrations_agree_on_one(store: PostgresWorkflowStore, database: Database) -> None:
    """Of many writers with different contents exactly one creates; all are told the same, and one audit row says so."""
    answers: list[tuple[Workflow, bool]] = []

    async def add(content: str) -> None:
        answers.append(await store.add(ACME, workflow(content=content), content))

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(add, f"c{number % 4}")
    assert sum(is_created for _, is_created in answers) == 1
    assert len({answer.digest for answer, _ in answers}) == 1
    (audited,) = await database.fetch("SELECT principal FROM audit_log")
    assert audited["principal"] == answers[0][0].description


async def test_tenants_share_content_but_not_names(store: PostgresWorkflowStore, database: Database) -> None:
    """Two tenants may register the same or different contents under one version; equal content is kept once."""
    await store.add(ACME, workflow(), "ann")
    _, is_created = await store.add(OTHER, workflow(), "zoe")
    assert is_created
    assert await database.fetchval("SELECT count(*) FROM workflow_definitions") == 1
    assert await store.find(Tenant("third"), "demo", "") is None
    assert await store.find_version(Tenant("third"), "demo", "1.0.0") is None


async def test_latest_is_the_highest_precedence(store: PostgresWorkflowStore) -> None:
    """1.10.0 is above 1.9.0, a pre-release below its release, and the order of registration says nothing."""
    for version in ("1.10.0", "1.9.0", "2.0.0-rc.2", "2.0.0-rc.10", "0.1.0"):
        await store.add(ACME, workflow(version), "ann")
    latest = await store.find(ACME, "demo", "")
    assert latest is not None
    assert latest.version == "2.0.0-rc.10"
    await store.add(ACME, workflow("2.0.0"), "ann")
    found = await store.find_version(ACME, "demo", "")
    assert found is not None
    assert (found.owner, found.version, found.digest) == (ACME, "2.0.0", workflow("2.0.0").digest)


async def test_own_versions_win_over_the_directory(store: PostgresWorkflowStore) -> None:
    """For equal versions a tenant gets its own, the others the directory's, and higher ones count from either."""
    await store.add(DIRECTORY, workflow(content="shared"), "directory")
    await store.add(ACME, workflow(content="own"), "ann")
    own, shared = await store.find(ACME, "demo", ""), await store.find(OTHER, "demo", "1.0.0")
    assert own is not None
    assert shared is not None
    assert (own.description, shared.description) == ("own", "shared")
    assert shared.created_at is None
    page, _ = await store.names(ACME, after=None, limit=5, all_versions=True)
    assert [found.description for found in page] == ["own"]
    await store.add(DIRECTORY, workflow("1.1.0", content="shared"), "directory")
    latest = await store.find_version(ACME, "demo", "")
    assert latest is not None
    assert (latest.owner, latest.version) == (DIRECTORY, "1.1.0")


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_are_complete_and_in_order(store: PostgresWorkflowStore, limit: int) -> None:
    """By name, then precedence downwards; versions of equal precedence come one after the other, none twice."""
    for name in ("b", "a.b", "a_b", "a-b"):
        for version in ("1.9.0", "1.10.0", "1.10.0+two", "1.10.0+one"):
            await store.add(ACME if name != "a_b" else DIRECTORY, workflow(version, name=name), "ann")
    names = ["a-b", "a.b", "a_b", "b"]
    versions = ["1.10.0+two", "1.10.0+one", "1.10.0", "1.9.0"]
    expected = [(name, version) for name in names for version in versions]
    assert await listed(store, ACME, limit=limit, all_versions=True) == expected
    latest = [(name, "1.10.0+two") for name in names]
    assert await listed(store, ACME, limit=limit, all_versions=False) == latest
    assert await listed(store, OTHER, limit=limit, all_versions=False) == [("a_b", "1.10.0+two")]


async def test_pages_end_before_they_are_too_large(
    store: PostgresWorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contents bound a page, but one that alone is too large still comes, and nothing is left out."""
    monkeypatch.setattr(workflow_store, "PAGE_BYTES_MAX", 25_000)
    for name in ("a", "b", "c", "d"):
        await store.add(ACME, workflow(name=name, content="x" * (10_000 if name != "c" else 50_000)), "ann")
    pages: list[Sequence[str]] = []
    after: tuple[str, str] | None = None
    has_more = True
    while has_more:
        page, has_more = await store.names(ACME, after=after, limit=10, all_versions=False)
        pages.append([found.name for found in page])
        after = (page[-1].name, page[-1].version)
    assert pages == [["a", "b"], ["c"], ["d"]]


async def test_known_versions(store: PostgresWorkflowStore) -> None:
    """Of a name every version, highest first; of no name each name's highest; never more than asked for."""
    for name, version in (("b", "1.0.0"), ("a", "1.9.0"), ("a", "1.10.0"), ("a", "1.2.0")):
        await store.add(ACME, workflow(version, name=name), "ann")
    assert [found.version for found in await store.versions(ACME, name="a", limit=2)] == ["1.10.0", "1.9.0"]
    highest = await store.versions(ACME, name="", limit=10)
    assert [(found.name, found.version) for found in highest] == [("a", "1.10.0"), ("b", "1.0.0")]


async def test_names_no_database_can_hold_are_unknown(store: PostgresWorkflowStore) -> None:
    """A NUL in what a caller asks for finds nothing, instead of failing in the database."""
    assert await store.find(ACME, "de\0mo", "") is None
    assert await store.find_version(ACME, "demo", "1\0") is None
    assert await store.versions(ACME, name="\0", limit=5) == []


async def test_a_large_definition_comes_back(store: PostgresWorkflowStore) -> None:
    """One of thousands of steps, which is decoded in a thread, is equal too."""
    large = replace(
        workflow(),
        steps=tuple(
            StepDefinition(
                step_id=StepId(f"s{number}"),
                skill_id=SkillId("demo.echo"),
                depends_on=(StepId(f"s{number - 1}"),) if number else (),
                input_selector={"x": f"${{{{ trigger.x{number} }}}}"},
            )
            for number in range(3_000)
        ),
    )
    added, _ = await store.add(ACME, large, "ann")
    assert added.steps == large.steps
    assert await store.by_digest(large.digest) == large

"""Registering, reading and listing workflows through the use cases, over a store in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from runengine_server.config import ConfigurationError
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import ConflictError, InvalidError, NotFoundError, ScopeRequiredError
from runengine_server.domain.ids import SkillId, StepId, Tenant, WorkflowDigest
from runengine_server.domain.semver import version_order
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.ports.skill_runner import SkillAvailability, SkillInfo
from runengine_server.ports.workflow_store import DIRECTORY, WorkflowVersion
from runengine_server.service.get_workflow import get_workflow
from runengine_server.service.list_workflows import list_workflows
from runengine_server.service.register_workflow import Registry, register_directory, register_workflow
from runengine_server.workflow_directory import register_workflow_dir

pytestmark = pytest.mark.anyio

AUTHOR = Caller(principal="ann", tenant=Tenant("acme"), scopes=frozenset({Scope.WORKFLOW_WRITE, Scope.RUN_READ}))
READER = replace(AUTHOR, scopes=frozenset({Scope.RUN_READ}))
STRANGER = replace(READER, tenant=Tenant("other"))


@dataclass
class MemoryStore:
    """WorkflowStore in memory."""

    kept: dict[tuple[Tenant, str, str], Workflow] = field(default_factory=dict)
    principals: list[str] = field(default_factory=list)

    async def add(self, owner: Tenant, workflow: Workflow, principal: str) -> tuple[Workflow, bool]:
        key = (owner, workflow.name, workflow.version)
        if key in self.kept:
            return self.kept[key], False
        self.kept[key] = workflow
        self.principals.append(principal)
        return workflow, True

    async def by_digest(self, digest: WorkflowDigest) -> Workflow | None:
        return next((workflow for workflow in self.kept.values() if workflow.digest == digest), None)

    async def find(self, tenant: Tenant, name: str, version: str) -> Workflow | None:
        found = await self.find_version(tenant, name, version)
        return None if found is None else self.kept[found.owner, found.name, found.version]

    async def find_version(self, tenant: Tenant, name: str, version: str) -> WorkflowVersion | None:
        usable = [known for known in self._usable(tenant) if known.name == name and version in ("", known.version)]
        return usable[0] if usable else None

    async def names(
        self, tenant: Tenant, *, after: tuple[str, str] | None, limit: int, all_versions: bool
    ) -> tuple[Sequence[Workflow], bool]:
        usable = self._usable(tenant)
        if not all_versions:
            usable = list({known.name: known for known in reversed(usable)}.values())[::-1]
        start = next((n + 1 for n, known in enumerate(usable) if (known.name, known.version) == after), 0)
        page = usable[start : start + limit]
        return [self.kept[known.owner, known.name, known.version] for known in page], start + limit < len(usable)

    async def versions(self, tenant: Tenant, *, name: str, limit: int) -> Sequence[WorkflowVersion]:
        usable = [known for known in self._usable(tenant) if name in ("", known.name)]
        if not name:
            usable = list({known.name: known for known in reversed(usable)}.values())[::-1]
        return usable[:limit]

    def _usable(self, tenant: Tenant) -> list[WorkflowVersion]:
        """By name, highest version first; the tenant's own hides the directory's of equal version."""
        seen = {key[1:]: key for key in sorted(self.kept) if key[0] in (tenant, DIRECTORY)}
        keys = sorted(seen.values(), key=lambda key: version_order(key[2]), reverse=True)
        return [
            WorkflowVersion(owner=owner, name=name, version=version, digest=self.kept[owner, name, version].digest)
            for owner, name, version in sorted(keys, key=lambda key: key[1])
        ]


@dataclass
class KnownSkills:
    """SkillRunner of which only what is known matters here."""

    listed: set[str] = field(default_factory=lambda: {"demo.echo"})
    silent: set[str] = field(default_factory=lambda: {"far.away"})

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        info = SkillInfo(skill_id=skill_id, version="1", cache_version="1") if skill_id in self.listed else None
        is_targeted = skill_id.startswith(("demo.", "far."))
        return SkillAvailability(
            has_target=is_targeted, is_catalogue_known=is_targeted and skill_id not in self.silent, info=info
        )

    async def execute(self, call: Any, on_progress: Any) -> Any:
        raise AssertionError("registering calls no skill")


class EverySkill(KnownSkills):
    """Offers whatever is asked for."""

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        info = SkillInfo(skill_id=skill_id, version="1", cache_version="1")
        return SkillAvailability(has_target=True, is_catalogue_known=True, info=info)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def registry(store: MemoryStore) -> Registry:
    return Registry(store=store, skills=KnownSkills())


def workflow(version: str = "1.0.0", *, name: str = "demo", skill: str = "demo.echo", content: str = "") -> Workflow:
    return Workflow(
        name=name,
        version=version,
        steps=(StepDefinition(step_id=StepId("a"), skill_id=SkillId(skill)),),
        description=content,
        digest=WorkflowDigest(f"{name}{version}{skill}{content}".encode().hex().ljust(64, "0")[:64]),
    )


async def test_a_new_version_is_stored_for_its_tenant(registry: Registry, store: MemoryStore) -> None:
    """It is created under the caller's tenant and name, and nobody else can read it."""
    answer = await register_workflow(registry, AUTHOR, workflow(), validate_only=False)
    assert answer.is_created
    assert answer.warnings == ()
    assert list(store.kept) == [("acme", "demo", "1.0.0")]
    assert store.principals == ["ann"]
    assert await get_workflow(store, READER, "demo", "") == workflow()
    with pytest.raises(NotFoundError):
        await get_workflow(store, STRANGER, "demo", "")


async def test_verification_without_roots_is_doubtful(registry: Registry) -> None:
    """Where nothing can be probed, a workflow that asks for it registers with a warning."""
    asking = workflow()
    asking = replace(asking, steps=tuple(replace(step, verify_artifacts=True) for step in asking.steps))
    blind = replace(registry, has_artifact_roots=False)
    assert (await register_workflow(registry, AUTHOR, asking, validate_only=True)).warnings == ()
    (warning,) = (await register_workflow(blind, AUTHOR, asking, validate_only=True)).warnings
    assert "verifyArtifacts" in warning


async def test_the_same_content_again_changes_nothing(registry: Registry, store: MemoryStore) -> None:
    """Repeating a registration answers with what is stored, and creates nothing."""
    await register_workflow(registry, AUTHOR, workflow(), validate_only=False)
    answer = await register_workflow(registry, AUTHOR, workflow(), validate_only=False)
    assert not answer.is_created
    assert answer.workflow == workflow()
    assert len(store.principals) == 1


@pytest.mark.parametrize("validate_only", [False, True])
async def test_other_content_under_a_version_is_refused(registry: Registry, validate_only: bool) -> None:
    """A version never changes: the refusal says to raise it, also when only asked to check."""
    await register_workflow(registry, AUTHOR, workflow(), validate_only=False)
    with pytest.raises(ConflictError, match="raise the version") as caught:
        await register_workflow(registry, AUTHOR, workflow(content="new"), validate_only=validate_only)
    assert caught.value.reason == "WORKFLOW_VERSION_CONFLICT"


async def test_validate_only_writes_nothing(registry: Registry, store: MemoryStore) -> None:
    """A check of a good workflow answers, not created, and leaves no trace."""
    answer = await register_workflow(registry, AUTHOR, workflow(), validate_only=True)
    assert not answer.is_created
    assert store.kept == {}


async def test_everything_wrong_comes_with_the_error(registry: Registry, store: MemoryStore) -> None:
    """WORKFLOW_INVALID carries every violation, names the first, and nothing is stored."""
    wrong = replace(workflow("1.0", skill="nobody.knows"), description="\ud800")
    with pytest.raises(InvalidError, match=r"version: .*") as caught:
        await register_workflow(registry, AUTHOR, wrong, validate_only=False)
    assert caught.value.reason == "WORKFLOW_INVALID"
    assert [violation.field for violation in caught.value.violations] == ["version", "description", "steps[0].skillId"]
    assert store.kept == {}


async def test_a_skill_its_known_runner_does_not_list_is_refused(registry: Registry) -> None:
    """The catalogue of a runner that was reached counts, and the reason's code is in the text."""
    with pytest.raises(InvalidError) as caught:
        await register_workflow(registry, AUTHOR, workflow(skill="demo.unknown"), validate_only=False)
    (violation,) = caught.value.violations
    assert violation.field == "steps[0].skillId"
    assert "SKILL_UNREGISTERED" in violation.description


async def test_a_runner_out_of_reach_is_a_warning(registry: Registry) -> None:
    """A matching target that never answered does not stop the registration."""
    answer = await register_workflow(registry, AUTHOR, workflow(skill="far.away"), validate_only=False)
    assert answer.is_created
    assert len(answer.warnings) == 1
    assert "far.away" in answer.warnings[0]


async def test_scopes(registry: Registry, store: MemoryStore) -> None:
    """Registering needs workflow:write, reading run:read; a credential without tenant cannot write the directory."""
    with pytest.raises(ScopeRequiredError, match="workflow:write"):
        await register_workflow(registry, READER, workflow(), validate_only=True)
    with pytest.raises(ScopeRequiredError, match="run:read"):
        await get_workflow(store, replace(READER, scopes=frozenset()), "demo", "")
    with pytest.raises(ScopeRequiredError, match="run:read"):
        await list_workflows(store, replace(READER, scopes=frozenset()), page_size=0, page_token="", all_versions=False)
    with pytest.raises(ScopeRequiredError, match="tenant"):
        await register_workflow(registry, replace(AUTHOR, tenant=DIRECTORY), workflow(), validate_only=False)


async def test_the_directory_serves_every_tenant_and_own_versions_win(registry: Registry, store: MemoryStore) -> None:
    """Directory workflows are found by all; a tenant's own of equal version takes precedence for that tenant only."""
    answers = await register_directory(registry, [workflow(content="shared"), workflow(name="other")])
    assert [answer.is_created for answer in answers] == [True, True]
    own = await register_workflow(registry, AUTHOR, workflow(content="own"), validate_only=False)
    assert own.is_created
    assert (await get_workflow(store, READER, "demo", "1.0.0")).description == "own"
    assert (await get_workflow(store, STRANGER, "demo", "1.0.0")).description == "shared"


async def test_a_directory_is_registered_whole_or_not_at_all(registry: Registry, store: MemoryStore) -> None:
    """Errors of all files come together, prefixed by workflow; a second start with the same files is a no-op."""
    with pytest.raises(InvalidError) as caught:
        await register_directory(registry, [workflow(), workflow("1", name="one"), workflow("2", name="two")])
    assert [violation.field for violation in caught.value.violations] == ["one@1: version", "two@2: version"]
    assert store.kept == {}
    await register_directory(registry, [workflow()])
    with pytest.raises(ConflictError):
        await register_directory(registry, [workflow(name="new"), workflow(content="changed")])
    assert list(store.kept) == [(DIRECTORY, "demo", "1.0.0")]
    assert [answer.is_created for answer in await register_directory(registry, [workflow()])] == [False]


async def test_not_found_names_what_there_is(registry: Registry, store: MemoryStore) -> None:
    """An unknown version gets the known versions, an unknown name the known names, at most ten."""
    with pytest.raises(NotFoundError, match="none is registered yet"):
        await get_workflow(store, READER, "nothing", "")
    for minor in range(12):
        await register_workflow(registry, AUTHOR, workflow(f"1.{minor}.0"), validate_only=False)
    with pytest.raises(NotFoundError, match=r"it has 1\.11\.0, 1\.10\.0, 1\.9\.0, .*, 1\.2\.0, …") as caught:
        await get_workflow(store, READER, "demo", "2.0.0")
    assert caught.value.reason == "WORKFLOW_NOT_FOUND"
    with pytest.raises(NotFoundError, match=r"known are demo$"):
        await get_workflow(store, READER, "dome", "")


async def test_a_malformed_version_is_invalid_rather_than_unknown(store: MemoryStore) -> None:
    """Asking for `1.0` is a mistake in the request."""
    with pytest.raises(InvalidError) as caught:
        await get_workflow(store, READER, "demo", "1.0")
    assert caught.value.reason == "VALIDATION_FAILED"


@pytest.mark.parametrize(("all_versions", "expected"), [(True, 9), (False, 3)])
async def test_pages_cover_everything_once(
    registry: Registry, store: MemoryStore, all_versions: bool, expected: int
) -> None:
    """Following the tokens visits every workflow once, in order, and ends with an empty token."""
    for name in ("c", "a", "b"):
        for version in ("1.0.0", "1.10.0", "1.9.0"):
            await register_workflow(registry, AUTHOR, workflow(version, name=name), validate_only=False)
    seen: list[tuple[str, str]] = []
    token = ""
    while True:
        page = await list_workflows(store, READER, page_size=2, page_token=token, all_versions=all_versions)
        seen += [(found.name, found.version) for found in page.workflows]
        token = page.next_page_token
        if not token:
            break
    order = ["1.10.0", "1.9.0", "1.0.0"] if all_versions else ["1.10.0"]
    assert seen == [(name, version) for name in ("a", "b", "c") for version in order]
    assert len(seen) == expected


@pytest.mark.parametrize("token", ["?", "AAAA", "W10", "x" * 5000, "WzEsMiwzXQ", "bnVsbA"])
async def test_foreign_tokens_are_refused(store: MemoryStore, token: str) -> None:
    """What this server did not issue is PAGE_TOKEN_INVALID."""
    with pytest.raises(InvalidError) as caught:
        await list_workflows(store, READER, page_size=0, page_token=token, all_versions=False)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


async def test_a_token_belongs_to_its_filter(registry: Registry, store: MemoryStore) -> None:
    """A token of the list of names is refused by the list of all versions."""
    for name in ("a", "b"):
        await register_workflow(registry, AUTHOR, workflow(name=name), validate_only=False)
    page = await list_workflows(store, READER, page_size=1, page_token="", all_versions=False)
    with pytest.raises(InvalidError, match="allVersions"):
        await list_workflows(store, READER, page_size=1, page_token=page.next_page_token, all_versions=True)


async def test_the_example_is_a_workflow_directory(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    """The campaign's folder can be served as it is: its workflow is registered, its payloads are named and skipped."""
    folder = Path(__file__).parents[3] / "examples" / "campaign"
    with caplog.at_level("INFO", "runengine"):
        await register_workflow_dir(folder, Registry(store=store, skills=EverySkill()))
    assert list(store.kept) == [(DIRECTORY, "campaign.build.v1", "1.0.0")]
    (line,) = caplog.messages
    assert line.endswith("skipped, not workflows: brief.json, sample_payloads.json")


async def test_a_broken_file_stops_the_server(registry: Registry, store: MemoryStore, tmp_path: Path) -> None:
    """A workflow file with mistakes, or a file that cannot be parsed, is never skipped."""
    (tmp_path / "good.yaml").write_text("workflowName: good\nversion: 1.0.0\nsteps: [{stepId: a, skillId: demo.echo}]")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "broken.json").write_text('{"workflowName": ')
    with pytest.raises(
        ConfigurationError, match=r"RUNENGINE_WORKFLOW_DIR: .*\n  broken\.json:1: document: Expecting value"
    ):
        await register_workflow_dir(tmp_path, registry)
    assert store.kept == {}

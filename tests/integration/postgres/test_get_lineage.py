"""Where artifacts come from: through steps, through steps without artifacts, through the runs they were reused from."""

from dataclasses import replace
from uuid import uuid4

import pytest

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.canonical_json import content_hash
from runengine_server.domain.errors import InvalidError, NotFoundError, ScopeRequiredError
from runengine_server.domain.ids import SkillId, StepId, WorkflowDigest
from runengine_server.domain.lineage import Lineage
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.service import get_lineage as module
from runengine_server.service.get_lineage import get_lineage
from runengine_server.service.list_artifacts import list_artifacts
from runengine_server.service.messages import ListArtifactsRequest

from .conftest import CALLER, STRANGER, Made, World
from .played_runs import Script, play, reuse

pytestmark = pytest.mark.anyio


def film() -> Workflow:
    """plan -> image, title (which makes no files) -> film."""

    def step(step_id: str, **reads: str) -> StepDefinition:
        selector = {key: f"${{{{ steps.{of}.output }}}}" for key, of in reads.items()} or {
            "brief": "${{ trigger.brief }}"
        }
        needs = tuple(StepId(of) for of in reads.values())
        return StepDefinition(
            step_id=StepId(step_id), skill_id=SkillId(step_id), depends_on=needs, input_selector={**selector}
        )

    steps = (step("plan"), step("image", p="plan"), step("title", p="plan"), step("film", i="image", t="title"))
    return Workflow(name="film", version="1.0.0", digest=WorkflowDigest("f1" * 32), steps=steps)


def file(name: str, *made_from: str) -> ProducedArtifact:
    return ProducedArtifact(
        media_type="text/plain",
        uri=f"file:///{name}",
        content_hash=content_hash(name.encode()),
        size_bytes=1,
        filename=name,
        made_from=tuple(content_hash(source.encode()) for source in made_from),
    )


FILES = Script(
    artifacts={
        "plan": (file("plan.json"),),
        "image": (file("image.png"), file("thumb.png", "image.png")),
        "film": (file("film.mp4"),),
    }
)


async def artifact_ids(world: World, made: Made) -> dict[str, str]:
    page = await list_artifacts(world.read, CALLER, ListArtifactsRequest(run_id=made.run_id))
    return {artifact.produced.filename: artifact.id for artifact in page.artifacts}


def edges(lineage: Lineage) -> set[tuple[str, str, str]]:
    names = {artifact.id: artifact.produced.filename for artifact in lineage.artifacts}
    return {(names[e.from_artifact_id], names[e.to_artifact_id], e.step_id) for e in lineage.edges}


ALL_EDGES = {
    ("image.png", "film.mp4", "film"),
    ("thumb.png", "film.mp4", "film"),
    ("plan.json", "film.mp4", "film"),  # through title, which has no files
    ("image.png", "thumb.png", "image"),  # as the skill says
    ("plan.json", "image.png", "image"),
    ("plan.json", "thumb.png", "image"),
}


async def test_back_to_the_first(world: World) -> None:
    """A lineage reaches everything an artifact was made from, the artifact itself first, each once."""
    made = await play(world, await world.create(film()), FILES)
    ids = await artifact_ids(world, made)
    lineage = await get_lineage(world.read, CALLER, ids["film.mp4"].upper(), 0)
    assert lineage.artifacts[0].id == ids["film.mp4"]
    assert sorted(artifact.id for artifact in lineage.artifacts) == sorted(ids.values())
    assert edges(lineage) == ALL_EDGES
    first = lineage.artifacts[0]
    assert (first.run_id, first.source_run_id, first.step_id) == (made.run_id, made.run_id, "film")
    assert (first.skill_id, first.skill_version) == ("film", "1")
    alone = await get_lineage(world.read, CALLER, ids["plan.json"], 0)
    assert ([artifact.id for artifact in alone.artifacts], alone.edges) == ([ids["plan.json"]], ())


async def test_depth(world: World) -> None:
    """One generation is what the artifact was made from directly."""
    made = await play(world, await world.create(film()), FILES)
    ids = await artifact_ids(world, made)
    lineage = await get_lineage(world.read, CALLER, ids["film.mp4"], 1)
    assert edges(lineage) == {edge for edge in ALL_EDGES if edge[1] == "film.mp4"}


async def test_through_reused_steps(world: World) -> None:
    """What an update reuses leads to the run that made it, over any number of updates."""
    base = await play(world, await world.create(film()), FILES)
    again = await play(
        world, await world.create(film(), base=base, reused=await reuse(world, base, "plan", "image", "title")), FILES
    )
    third = await play(
        world, await world.create(film(), base=again, reused=await reuse(world, again, "plan", "image", "title")), FILES
    )
    ids = await artifact_ids(world, third)
    lineage = await get_lineage(world.read, CALLER, ids["film.mp4"], 0)
    assert edges(lineage) == ALL_EDGES
    runs = {artifact.produced.filename: artifact.run_id for artifact in lineage.artifacts}
    assert runs == {
        "film.mp4": third.run_id,
        "image.png": base.run_id,
        "thumb.png": base.run_id,
        "plan.json": base.run_id,
    }


async def test_named_through_another_step(world: World) -> None:
    """What a skill names counts although another step, with files of its own, handed it on."""
    script = Script(artifacts={**FILES.artifacts, "film": (file("film.mp4", "plan.json", "unheard.of"),)})
    workflow = film()
    no_title = replace(
        workflow,
        digest=WorkflowDigest("f2" * 32),
        steps=(
            *workflow.steps[:2],
            replace(
                workflow.steps[3], depends_on=(StepId("image"),), input_selector={"i": "${{ steps.image.output }}"}
            ),
        ),
    )
    made = await play(world, await world.create(no_title), script)
    ids = await artifact_ids(world, made)
    lineage = await get_lineage(world.read, CALLER, ids["film.mp4"], 0)
    assert edges(lineage) == ALL_EDGES
    near = await get_lineage(world.read, CALLER, ids["film.mp4"], 1)
    assert ("plan.json", "film.mp4", "film") not in edges(near), "it is further away"


async def test_runs_that_are_gone(world: World) -> None:
    """Where the producing run is no longer retained the lineage ends with its artifact."""
    base = await play(world, await world.create(film()), FILES)
    reused = await reuse(world, base, "plan", "image", "title")
    update = await play(world, await world.create(film(), base=base, reused=reused), FILES)
    ids = await artifact_ids(world, update)
    await world.database.fetch("DELETE FROM runs WHERE run = $1", base.key)
    lineage = await get_lineage(world.read, CALLER, ids["film.mp4"], 0)
    # title made nothing and what it read is not known any more
    assert edges(lineage) == {
        ("image.png", "film.mp4", "film"),
        ("thumb.png", "film.mp4", "film"),
    }


async def test_bounds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lineage beyond the bounds keeps the nearest generations, and edges only between what it has."""
    made = await play(world, await world.create(film()), FILES)
    ids = await artifact_ids(world, made)
    monkeypatch.setattr(module, "ARTIFACTS_MAX", 3)
    lineage = await get_lineage(world.read, CALLER, ids["film.mp4"], 100_000)
    assert len(lineage.artifacts) == 3
    assert lineage.artifacts[0].id == ids["film.mp4"]
    assert edges(lineage) < ALL_EDGES


async def test_refusals(world: World) -> None:
    """Another tenant's artifact, an unknown one and no UUID are equally not found; a negative depth is refused."""
    made = await play(world, await world.create(film()), FILES)
    known = (await artifact_ids(world, made))["film.mp4"]
    for caller, artifact_id in ((STRANGER, known), (CALLER, str(uuid4())), (CALLER, "42"), (CALLER, "")):
        with pytest.raises(NotFoundError, match="there is no artifact") as refused:
            await get_lineage(world.read, caller, artifact_id, 0)
        assert refused.value.reason == "ARTIFACT_NOT_FOUND"
    with pytest.raises(InvalidError, match="depth is -1"):
        await get_lineage(world.read, CALLER, known, -1)
    with pytest.raises(ScopeRequiredError):
        await get_lineage(world.read, replace(CALLER, scopes=frozenset()), known, 0)

"""Where an artifact comes from: what its step read and says it was made from, generation by generation."""

from collections.abc import Mapping, Sequence

from runengine_server.domain.artifact import Artifact
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.domain.ids import Place, Tenant, WorkflowDigest
from runengine_server.domain.lineage import Lineage, LineageEdge
from runengine_server.ports.lineage_reader import MadeArtifact
from runengine_server.service.artifact_lookup import find_artifact, named_artifact
from runengine_server.service.authorization import require
from runengine_server.service.message_size import artifact_bytes
from runengine_server.service.run_lookup import ReadRuns

DEPTH_DEFAULT = 10
DEPTH_MAX = 100

ARTIFACTS_MAX = 1_000
ARTIFACTS_BYTES_MAX = 2 * 2**20
EDGES_MAX = 5_000
"""All of it together stays below the 3 MiB of a message."""

STEPS_MAX = 10_000
"""Outputs that one generation follows."""


async def get_lineage(read: ReadRuns, caller: Caller, artifact_id: str, depth: int) -> Lineage:
    """The artifact, what it was made from, and so on for `depth` generations, through runs whose outputs were reused.

    Ends early, with the nearest generations, at ARTIFACTS_MAX artifacts or EDGES_MAX edges.

    Args:
        read: what it takes.
        caller: whose artifact.
        artifact_id: as ListArtifacts shows it.
        depth: 1 to 100; 0 means 10, more than 100 means 100.

    Raises:
        NotFoundError: ARTIFACT_NOT_FOUND, also for another tenant's.
        InvalidError: VALIDATION_FAILED, a negative depth.
    """
    require(caller, Scope.RUN_READ)
    if depth < 0:
        violation = FieldViolation(field="depth", description="0 (which means 10) or more")
        raise InvalidError("VALIDATION_FAILED", f"depth is {depth}; send 0 or more", violations=[violation])
    made = await find_artifact(read, caller.tenant, artifact_id)
    tree = _Tree(read, caller.tenant)
    generation = await tree.add([made])
    for _ in range(min(depth or DEPTH_DEFAULT, DEPTH_MAX)):
        if not generation:
            break
        generation = await tree.add_sources(generation)
    return tree.lineage()


class _Tree:
    """A lineage that grows by generations, within its bounds."""

    def __init__(self, read: ReadRuns, tenant: Tenant) -> None:
        self._read = read
        self._tenant = tenant
        self._artifacts: dict[str, Artifact] = {}
        self._edges: dict[tuple[str, str], LineageEdge] = {}
        self._bytes = 0

    def lineage(self) -> Lineage:
        """What has grown so far."""
        self._connect_named()
        return Lineage(artifacts=tuple(self._artifacts.values()), edges=tuple(self._edges.values()))

    async def add(self, found: Sequence[MadeArtifact]) -> list[MadeArtifact]:
        """Take in the artifacts that are new, as many as there is room for; return those."""
        added = []
        for made in found:
            if made.artifact.id in self._artifacts:
                continue
            artifact = await named_artifact(self._read, made)
            self._bytes += artifact_bytes(artifact)
            if len(self._artifacts) >= ARTIFACTS_MAX or self._bytes > ARTIFACTS_BYTES_MAX:
                break
            self._artifacts[artifact.id] = artifact
            added.append(made)
        return added

    async def add_sources(self, generation: Sequence[MadeArtifact]) -> list[MadeArtifact]:
        """Take in what these artifacts were made from; return those that are new."""
        places = list(dict.fromkeys(made.place for made in generation))
        sources = await self._sources({made.place: made.workflow_digest for made in generation})
        wanted = list(dict.fromkeys([*places, *(source for found in sources.values() for source in found)]))
        there: dict[Place, list[MadeArtifact]] = {}
        for made in await self._read.lineage.artifacts_of(self._tenant, wanted, 2 * ARTIFACTS_MAX):
            there.setdefault(made.place, []).append(made)
        added: list[MadeArtifact] = []
        for made in generation:
            siblings = [one for one in there.get(made.place, ()) if _is_made_from(made, one)]
            read = [one for source in sources.get(made.place, ()) for one in there.get(source, ())]
            added += await self.add([*siblings, *read])
            self._connect([source.artifact for source in (*siblings, *read)], self._artifacts[made.artifact.id])
        return added

    def _connect_named(self) -> None:
        """Add what skills name and did not read from its own step, as far as it is among the ancestors found."""
        by_content: dict[str, list[Artifact]] = {}
        for artifact in self._artifacts.values():
            by_content.setdefault(artifact.produced.content_hash, []).append(artifact)
        for made in self._artifacts.values():
            for content in made.produced.made_from:
                named = by_content.get(content, [])
                if not any((one.id, made.id) in self._edges for one in named):
                    self._connect([one for one in named if one.created_at < made.created_at][:1], made)

    def _connect(self, sources: Sequence[Artifact], made: Artifact) -> None:
        for source in sources:
            # the step is not known of a run that is no longer retained
            if made.step_id and source.id in self._artifacts and len(self._edges) < EDGES_MAX:
                edge = LineageEdge(from_artifact_id=source.id, to_artifact_id=made.id, step_id=made.step_id)
                self._edges[source.id, made.id] = edge

    async def _sources(self, steps: Mapping[Place, WorkflowDigest | None]) -> dict[Place, list[Place]]:
        """Per step the steps with artifacts whose outputs it read; those without are looked through."""
        found: dict[Place, list[Place]] = {}
        followed: set[tuple[Place, Place]] = set()
        to_follow: list[tuple[Place, Place]] = []
        for step, digest in steps.items():
            to_follow += [(step, read) for read in await self._reads(step, digest)]
            if len(to_follow) > STEPS_MAX:
                break
        while to_follow and len(followed) < STEPS_MAX:
            makers = await self._read.lineage.makers(list({read for _, read in to_follow}))
            further = []
            for step, read in to_follow:
                maker = makers.get(read)
                if maker is None or (step, maker.place) in followed:
                    continue
                followed.add((step, maker.place))
                if maker.has_artifacts:
                    found.setdefault(step, []).append(maker.place)
                else:
                    reads = await self._reads(maker.place, maker.workflow_digest)
                    further += [(step, deeper) for deeper in reads]
            to_follow = further
        return found

    async def _reads(self, step: Place, digest: WorkflowDigest | None) -> list[Place]:
        """The steps of its run that a step reads; none when the run is no longer retained."""
        if digest is None:
            return []
        run, number = step
        compiled = await self._read.workflows.compiled(digest)
        return [(run, read) for read in compiled.reads[number]]


def _is_made_from(made: MadeArtifact, sibling: MadeArtifact) -> bool:
    """True when an artifact names an earlier one of its own step by its content."""
    return sibling.ordinal < made.ordinal and sibling.artifact.produced.content_hash in made.artifact.produced.made_from

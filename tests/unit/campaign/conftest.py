"""Builds campaigns in memory: the shipped workflow, the engine's selectors and the real skills, no server."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runengine_client.skills import Artifact, ArtifactFolder, SkillContext
from runengine_client.workflow import load_workflow
from runengine_server.domain.merge_patch import merge_patch
from runengine_server.planner.compiled import CompiledWorkflow, compile_workflow
from runengine_server.planner.selector.scope import FixedScope
from runengine_server.rpc.conversion.workflow import read_workflow

CAMPAIGN = Path(__file__).parents[3] / "examples" / "campaign"


@dataclass
class Call:
    """A skill's call: keeps what was published, forgets progress."""

    artifact_store: ArtifactFolder
    facts: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(step_id="step"))
    deadline: datetime = datetime(2100, 1, 1, tzinfo=UTC)
    is_cancelled: bool = False
    artifacts: list[Artifact] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)

    def add_artifact(self, artifact: Artifact) -> None:
        self.artifacts.append(artifact)

    def report_progress(self, fraction: float, message: str, reported_at: datetime) -> None:
        self.fractions.append(fraction)

    def do_not_cache(self) -> None:
        raise AssertionError("every campaign step is cacheable")


@dataclass
class Build:
    """A finished campaign: per step its input, output and artifacts, and which steps had to run."""

    trigger: dict[str, Any]
    inputs: dict[str, bytes] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    made_from: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)

    def file(self, step: str, index: int = 0) -> bytes:
        """The bytes of a step's artifact."""
        return Path(self.artifacts[step][index]["uri"].removeprefix("file://")).read_bytes()

    def hashes(self) -> dict[str, list[str]]:
        """Every step's artifact hashes and the hash of its output."""
        return {
            step: [artifact["contentHash"] for artifact in self.artifacts[step]]
            + [hashlib.sha256(json.dumps(self.outputs[step], sort_keys=True).encode()).hexdigest()]
            for step in self.outputs
            if step != "assemble_campaign_manifest"  # it quotes the folder of the artifacts
        }


@dataclass(frozen=True)
class Campaign:
    """The workflow with its skills, able to build."""

    compiled: CompiledWorkflow
    folder: ArtifactFolder

    def build(self, trigger: dict[str, Any], base: Build | None = None) -> Build:
        """Run every step whose input is not the base's; the others keep the base's result."""
        from examples.campaign.skills import SKILLS

        skills = {skill.skill_id: skill for skill in SKILLS}
        build = Build(trigger)
        for number in self.compiled.order:
            step = self.compiled.workflow.steps[number]
            scope = FixedScope(trigger=trigger, outputs=build.outputs, artifacts=build.artifacts)
            _, body = self.compiled.selectors[number].resolve_canonical(scope)
            build.inputs[step.step_id] = body
            if base is not None and base.inputs[step.step_id] == body:
                for name in ("outputs", "artifacts", "made_from"):
                    getattr(build, name)[step.step_id] = getattr(base, name)[step.step_id]
                continue
            call = Call(self.folder)
            output = skills[step.skill_id](json.loads(body), SkillContext(call))
            build.outputs[step.step_id] = json.loads(json.dumps(output, allow_nan=False))
            build.artifacts[step.step_id] = [artifact.as_json() for artifact in call.artifacts]
            build.made_from[step.step_id] = [artifact.made_from for artifact in call.artifacts]
            build.executed.append(step.step_id)
        return build

    def update(self, base: Build, payload: dict[str, Any]) -> Build:
        """The campaign after a change request with this payload."""
        return self.build(merge_patch(base.trigger, payload), base)


@pytest.fixture(scope="session")
def samples() -> dict[str, Any]:
    """The trigger payload and one payload for each change type."""
    return json.loads((CAMPAIGN / "sample_payloads.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """The shipped workflow, compiled."""
    workflow = read_workflow(load_workflow(CAMPAIGN / "campaign.build.v1.yaml"))
    return Campaign(compile_workflow(workflow), ArtifactFolder(tmp_path_factory.mktemp("artifacts")))


@pytest.fixture(scope="session")
def base(campaign: Campaign, samples: dict[str, Any]) -> Build:
    """The sample campaign."""
    return campaign.build(samples["trigger"])


@pytest.fixture(scope="session")
def updated(campaign: Campaign, base: Build, samples: dict[str, Any]) -> Callable[[str], Build]:
    """The sample campaign after a change of a type; built once."""
    built: dict[str, Build] = {}

    def build(change_type: str) -> Build:
        if change_type not in built:
            built[change_type] = campaign.update(base, samples["changes"][change_type])
        return built[change_type]

    return build

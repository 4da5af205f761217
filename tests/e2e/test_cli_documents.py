"""Every command of docs/cli.md does what it says, in the order in which the document has them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runengine_client.cli.app import app

from ..support.command_lines import RPCS, commands_of
from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.processes import REPOSITORY, ManagedProcess, clean_environment
from ..support.skill_server_process import SkillServerProcess

DOCUMENT = (REPOSITORY / "docs" / "cli.md").read_text()
SCRIPT_S_MAX = 240.0

# What the document calls a campaign: of a run that is to be stopped, the image takes until the test lets it go on.
CAMPAIGN = """
workflowName: campaign.build.v1
version: 1.0.0
steps:
  - { stepId: plan, skillId: t.echo, inputSelector: { brief: "${{ trigger.brief }}" } }
  - stepId: generate_bgm_track
    skillId: t.echo
    dependsOn: [plan]
    inputSelector:
      plan: "${{ steps.plan.output }}"
      style: '${{ trigger.?audioStyle.orValue("calm") }}'
  - { stepId: image, skillId: t.gated, dependsOn: [plan], inputSelector: { gate: "${{ trigger.brief.title }}" } }
  - stepId: mix
    skillId: t.publish
    dependsOn: [generate_bgm_track, image]
    inputSelector: { text: "${{ steps.generate_bgm_track.output.style }}", filename: mix.txt }
changeRequests:
  audio.update: [generate_bgm_track]
"""
BRIEF = '{"brief": {"title": "Summer Sale", "style": "energetic"}}'


def blocks(language: str) -> list[str]:
    """The document's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def engine(engine_settings: EngineSettings, skills: SkillServerProcess) -> Iterator[EngineProcess]:
    """A server that serves the files that the skills publish."""
    with EngineProcess(engine_settings, RUNENGINE_ARTIFACT_STORE=skills.artifact_dir.as_uri()) as process:
        yield process


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the document's reader has."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "workflows").mkdir()
    (folder / "workflows" / "campaign.yaml").write_text(CAMPAIGN)
    (folder / "brief.json").write_text(BRIEF)
    return folder


@pytest.fixture(scope="module")
def environment(engine: EngineProcess) -> dict[str, str]:
    """What the document's reader has set."""
    return {
        **clean_environment(),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RUNENGINE_TARGET": engine.target,
        "RUNENGINE_URL": engine.http_url,
        "TOKEN": TOKENS.admin,
    }


def test_every_command_works(
    place: Path, environment: dict[str, str], engine: EngineProcess, skills: SkillServerProcess
) -> None:
    """All blocks of commands, one after the other in one shell, succeed."""
    script = "\n".join([f"cd {place}", *blocks("sh"), "declare -p RUN UPDATE ARTIFACT > values"])
    command = ["bash", "-euxo", "pipefail", "-c", script]
    skills.open_gate("Summer Sale")
    with ManagedProcess(command, log_path=place / "shell.log", environment=environment) as shell:
        engine.wait_for_text("Run cancelled", timeout_s=SCRIPT_S_MAX)
        skills.open_gate("Winter Sale")
        assert shell.wait(timeout_s=SCRIPT_S_MAX) == 0, shell.log
        assert "Update run queued - 2 steps will be re-executed" in shell.log
        assert "generate_bgm_track was executed" in shell.log
    assert (place / "mix.txt").read_text() == "calm"
    assert (place / "campaign.svg").read_text().startswith("<svg")


def test_commands_of_other_documents(place: Path, environment: dict[str, str]) -> None:
    """What other documents have the reader type works on the runs of this one."""
    lines = [
        line
        for document in sorted((REPOSITORY / "docs").glob("*.md"))
        if document.name != "cli.md"
        for line in re.findall(r"^runengine .*$", document.read_text(), re.MULTILINE)
    ]
    assert len(lines) > 10
    known = {"RUN": "$RUN", "LEFT": "$RUN", "RIGHT": "$UPDATE", "ARTIFACT": "$ARTIFACT", "STEP": "generate_bgm_track"}
    typed = [re.sub(r"(?<![\w$])[A-Z]{3,}(?!\w)", lambda found: known[found[0]], line) for line in lines]
    script = "\n".join([f"cd {place}", "source values", *typed])
    with ManagedProcess(
        ["bash", "-euxo", "pipefail", "-c", script], log_path=place / "others.log", environment=environment
    ) as shell:
        assert shell.wait(timeout_s=SCRIPT_S_MAX) == 0, shell.log


def test_error_as_printed(place: Path, environment: dict[str, str]) -> None:
    """The document's error is what the command prints."""
    (printed,) = blocks("json")
    told = json.loads(printed)
    run_id = told["error"]["details"]["runId"]
    done = subprocess.run(
        ["runengine", "get", run_id, "-o", "json"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert json.loads(done.stderr) == told


def test_nothing_is_left_out() -> None:
    """The document runs every command, and names every RPC."""
    commands = {words for words, command in commands_of(app, "runengine") if not hasattr(command, "commands")}
    shown = "\n".join(blocks("sh"))
    assert {words for words in commands if not re.search(rf"{words}\b", shown)} == set()
    table = DOCUMENT.partition("## Commands")[2].partition("##")[0]
    assert {rpc.rpartition("/")[2] for rpc in RPCS} - set(re.findall(r"\w+", table)) == set()

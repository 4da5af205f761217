"""Every example of the guide to workflows does what the guide says."""

import hashlib
import re
import shlex
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from runengine_client.cli.app import app
from runengine_client.workflow import read_workflow
from runengine_client.workflow.advice import advise
from runengine_client.workflow.builder import StepOptions, WorkflowOptions
from runengine_client.workflow.checks import check_workflow
from runengine_server.rpc.conversion.workflow import read_workflow as read_wire
from runengine_server.rpc.conversion.workflow import workflow_to_proto

GUIDE = (Path(__file__).parents[3] / "docs" / "workflows.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)


def executed() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block, names)
    return names


def test_the_file_is_a_workflow():
    """The YAML example is right, draws no warning, and sets every key there is."""
    (text,) = blocks("yaml")
    workflow = read_workflow(text)
    assert check_workflow(workflow) == []
    assert advise(workflow) == []
    assert read_wire(workflow).change_rules[1].seed_step_ids == ("*",)


def test_json_and_python_are_the_same_workflow():
    """The JSON and the Python example are one workflow, with one digest."""
    (text,) = blocks("json")
    assert executed()["small"] == read_workflow(text, is_json=True)


def test_every_key_and_option_is_named():
    """The tables name every key that a file may have, and the text every option of the builder."""
    known = {
        "workflowName version steps description changeRequests triggerSchema cacheEpoch failurePolicy labels",
        "stepId skillId dependsOn inputSelector cachePolicy.enabled cachePolicy.scope cachePolicy.hotTtl timeout",
        "retryPolicy.maxAttempts retryPolicy.backoffMs retryPolicy.maxBackoffMs retryPolicy.nonRetryableCodes",
        "verifyArtifacts seedStepIds cacheMode",
    }
    documented = set(re.findall(r"^\| (?:\*\*)?`([A-Za-z.]+)`", GUIDE, re.MULTILINE))
    assert documented == {name for line in known for name in line.split()}
    options = {*StepOptions.__annotations__, *WorkflowOptions.__annotations__}
    assert [name for name in options if f"`{name}`" not in GUIDE] == []


def test_a_stranger_computes_the_digest():
    """The snippet gives the server's digest, and so does the canonical form that the guide prints."""
    digest_of = executed()["digest_of"]
    (full,) = blocks("yaml")
    (tiny,) = re.findall(r"`(\{\"workflowName\": \"tiny\".*?\})` has", GUIDE, re.DOTALL)
    (canonical,) = blocks("canonical")
    for text in (full, tiny.replace("\n", " ")):
        shown = workflow_to_proto(read_wire(read_workflow(text)))
        assert digest_of(shown) == shown.digest
    assert hashlib.sha256(canonical.replace("\n", "").encode()).hexdigest() == shown.digest
    assert f"`{shown.digest}`" in GUIDE


def test_commands_exist(tmp_path: Path):
    """Every command shown is one, with these options."""
    (tmp_path / "campaign.yaml").write_text(blocks("yaml")[0])
    commands = re.findall(r"^runengine .*$", GUIDE, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command)[1:]
        shown = CliRunner().invoke(app, [*words[:2], "--help"])
        assert shown.exit_code == 0
        for option in (word for word in words if word.startswith("--")):
            assert option in shown.stdout
    for command in commands:
        if "campaign.yaml" in command:
            words = [str(tmp_path / word) if word == "campaign.yaml" else word for word in shlex.split(command)[1:]]
            assert CliRunner().invoke(app, words).exit_code == 0, command

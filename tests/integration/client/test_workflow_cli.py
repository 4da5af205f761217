"""`runengine workflow lint` and `graph` against files and a server."""

import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from typer.testing import CliRunner

from runengine_client.cli.app import app
from runengine_client.pb.runengine.v1 import run_pb2, workflow_pb2
from runengine_client.workflow import read_workflow

RUN_ID = "550e8400-e29b-41d4-a716-446655440000"

DEMO = """
workflowName: demo
version: 1.0.0
steps:
  - {stepId: plan, skillId: demo.plan}
  - {stepId: image, skillId: demo.image, dependsOn: [plan]}
  - {stepId: music, skillId: demo.music, dependsOn: [plan]}
  - {stepId: mix, skillId: demo.mix, dependsOn: [image, music]}
changeRequests:
  music.update: [music]
  all: ["*"]
"""

CYCLE = """
workflowName: cycle
version: 1.0.0
steps:
  - {stepId: a, skillId: demo.a, dependsOn: [b]}
  - {stepId: b, skillId: demo.b, dependsOn: [a]}
"""


@pytest.fixture
def run(serving):
    def invoke(*args: str | Path):
        return CliRunner().invoke(app, ["--target", serving.target, *map(str, args)])

    return invoke


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    file = tmp_path / "demo.yaml"
    file.write_text(DEMO)
    return file


def test_lint_offline_finds_cycles(run, fake, tmp_path):
    """Without a server's help a cycle is found, with its place, and the exit status is 1."""
    (tmp_path / "cycle.yaml").write_text(CYCLE)
    result = run("workflow", "lint", "--offline", tmp_path / "cycle.yaml")
    assert result.exit_code == 1
    assert f"{tmp_path / 'cycle.yaml'}:5:46: steps[0].dependsOn[0]: these steps form a cycle" in result.stdout
    assert "not checked: skills" in result.stderr
    assert fake.calls == []


def test_lint_places_what_the_server_says(run, fake, demo, make_fault):
    """A violation of the server has line and column too."""
    violations = {"steps[1].skillId": "no target matches", 'changeRequests["all"].seedStepIds[0]': "why"}
    fake.faults["RegisterWorkflow"] = [
        make_fault(code="INVALID_ARGUMENT", reason="WORKFLOW_INVALID", violations=violations)
    ]
    result = run("workflow", "lint", demo, "--output", "json")
    (found,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(each["line"], each["column"]) for each in found["violations"]] == [(6, 21), (11, 9)]
    assert result.exit_code == 1


def test_lint_of_a_directory(run, tmp_path, demo):
    """Other files are skipped and named; one name and version twice is an error; warnings alone are none."""
    (tmp_path / "brief.json").write_text('{"brief": 1}')
    result = run("workflow", "lint", tmp_path)
    assert (result.exit_code, result.stdout) == (0, f"{demo}: ok\n")
    assert "brief.json: skipped, not a workflow" in result.stderr
    (tmp_path / "twice.yaml").write_text(DEMO.replace('  all: ["*"]\n', ""))
    result = run("workflow", "lint", tmp_path)
    assert result.exit_code == 1
    assert f"demo 1.0.0 is already defined by {demo}" in result.stdout
    assert "warning: steps[0]: no change request reaches 'plan'" in result.stdout


def test_graph_of_a_file(run, fake, demo):
    """A file is drawn without asking the server, in every form."""
    text = run("workflow", "graph", demo)
    assert text.exit_code == 0
    assert text.stdout.splitlines() == [
        "demo 1.0.0: 4 steps, 3 levels",
        "0 ●   plan  demo.plan",
        "1 ├─● image demo.image",
        "  ● │ music demo.music",
        "2 ●─╯ mix   demo.mix",
    ]
    assert "flowchart LR" in run("workflow", "graph", demo, "--format", "mermaid").stdout
    assert run("workflow", "graph", demo, "--format", "svg").stdout.startswith("<svg ")
    steps = json.loads(run("workflow", "graph", demo, "--output", "json").stdout)["steps"]
    assert steps[3] == {"stepId": "mix", "skillId": "demo.mix", "level": 2, "dependsOn": ["image", "music"]}
    assert fake.calls == []


def test_graph_to_a_file(run, demo, tmp_path):
    """The file's ending chooses the form, unless --format does."""
    for name, start in (("a.svg", "<svg "), ("a.mmd", "---\ntitle"), ("a.txt", "demo 1.0.0: 4 steps")):
        assert run("workflow", "graph", demo, "--out", tmp_path / name).exit_code == 0
        assert (tmp_path / name).read_text().startswith(start)


def test_graph_of_a_change(run, demo):
    """A change shows seeds and downstream; an unknown one lists those there are."""
    lines = run("workflow", "graph", demo, "--change", "music.update").stdout.splitlines()
    assert lines[0] == "demo 1.0.0: music.update: 1 seed, 1 downstream, 2 reused"
    assert [line.split()[-1] for line in lines[1:]] == ["reused", "reused", "seed", "downstream"]
    unknown = run("workflow", "graph", demo, "--change", "nope")
    assert unknown.exit_code == 2
    assert "it has: music.update, all" in unknown.stderr


def test_graph_of_a_registered_workflow(run, fake):
    """A name that is no file is looked up; one that does not exist exits with 4."""
    fake.workflows["demo", "1.0.0"] = read_workflow(DEMO)
    assert run("workflow", "graph", "demo").stdout.startswith("demo 1.0.0: 4 steps")
    assert run("workflow", "graph", "other").exit_code == 4


def test_graph_of_a_run(run, fake, demo):
    """A run shows status, time and reuse of every step, in the version it executes."""
    fake.workflows["demo", "1.0.0"] = read_workflow(DEMO)
    fake.steps[1].status = run_pb2.STEP_STATUS_SKIPPED
    fake.steps[1].output_source = run_pb2.OUTPUT_SOURCE_BASE_RUN
    fake.steps[3].status = run_pb2.STEP_STATUS_FAILED
    fake.steps[3].error.code = "SKILL_TIMEOUT"
    for arguments in (["--run", RUN_ID], [demo, "--run", RUN_ID], ["demo", "--run", RUN_ID]):
        lines = run("workflow", "graph", *arguments).stdout.splitlines()
        assert lines[0] == f"demo 1.0.0: run {RUN_ID}: completed"
        assert lines[1].endswith("completed, 5.2 s")
        assert lines[2].endswith("skipped, from base run")
        assert lines[4].endswith("failed, SKILL_TIMEOUT")
    (request,) = {json_format.MessageToJson(each) for each in fake.requests("GetWorkflow")[:1]}
    assert json.loads(request) == {"name": "demo", "version": "1.0.0"}


def test_graph_refuses_what_makes_no_sense(run, fake, demo, tmp_path):
    """Nothing to draw, two pictures at once, a missing file, a version of a file, a run of something else, a cycle."""
    fake.workflows["demo", "1.0.0"] = read_workflow(DEMO)
    fake.workflows["other", "1.0.0"] = workflow_pb2.Workflow(name="other", version="1.0.0")
    (tmp_path / "cycle.yaml").write_text(CYCLE)
    for arguments, said in (
        ([], "name a workflow file"),
        ([demo, "--run", RUN_ID, "--change", "all"], "two pictures"),
        ([tmp_path / "none.yaml"], "there is no file"),
        ([tmp_path], "there is no file"),
        ([demo, "--version", "1.0.0"], "leave out --version"),
        (["other", "--run", RUN_ID], "not of other"),
        ([tmp_path / "cycle.yaml"], "a → b → a"),
    ):
        refused = run("workflow", "graph", *arguments)
        assert refused.exit_code == 2, said
        assert said in refused.stderr

"""The command does what it says against a server: messages, tables, JSON and exit status."""

import json
import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from runengine_client.cli.app import app
from runengine_client.pb.runengine.v1 import run_pb2, workflow_pb2
from runengine_client.workflow import load_workflow

RUN_ID = "550e8400-e29b-41d4-a716-446655440000"

WORKFLOW = """
workflowName: demo
version: 1.0.0
steps:
  - stepId: plan
    skillId: demo.plan
changeRequests:
  plan.update: [plan]
"""


@pytest.fixture
def run(serving):
    def invoke(*args: str, stdin: str | None = None, **env: str):
        return CliRunner().invoke(app, ["--target", serving.target, *args], input=stdin, env=env)

    return invoke


def test_trigger(run, fake):
    """A trigger prints the server's message and the run's id."""
    result = run("trigger", "campaign.build.v1", "--payload", '{"brief": {"style": "energetic"}}', "--label", "a=b=c")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == ["Run queued for execution", f"run {RUN_ID}"]
    (request,) = fake.requests("Trigger")
    assert request.trigger_payload["brief"]["style"] == "energetic"
    assert dict(request.labels) == {"a": "b=c"}


def test_trigger_json(run):
    """As JSON a trigger is exactly runId, status and message; the option may come last."""
    result = run("trigger", "demo", "--output", "json")
    assert json.loads(result.stdout) == {"runId": RUN_ID, "status": "queued", "message": "Run queued for execution"}


def test_payload_sources(run, fake, tmp_path):
    """A payload comes from a file or from standard input."""
    file = tmp_path / "payload.json"
    file.write_text('{"from": "file"}')
    assert run("trigger", "demo", "--payload", f"@{file}", "--quiet").stdout == f"{RUN_ID}\n"
    assert run("trigger", "demo", "--payload", "-", stdin='{"from": "stdin"}').exit_code == 0
    assert [request.trigger_payload["from"] for request in fake.requests("Trigger")] == ["file", "stdin"]


@pytest.mark.parametrize("payload", ["{", "[1]", '{"a": 1, "a": 2}', '{"a": NaN}', "@/does/not/exist.json"])
def test_bad_payload(run, fake, payload):
    """A payload that is no JSON object is a usage error, and nothing is sent."""
    assert run("trigger", "demo", "--payload", payload).exit_code == 2
    assert fake.calls == []


def test_number_beyond_double(run, fake):
    """A number that would lose digits is a usage error that names it."""
    result = run("trigger", "demo", "--payload", '{"id": 9007199254740993}')
    assert result.exit_code == 2
    assert "trigger_payload/id" in result.stderr
    assert fake.calls == []


def test_update(run, fake):
    """An update prints the seed's message."""
    result = run("update", RUN_ID, "audio.update", "--payload", '{"audioStyle": "epic", "volumeBoost": 1.2}')
    assert result.exit_code == 0
    assert result.stdout.startswith("Update run queued - 4 steps will be re-executed\n")
    (request,) = fake.requests("TriggerUpdate")
    assert (request.base_run_id, request.change_request.type) == (RUN_ID, "audio.update")
    assert request.change_request.payload["volumeBoost"] == 1.2


def test_update_plan(run, fake):
    """A plan is shown step by step and starts nothing."""
    result = run("update", RUN_ID, "audio.update", "--plan")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["music", "execute", "seed"] in lines
    assert ["mix", "execute", "downstream", "music"] in lines
    assert "2 steps execute, 2 are reused" in result.stdout
    assert fake.started == {}
    as_json = json.loads(run("update", RUN_ID, "audio.update", "--plan", "-o", "json").stdout)
    assert as_json["executeCount"] == 2
    assert as_json["steps"][3] == {
        "stepId": "mix",
        "action": "execute",
        "reason": "downstream",
        "causedBy": ["music"],
    }


def test_watch_lines(run, fake, make_watch_fault):
    """Without a terminal a watch prints a line per change, also across a broken stream, and exits with the run's."""
    fake.watch_faults = [make_watch_fault(after_events=6)]
    result = run("trigger", "demo", "--watch")
    assert result.exit_code == 0
    text = [line[10:] for line in result.stdout.splitlines()[2:] if "connection lost" not in line]
    assert text == [
        f"queued  demo 1.0.0  run {RUN_ID}",
        "run queued",
        "run running",
        "plan  skipped  cache hit (hot)",
        "image  running",
        "music  running  cache miss: input changed at /style  [2 in parallel]",
        "image  completed in 1.2 s",
        "music  completed in 5.2 s  cache miss: input changed at /style",
        "mix  running",
        "mix  completed in 800 ms",
        "run completed in 7.0 s  4 steps: 3 completed, 1 skipped",
    ]
    assert len(fake.requests("WatchRun")) == 2


def test_watch_json(run):
    """As JSON a watch is one line per item: snapshot, events, end."""
    lines = [json.loads(line) for line in run("watch", RUN_ID, "-o", "json").stdout.splitlines()]
    assert [next(iter(line)) for line in lines] == ["snapshot", *["event"] * 13, "end"]
    assert lines[3]["event"]["detail"]["outputSource"] == "cache_hot"
    later = run("watch", RUN_ID, "-o", "json", "--after", "12").stdout.splitlines()
    assert [json.loads(line).get("event", {}).get("sequence") for line in later] == [13, None]


@pytest.mark.parametrize(
    ("status", "code"),
    [(run_pb2.RUN_STATUS_COMPLETED, 0), (run_pb2.RUN_STATUS_FAILED, 1), (run_pb2.RUN_STATUS_CANCELLED, 3)],
)
def test_exit_status_of_a_run(run, fake, make_run, status, code):
    """Following a run exits with how it ended."""
    fake.run = make_run(status)
    assert run("watch", RUN_ID).exit_code == code


def test_not_found(run, fake, make_fault):
    """An unknown run exits with 4 and says so on standard error."""
    fake.faults["GetRun"] = [make_fault(code="NOT_FOUND", reason="RUN_NOT_FOUND", message="No run x")]
    result = run("get", "x")
    assert (result.exit_code, result.stdout, result.stderr) == (4, "", "error: No run x (RUN_NOT_FOUND)\n")
    fake.faults["GetRun"] = [make_fault(code="NOT_FOUND", reason="RUN_NOT_FOUND", message="No run x")]
    error = json.loads(run("get", "x", "-o", "json").stderr)
    assert error == {"error": {"code": "RUN_NOT_FOUND", "message": "No run x", "status": 404}}


def test_unavailable(serving, run):
    """Without a server the command exits with 5 and names the address."""
    serving.stop()
    result = run("get", RUN_ID)
    assert result.exit_code == 5
    assert f"nothing answers at {serving.target}" in result.stderr


def test_usage():
    """An unknown option or command is a usage error."""
    assert CliRunner().invoke(app, ["get", RUN_ID, "--no-such-option"]).exit_code == 2
    assert CliRunner().invoke(app, ["no-such-command"]).exit_code == 2


def test_get_list_steps_artifacts(run, fake):
    """Runs, steps and artifacts are shown in full, whatever the width of the terminal."""
    assert run("get", RUN_ID).stdout.splitlines()[0].split() == ["run", RUN_ID]
    assert json.loads(run("get", RUN_ID, "-o", "json").stdout)["id"] == RUN_ID
    assert len(run("list", "--limit", "3").stdout.splitlines()) == 4
    assert [each["id"] for each in json.loads(run("list", "-o", "json").stdout)["runs"]] == [
        f"run-{n}" for n in range(5)
    ]
    assert "5.2 s" in run("steps", RUN_ID).stdout
    assert run("artifacts", RUN_ID).stdout == "no artifacts\n"
    uri = "file:///var/lib/runengine/artifacts/" + "x" * 100 + ".mp3"
    fake.artifacts = [run_pb2.Artifact(id="a", run_id=RUN_ID, step_id="music", type="audio/mpeg", uri=uri)]
    assert uri in run("artifacts", RUN_ID).stdout
    assert json.loads(run("artifacts", RUN_ID, "-o", "json").stdout)["artifacts"][0]["uri"] == uri


def test_cancel_retry_explain(run):
    """The other commands print the server's words."""
    assert run("cancel", RUN_ID, "--reason", "wrong").stdout == "Run cancelled\n"
    assert run("retry", RUN_ID).stdout.startswith("Retry run queued - 2 steps will be executed\n")
    assert run("explain", RUN_ID, "plan").stdout == "It ran: nothing was cached.\n"


def test_long_descriptions_are_cut_in_the_table(run, fake, tmp_path):
    """The table shows at most 80 characters of a description, on one line and as they are; JSON has all of it."""
    file = tmp_path / "demo.yaml"
    description = "[/x] :smile: " + "many words\\n" * 200
    file.write_text(f'{WORKFLOW}\ndescription: "{description}"\n')
    run("workflow", "register", str(file))
    header, row = run("workflow", "list").stdout.splitlines()
    shown = row[header.index("DESCRIPTION") :].rstrip()
    assert shown.startswith("[/x] :smile: many words many words")
    assert shown.endswith("…") and len(shown) <= 80
    (listed,) = json.loads(run("workflow", "list", "--output", "json").stdout)["workflows"]
    assert listed["description"] == description.replace("\\n", "\n")


def test_workflow_commands(run, fake, tmp_path):
    """A file is checked, registered, listed and printed back as a file that means the same."""
    file = tmp_path / "demo.yaml"
    file.write_text(WORKFLOW)
    assert run("workflow", "lint", str(file)).stdout == f"{file}: ok\n"
    assert fake.workflows == {}
    assert run("workflow", "register", str(tmp_path)).stdout == f"demo 1.0.0 registered ({'d' * 12})\n"
    assert run("workflow", "register", str(file)).stdout.startswith("demo 1.0.0 already registered")
    assert "plan.update" in run("workflow", "list").stdout
    (shown,) = fake.workflows.values()  # as a real server shows it: every default filled in
    shown.failure_policy = workflow_pb2.FAILURE_POLICY_FINISH_RUNNING
    for step in shown.steps:
        step.cache_policy.scope = workflow_pb2.CACHE_SCOPE_GLOBAL
    for rule in shown.change_requests:
        rule.cache_mode = workflow_pb2.CACHE_MODE_DEFAULT
    printed = tmp_path / "again.yaml"
    printed.write_text(run("workflow", "get", "demo").stdout)
    assert load_workflow(printed).failure_policy == workflow_pb2.FAILURE_POLICY_FINISH_RUNNING
    assert run("workflow", "register", str(printed)).stdout.startswith("demo 1.0.0 already registered")


def test_lint_reports_everything(run, fake, make_fault, tmp_path):
    """Lint prints every violation of every file, the server's too, and exits with 1."""
    (tmp_path / "a.yaml").write_text("workflowName: a\nversion: 1\nsteps:\n  - {stepId: x, skilId: y}\n")
    (tmp_path / "b.yaml").write_text(WORKFLOW)
    fake.faults["RegisterWorkflow"] = [
        make_fault(
            code="INVALID_ARGUMENT", reason="WORKFLOW_INVALID", violations={"steps[0].skill_id": "no target matches"}
        )
    ]
    result = run("workflow", "lint", str(tmp_path))
    assert result.exit_code == 1
    for expected in ("version: must be a string", "steps[0].skillId: is required", "did you mean skillId?"):
        assert expected in result.stdout
    assert "steps[0].skill_id: no target matches" in result.stdout


def test_lint_without_server(serving, run, tmp_path):
    """Without a server lint checks what it can by itself and says what it did not."""
    serving.stop()
    (tmp_path / "b.yaml").write_text(WORKFLOW)
    result = run("workflow", "lint", str(tmp_path / "b.yaml"))
    assert result.exit_code == 0
    assert "checked here: structure" in result.stderr
    assert f"not checked, no server at {serving.target}: skills" in result.stderr


def test_explain(run, fake):
    """Explain prints a sentence a line; as JSON the step with them."""
    assert run("explain", RUN_ID, "plan").stdout == "It ran: nothing was cached.\n"
    (request,) = fake.requests("ExplainStep")
    assert (request.run_id, request.step_id) == (RUN_ID, "plan")
    shown = json.loads(run("explain", RUN_ID, "plan", "-o", "json").stdout)
    assert (shown["step"]["stepId"], shown["text"]) == ("plan", ["It ran: nothing was cached."])


def test_compare(run, fake):
    """Compare prints the steps that differ with the causes marked, with --all the others too; as JSON everything."""
    lines = [line.split() for line in run("compare", RUN_ID, "other").stdout.splitlines()]
    assert lines == [
        ["STEP", "LEFT", "RIGHT", "INPUT", "OUTPUT", "CAUSE"],
        ["music", "completed", "completed", "/style", "changed", "root", "cause"],
        ["mix", "no", "such", "step", "completed", "changed"],
        ["1", "step", "is", "the", "same"],
    ]
    (request,) = fake.requests("CompareRuns")
    assert (request.left_run_id, request.right_run_id) == (RUN_ID, "other")
    shown = run("compare", RUN_ID, "other", "--all").stdout
    assert "skipped from base run" in shown and "is the same" not in shown
    as_json = json.loads(run("compare", RUN_ID, "other", "-o", "json").stdout)
    assert as_json["rootCauseStepIds"] == ["music"]
    assert as_json["steps"][1]["inputPointers"] == ["/style"]
    assert (as_json["steps"][2]["outputChanged"], "left" in as_json["steps"][2]) == (True, False)


def test_lineage(run, fake):
    """Lineage prints a tree in which each artifact is described once; as JSON nodes and edges."""
    lines = run("lineage", "a-mix", "--depth", "3").stdout.splitlines()
    assert lines[0] == f"mix.wav (audio/wav, 0 B) made by mix with audio.mix 2.1.0 in run {RUN_ID}"
    assert [line.strip("│├└─ ").split(" (")[0] for line in lines[1:]] == [
        "music.wav",
        "plan.wav, see elsewhere",
        "plan.wav",
    ]
    (request,) = fake.requests("GetLineage")
    assert (request.artifact_id, request.depth) == ("a-mix", 3)
    shown = json.loads(run("lineage", "a-mix", "-o", "json").stdout)
    assert shown["nodes"][0]["artifact"]["id"] == "a-mix"
    assert shown["edges"][0] == {"fromArtifactId": "a-music", "toArtifactId": "a-mix", "stepId": "mix"}


def test_token_variables(run, fake):
    """TOKEN is honoured, and RUNENGINE_TOKEN wins over it."""
    run("get", RUN_ID, TOKEN="one")
    run("get", RUN_ID, TOKEN="one", RUNENGINE_TOKEN="two")
    assert [metadata["authorization"] for _, _, metadata in fake.calls] == ["Bearer one", "Bearer two"]


def test_token_stays_off_the_network():
    """A token is not sent unencrypted to another machine."""
    result = CliRunner().invoke(app, ["--target", "example.com:50051", "--token", "secret", "get", RUN_ID])
    assert result.exit_code == 2
    assert "INSECURE_TOKEN" in result.stderr
    assert "secret" not in result.stderr


def test_interrupt_detaches(serving, fake, make_watch_fault):
    """Ctrl-C leaves the run alone and prints how to go on."""
    fake.watch_faults = [make_watch_fault(after_events=4, is_silent=True)]
    code = "from runengine_client.cli.app import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--target", serving.target, "trigger", "demo", "--watch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        for line in process.stdout:
            if "image  running" in line or "plan  skipped" in line:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert f"detached; the run goes on. Resume with: runengine watch {RUN_ID}" in err
    assert "Traceback" not in err
    assert fake.requests("Cancel") == []

"""The `runengine` command as a process of its own against a real server: words, JSON, files and exit status."""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.processes import ManagedProcess, clean_environment
from ..support.skill_server_process import SkillServerProcess

RUNENGINE = Path(sys.executable).with_name("runengine")
Command = Callable[..., subprocess.CompletedProcess[str]]

WORKFLOW = """
workflowName: cli.demo
version: 1.0.0
steps:
  - stepId: plan
    skillId: t.echo
    inputSelector: { brief: "${{ trigger.brief }}" }
  - stepId: music
    skillId: t.echo
    dependsOn: [plan]
    inputSelector: { plan: "${{ steps.plan.output }}", style: '${{ trigger.?style.orValue("calm") }}' }
  - stepId: file
    skillId: t.publish
    dependsOn: [music]
    inputSelector: { text: "${{ steps.music.output.style }}", filename: style.txt }
changeRequests:
  music.update: [music]
"""
WAITING = """
workflowName: cli.waiting
version: 1.0.0
steps:
  - stepId: wait
    skillId: t.gated
    inputSelector: { gate: "${{ trigger.gate }}" }
"""
FAILING = """
workflowName: cli.failing
version: 1.0.0
steps:
  - stepId: fail
    skillId: t.flaky
    inputSelector: { failures: 99, permanent: true, code: NO_LUCK }
"""
CYCLE = """
workflowName: cli.cycle
version: 1.0.0
steps:
  - { stepId: a, skillId: t.echo, dependsOn: [b] }
  - { stepId: b, skillId: t.echo, dependsOn: [a] }
"""


@pytest.fixture(scope="module")
def engine(engine_settings: EngineSettings, skills: SkillServerProcess) -> Iterator[EngineProcess]:
    """A server that serves the files that the skills publish."""
    with EngineProcess(engine_settings, RUNENGINE_ARTIFACT_STORE=skills.artifact_dir.as_uri()) as process:
        yield process


@pytest.fixture(scope="module")
def environment(engine: EngineProcess) -> dict[str, str]:
    variables = {"RUNENGINE_TARGET": engine.target, "RUNENGINE_URL": engine.http_url, "TOKEN": TOKENS.admin}
    return {**clean_environment(), **variables}


@pytest.fixture(scope="module")
def run(environment: dict[str, str]) -> Command:
    """Runs the command to its end."""

    def invoke(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [RUNENGINE, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**environment, **more},
            check=False,
        )

    return invoke


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workflows")
    (folder / "demo.yaml").write_text(WORKFLOW)
    (folder / "waiting.yaml").write_text(WAITING)
    return folder


@pytest.fixture(scope="module")
def registered(run: Command, files: Path) -> None:
    """Both workflows, from a directory."""
    done = run("workflow", "register", files)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["cli.demo", "1.0.0", "registered"],
        ["cli.waiting", "1.0.0", "registered"],
    ]


@pytest.fixture(scope="module")
def base(run: Command, registered: None) -> str:
    """A completed run, followed to its end."""
    done = run("trigger", "cli.demo", "--payload", '{"brief": {"style": "calm"}}', "--watch")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Run queued for execution"
    assert "run completed" in lines[-1] and "3 steps: 3 completed" in lines[-1]
    return lines[1].removeprefix("run ")


@pytest.fixture
def waiting(run: Command, registered: None, skills: SkillServerProcess) -> tuple[str, str]:
    """A run that waits, and its gate."""
    gate = uuid.uuid4().hex
    done = run("trigger", "cli.waiting", "--payload", json.dumps({"gate": gate}), "--quiet")
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.strip()
    skills.wait_for_call(run_id, "wait")
    return run_id, gate


def test_register_again(run: Command, files: Path, registered: None) -> None:
    """Registering the same file again changes nothing; other content of the same version is refused."""
    assert "already registered" in run("workflow", "register", files / "demo.yaml").stdout
    changed = files.parent / "changed.yaml"
    changed.write_text(WORKFLOW.replace("music.update: [music]", "music.update: [file]"))
    done = run("workflow", "register", changed)
    assert done.returncode == 1
    assert "raise the version" in done.stderr and "WORKFLOW_VERSION_CONFLICT" in done.stderr


def test_workflow_list(run: Command, registered: None) -> None:
    """Known workflows are listed with their change requests."""
    done = run("workflow", "list", "--output", "json")
    assert {each["workflowName"] for each in json.loads(done.stdout)["workflows"]} >= {"cli.demo", "cli.waiting"}
    assert "music.update" in run("workflow", "list").stdout


def test_lint(run: Command, files: Path, tmp_path: Path) -> None:
    """Lint passes good files, and names the cycle of a bad one with status 1, registering neither."""
    assert run("workflow", "lint", files).returncode == 0
    bad = tmp_path / "cycle.yaml"
    bad.write_text(CYCLE)
    done = run("workflow", "lint", bad)
    assert done.returncode == 1
    assert "a → b → a" in done.stdout
    assert run("workflow", "get", "cli.cycle").returncode == 4


def test_lint_names_places(run: Command, tmp_path: Path) -> None:
    """What only the server knows is wrong, an expression and a skill, has its place in the file too."""
    bad = tmp_path / "demo.yaml"
    bad.write_text(WORKFLOW.replace("trigger.brief }}", "triger.brief }}").replace("t.publish", "nobody.has"))
    done = run("workflow", "lint", bad)
    assert done.returncode == 1
    assert f"{bad}:7:22: steps[0].inputSelector/brief: " in done.stdout
    assert f"{bad}:13:5: steps[2].skillId: SKILL_UNREGISTERED" in done.stdout
    assert "checked by the server" in done.stderr


def test_graph(run: Command, base: str) -> None:
    """A registered workflow and a run of it are drawn; the run shows what became of each step."""
    drawn = run("workflow", "graph", "cli.demo", "--version", "1.0.0").stdout.splitlines()
    assert [line.split() for line in drawn[1:]] == [
        ["0", "●", "plan", "t.echo"],
        ["1", "●", "music", "t.echo"],
        ["2", "●", "file", "t.publish"],
    ]
    lines = run("workflow", "graph", "--run", base).stdout.splitlines()
    assert lines[0] == f"cli.demo 1.0.0: run {base}: completed"
    assert [line.split()[3].rstrip(",") for line in lines[1:]] == ["completed"] * 3


def test_update_plan(run: Command, base: str) -> None:
    """A plan shows each step and the counts, and starts nothing."""
    done = run("update", base, "music.update", "--payload", '{"style": "epic"}', "--plan")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:4]] == [
        ["plan", "reuse"],
        ["music", "execute"],
        ["file", "unknown"],
    ]
    listed = run("list", "--base-run", base, "--output", "json")
    assert json.loads(listed.stdout)["runs"] == []


def test_update_options(run: Command, base: str) -> None:
    """A plan's digest starts that plan and no other; a forced step executes; a step that is not there is usage."""
    change = ("update", base, "music.update", "--payload", '{"style": "exact"}')
    plan = json.loads(run(*change, "--plan", "--output", "json").stdout)
    assert {step["stepId"]: step.get("changedPointers") for step in plan["steps"]}["music"] == ["/style"]
    refused = run(*change, "--force-step", "plan", "--expect-plan", plan["digest"])
    assert refused.returncode == 1
    assert "PLAN_CHANGED" in refused.stderr
    assert run(*change, "--strict", "--expect-plan", plan["digest"], "--watch").returncode == 0
    forced = run("update", base, "music.update", "--force-step", "plan", "--cache-mode", "read_only", "--plan")
    assert "forced" in forced.stdout.splitlines()[1]
    assert run("update", base, "music.update", "--force-step", "nope").returncode == 2
    assert run("update", base, "music.update", "--workflow-version", "9.9.9").returncode == 4


def test_retry(run: Command, waiting: tuple[str, str], base: str, skills: SkillServerProcess) -> None:
    """retry plans and follows the run that finishes a cancelled one; a completed run is refused with its reason."""
    run_id, gate = waiting
    assert run("cancel", run_id).returncode == 0
    skills.open_gate(gate)
    plan = run("retry", run_id, "--plan")
    assert plan.stdout.splitlines()[1].split()[:2] == ["wait", "execute"]
    done = run("retry", run_id, "--watch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Retry run queued - 1 steps will be executed\n")
    refused = run("retry", base)
    assert refused.returncode == 1
    assert "RUN_NOT_RETRYABLE" in refused.stderr


def test_update_watch(run: Command, base: str) -> None:
    """An update prints the seed's message and follows the run; as JSON each line is an object, the last the end."""
    done = run("update", base, "music.update", "--payload", '{"style": "loud"}', "--watch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Update run queued - 2 steps will be re-executed\n")
    done = run("update", base, "music.update", "--payload", '{"style": "quiet"}', "--watch", "--output", "json")
    first, *items = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["message"] == "Update run queued - 2 steps will be re-executed"
    assert items[-1]["end"]["run"]["status"] == "completed"
    again = run("update", base, "music.update", "--payload", '{"style": "quiet"}', "--watch")
    assert again.stdout.startswith("Update run completed - 0 steps will be re-executed\n")
    assert again.returncode == 0


def test_reading(run: Command, base: str) -> None:
    """get, list, steps and artifacts show the run."""
    state = json.loads(run("get", base, "--output", "json").stdout)
    assert (state["id"], state["status"]) == (base, "completed")
    listed = json.loads(run("list", "--workflow", "cli.demo", "--status", "completed", "-o", "json").stdout)
    assert base in {each["id"] for each in listed["runs"]}
    for option, is_listed in (("--after", True), ("--before", False)):
        assert (base in run("list", option, state["createdAt"], "--quiet").stdout.split()) is is_listed
    assert run("list", "--after", "yesterday").returncode == 2
    steps = run("steps", base)
    assert [line.split()[0] for line in steps.stdout.splitlines()] == ["STEP", "plan", "music", "file"]
    (artifact,) = json.loads(run("artifacts", base, "--output", "json").stdout)["artifacts"]
    assert (artifact["filename"], artifact["sizeBytes"]) == ("style.txt", 4)


def test_cancel(run: Command, waiting: tuple[str, str]) -> None:
    """cancel says what it did, a second one that it did nothing; a followed cancelled run has status 3."""
    done = run("cancel", waiting[0], "--reason", "wrong brief")
    assert (done.returncode, done.stdout) == (0, "Run cancelled\n")
    assert run("cancel", waiting[0]).stdout == "Run is already cancelled; nothing was changed\n"
    assert run("watch", waiting[0]).returncode == 3


@pytest.mark.parametrize("command", ["watch", "trigger"])
def test_interrupt(
    environment: dict[str, str],
    run: Command,
    waiting: tuple[str, str],
    skills: SkillServerProcess,
    tmp_path: Path,
    command: str,
) -> None:
    """Ctrl-C leaves the run running, prints the command that resumes and ends with 130; that command then finishes."""
    run_id, gate = waiting
    arguments = ["watch", run_id]
    if command == "trigger":
        gate = uuid.uuid4().hex
        arguments = ["trigger", "cli.waiting", "--payload", json.dumps({"gate": gate}), "--watch"]
    with ManagedProcess([RUNENGINE, *arguments], log_path=tmp_path / "cli.log", environment=environment) as watching:
        if command == "trigger":
            run_id = watching.wait_for_line("run ")
            skills.wait_for_call(run_id, "wait")
        else:
            watching.wait_for_text(run_id)
        watching.interrupt()
        assert watching.wait() == 130, watching.log
        assert f"Resume with: runengine watch {run_id}" in watching.log
        assert "Traceback" not in watching.log
    assert json.loads(run("get", run_id, "--output", "json").stdout)["status"] == "running"
    skills.open_gate(gate)
    assert run("watch", run_id).returncode == 0


def test_artifact_content(run: Command, base: str, tmp_path: Path) -> None:
    """artifact get writes the published bytes to a file or to standard output; what cannot be had leaves nothing."""
    (artifact,) = json.loads(run("artifacts", base, "--output", "json").stdout)["artifacts"]
    out = tmp_path / "style.txt"
    done = run("artifact", "get", artifact["id"], "--out", out)
    assert (done.returncode, done.stdout) == (0, f"{out}: 4 B\n")
    assert out.read_text() == "calm"
    assert run("artifact", "get", artifact["id"], "--out", "-").stdout == "calm"
    missing = run("artifact", "get", str(uuid.uuid4()), "--out", tmp_path / "none", "--output", "json")
    assert missing.returncode == 4
    assert json.loads(missing.stderr)["error"]["code"] == "ARTIFACT_NOT_FOUND"
    assert run("artifact", "get", artifact["id"], "--out", tmp_path / "none", TOKEN="wrong").returncode == 1
    absent = run("artifact", "get", artifact["id"], "--out", tmp_path / "none", RUNENGINE_URL="http://127.0.0.1:1")
    assert absent.returncode == 5
    assert "is the server running at http://127.0.0.1:1?" in absent.stderr
    assert run("artifact", "get", artifact["id"], "--out", tmp_path / "no" / "folder").returncode == 2
    assert run("artifact", "get", artifact["id"], "--out", out, RUNENGINE_URL="http://example.com").returncode == 2
    assert [each.name for each in tmp_path.iterdir()] == ["style.txt"]


def test_watch_token(run: Command, base: str, engine: EngineProcess) -> None:
    """watch-token prints a token alone, which reads this run over HTTP and nothing else."""
    done = run("watch-token", base, "--for", "60s")
    assert done.returncode == 0, done.stderr
    token = done.stdout.strip()
    assert "valid until" in done.stderr
    with urlopen(f"{engine.http_url}/api/v1/runs/{base}?access_token={token}") as answer:
        assert json.load(answer)["id"] == base
    with pytest.raises(HTTPError):
        urlopen(f"{engine.http_url}/api/v1/runs?access_token={token}").close()


def test_queue(run: Command, waiting: tuple[str, str]) -> None:
    """queue shows what runs; as JSON with its age in milliseconds."""
    lines = run("queue").stdout.splitlines()
    assert lines[0].split() == ["SKILL", "READY", "DELAYED", "WAITING", "HELD", "RUNNING", "STUCK"]
    assert "1 engine is alive" in lines
    assert "oldestAgeMs" in json.loads(run("queue", "--output", "json").stdout)["total"]["running"]


def test_failed_run(run: Command, files: Path) -> None:
    """A followed run that fails has status 1, and the reason of the step that failed is told."""
    file = files.parent / "failing.yaml"
    file.write_text(FAILING)
    assert run("workflow", "register", file).returncode == 0
    done = run("trigger", "cli.failing", "--watch")
    assert done.returncode == 1
    assert "run failed" in done.stdout and "NO_LUCK" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "path", "body"),
    [
        (["get", "RUN"], "/runs/RUN", None),
        (["get", "no-uuid"], "/runs/no-uuid", None),
        (["trigger", "no.such"], "/runs", {"workflowName": "no.such"}),
        (["trigger", "cli.demo", "--force-step", "x"], "/runs", {"workflowName": "cli.demo", "forceStepIds": ["x"]}),
        (["workflow", "get", "no.such"], "/workflows/no.such", None),
    ],
)
def test_errors_as_over_http(
    run: Command,
    base: str,
    engine: EngineProcess,
    arguments: list[str],
    path: str,
    body: dict[str, object] | None,
) -> None:
    """With --output json an error is the object that the same request gets over HTTP."""
    missing = str(uuid.uuid4())
    done = run(*[missing if word == "RUN" else word for word in arguments], "--output", "json")
    request = Request(
        f"{engine.http_url}/api/v1{path.replace('RUN', missing)}",
        headers={"Authorization": f"Bearer {TOKENS.admin}", "Content-Type": "application/json"},
        data=None if body is None else json.dumps(body).encode(),
    )
    with pytest.raises(HTTPError) as refused:
        urlopen(request).close()
    with refused.value as answer:
        assert json.loads(done.stderr) == json.load(answer)


def test_exit_status(run: Command, base: str) -> None:
    """Errors are told apart: usage 2, refused 1, not found 4, no server 5; as JSON they carry the reason."""
    assert run("trigger", "cli.demo", "--payload", "[1]").returncode == 2
    unknown = run("update", base, "nope.update")
    assert unknown.returncode == 2
    assert "music.update" in unknown.stderr
    missing = run("get", str(uuid.uuid4()), "--output", "json")
    assert missing.returncode == 4
    assert json.loads(missing.stderr)["error"]["code"] == "RUN_NOT_FOUND"
    refused = run("list", TOKEN="wrong")
    assert refused.returncode == 1
    assert "TOKEN_INVALID" in refused.stderr
    absent = run("list", RUNENGINE_TARGET="127.0.0.1:1")
    assert absent.returncode == 5
    assert "nothing answers at 127.0.0.1:1" in absent.stderr
    impossible = run("list", RUNENGINE_TARGET="http://127.0.0.1:3001")
    assert impossible.returncode == 2
    assert "write host:port in --target or RUNENGINE_TARGET" in impossible.stderr

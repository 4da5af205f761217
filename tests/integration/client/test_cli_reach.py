"""The command reaches every RPC, explains every option, and can be asked for in every form."""

import inspect
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import pytest
import typer
import yaml
from typer.testing import CliRunner

from runengine_client.cli.app import app
from runengine_client.cli.completion import WITHIN_S
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_server.__main__ import cli as server_app

from ...support.command_lines import RPCS, commands_of
from .messages import RUN_ID

WORKFLOW = "workflowName: demo\nversion: 1.0.0\nsteps:\n  - {stepId: plan, skillId: demo.plan}\n"

# One line for each way to ask; FILE is a workflow's.
LINES = """
trigger demo
update RUN a.change
retry RUN
watch RUN
cancel RUN
get RUN
list
steps RUN
artifacts RUN
queue
watch-token RUN
explain RUN plan
compare RUN RUN
lineage ARTIFACT
workflow register FILE
workflow get demo
workflow list
cache get KEY
cache list
cache invalidate --key KEY
cache stats
""".strip().splitlines()


class Recorder(grpc.GenericRpcHandler):
    """Notes which method was called, and refuses."""

    def __init__(self) -> None:
        self.methods: set[str] = set()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Handle whatever is called."""
        self.methods.add(details.method)

        def refuse(request: bytes, context: grpc.ServicerContext) -> Any:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "recorded")

        def refuse_stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "recorded")
            yield b""

        if details.method.endswith("/WatchRun"):
            return grpc.unary_stream_rpc_method_handler(refuse_stream)
        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.fixture
def recorder() -> Iterator[tuple[str, set[str]]]:
    """The address of a server that takes every call and refuses it, and the methods that were called."""
    handler = Recorder()
    server = grpc.server(ThreadPoolExecutor(4), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", handler.methods
    server.stop(grace=None).wait()


def test_every_rpc_has_a_command(recorder: tuple[str, set[str]], tmp_path: Path) -> None:
    """Each line calls one RPC, and together they call every RPC that the contract has for callers."""
    target, called = recorder
    file = tmp_path / "demo.yaml"
    file.write_text(WORKFLOW)
    for line in LINES:
        before = len(called)
        arguments = [{"FILE": str(file), "RUN": RUN_ID}.get(word, word) for word in line.split()]
        done = CliRunner().invoke(app, ["--target", target, *arguments])
        assert done.exit_code == 1, done.output
        assert "recorded" in done.stderr
        assert len(called) == before + 1, line
    assert called == RPCS


def test_validate_only(run: Any, fake: Any, tmp_path: Path) -> None:
    """`register --validate-only` has the server check the file, and registers nothing."""
    file = tmp_path / "demo.yaml"
    file.write_text(WORKFLOW)
    assert "can be registered" in run("workflow", "register", str(file), "--validate-only").stdout
    assert [request.validate_only for request in fake.requests("RegisterWorkflow")] == [True]
    assert fake.workflows == {}


@pytest.fixture
def run(serving: Any) -> Any:
    def invoke(*args: str) -> Any:
        return CliRunner().invoke(app, ["--target", serving.target, *args])

    return invoke


COMMANDS = [*commands_of(app, "runengine"), *commands_of(server_app, "runengine-server")]


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_help(words: str, command: Any) -> None:
    """Help gives an example that calls this command, explains every option, and offers no `unknown`."""
    text = inspect.cleandoc(command.help)
    examples = re.findall(rf"^  (?:[A-Z_]+=\S+ )*({re.escape(words)}\b.*)$", text, re.MULTILINE)
    assert examples, f"no example in the help of {words}"
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{words} {parameter.name} has no help"
    root, *below = words.split()
    shown = CliRunner().invoke(
        server_app if root == "runengine-server" else app, [*below, "--help"], terminal_width=200
    )
    assert shown.exit_code == 0
    assert not re.search(r"[|<]unknown|unknown[|>]", shown.stdout)


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_help_examples_parse(words: str, command: Any) -> None:
    """The options that an example uses are options of its command."""
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    roots = {name for _, root in COMMANDS if hasattr(root, "commands") for each in root.params for name in each.opts}
    for example in re.findall(
        rf"^  (?:\S+=\S+ )*{re.escape(words)}\b.*$", inspect.cleandoc(command.help), re.MULTILINE
    ):
        if hasattr(command, "commands"):
            continue  # the example of a group is one of its commands'
        used = set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", example))
        assert used <= known | roots, example


def test_commands_are_grouped() -> None:
    """The first level of help shows commands by what they are for."""
    shown = CliRunner().invoke(app, ["--help"]).stdout
    for panel in ("Start and follow", "Look at runs", "Ask why", "Workflows and cache", "Where the server is"):
        assert panel in shown


@pytest.mark.parametrize(("name", "command"), [("runengine", app), ("runengine-server", server_app)])
def test_version(name: str, command: typer.Typer) -> None:
    """Both programs say their name and the installed version, without a command and without a server."""
    shown = CliRunner().invoke(command, ["--version"])
    assert (shown.exit_code, shown.stdout) == (0, f"{name} {metadata.version('runengine')}\n")


def test_a_choice_that_is_none(run: Any, fake: Any) -> None:
    """A word that is no status, `unknown` included, is a usage error that lists those there are."""
    for word in ("unknown", "done"):
        done = run("list", "--status", word)
        assert done.exit_code == 2
        assert "completed" in done.stderr
    assert fake.calls == []
    assert run("list", "--status", "failed", "--status", "running").exit_code == 0
    assert len(fake.requests("ListRuns")[0].statuses) == 2


@pytest.mark.parametrize(
    "line",
    ["get RUN", "list", "steps RUN", "artifacts RUN", "update RUN x --plan", "explain RUN plan",
     "compare RUN RUN", "lineage A", "cancel RUN", "workflow list"],
)  # fmt: skip
def test_yaml_is_json(run: Any, line: str) -> None:
    """YAML output says what JSON output says."""
    arguments = [RUN_ID if word == "RUN" else word for word in line.split()]
    as_json = run(*arguments, "--output", "json")
    as_yaml = run(*arguments, "--output", "yaml")
    assert (as_json.exit_code, as_yaml.exit_code) == (0, 0), as_yaml.output
    assert yaml.safe_load(as_yaml.stdout) == json.loads(as_json.stdout)
    assert not as_yaml.stdout.startswith("{")


def test_yaml_stream(run: Any) -> None:
    """A followed run is one YAML document for each item."""
    items = list(yaml.safe_load_all(run("watch", RUN_ID, "--output", "yaml").stdout))
    assert [next(iter(item)) for item in items] == ["snapshot", *["event"] * 13, "end"]


def test_error_body(run: Any, fake: Any, make_fault: Any) -> None:
    """An error has its HTTP status, and its details as an object: violations, facts, and when to come back."""
    for form, load in (("json", json.loads), ("yaml", yaml.safe_load)):
        fake.faults["Trigger"] = [
            make_fault(
                code="INVALID_ARGUMENT",
                reason="VALIDATION_FAILED",
                message="no",
                violations={"priority": "above 9"},
                metadata={"limit": "9"},
            )
        ]
        assert load(run("trigger", "demo", "--output", form).stderr) == {
            "error": {
                "code": "VALIDATION_FAILED",
                "message": "no",
                "status": 400,
                "details": {"limit": "9", "violations": [{"field": "priority", "description": "above 9"}]},
            }
        }


@pytest.mark.parametrize("arguments", [["get"], ["list", "--limit", "x"], ["nope"], ["get", RUN_ID, "--nope"]])
def test_usage_errors_for_programs(arguments: list[str]) -> None:
    """With --output json a usage error is an object as any other error, with status 2."""
    program = "from runengine_client.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "-o", "json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"]["code"] == "USAGE"
    assert done.stdout == ""


def complete(words: str, **environment: str) -> list[str]:
    """What bash is offered behind these words; the last, perhaps empty, is being written."""
    done = CliRunner().invoke(
        app,
        [],
        prog_name="runengine",
        env={
            "_RUNENGINE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
            **environment,
        },
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("runengine wat", ["watch", "watch-token"]),
        ("runengine list --status c", ["completed", "cancelled"]),
        ("runengine list --output y", ["yaml"]),
        ("runengine get run-", [f"run-{n}" for n in range(5)]),
        ("runengine get run-3", ["run-3"]),
        ("runengine trigger d", ["demo"]),
        (f"runengine update {RUN_ID} plan", ["plan.update"]),
        (f"runengine explain {RUN_ID} m", ["music", "mix"]),
    ],
)
def test_completion(serving: Any, fake: Any, words: str, offered: list[str]) -> None:
    """The shell is offered commands, choices, and what the server knows: runs, workflows, steps and change types."""
    rules = [workflow_pb2.ChangeRequestRule(type="plan.update", seed_step_ids=["plan"])]
    for name in ("demo", "campaign.build.v1"):
        fake.workflows[(name, "1.0.0")] = workflow_pb2.Workflow(name=name, version="1.0.0", change_requests=rules)
    assert complete(words, RUNENGINE_TARGET=serving.target) == offered


def test_completion_takes_the_server_from_the_command_line(serving: Any) -> None:
    """An option before the cursor counts as it will when the line is run."""
    assert complete(f"runengine --target {serving.target} get run-1") == ["run-1"]


def test_completion_without_server(serving: Any, fake: Any) -> None:
    """Where no server answers, none is there, or it refuses, the shell is offered nothing, soon and silently."""
    target = serving.target
    serving.stop()
    began = time.monotonic()
    assert complete("runengine get ", RUNENGINE_TARGET=target) == []
    assert complete("runengine get ", RUNENGINE_TARGET="example.com:1", TOKEN="t") == []
    assert time.monotonic() - began < 5


def test_completion_gives_up() -> None:
    """A server that accepts the connection and never answers costs a second, not the shell."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        assert complete("runengine get ", RUNENGINE_TARGET=f"127.0.0.1:{silent.getsockname()[1]}") == []
        assert time.monotonic() - began < 10 * WITHIN_S


@pytest.mark.parametrize("program", ["runengine", "runengine-server"])
def test_completion_script(program: str) -> None:
    """Both commands print a completion script for a shell."""
    done = subprocess.run(
        [Path(sys.executable).with_name(program), "--show-completion", "bash"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert f"_{program.replace('-', '_').upper()}_COMPLETE" in done.stdout

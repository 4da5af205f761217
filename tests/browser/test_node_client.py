"""The page's client in Node, by Connect and by gRPC-Web: the same code, another runtime."""

import json
import subprocess

import pytest

from runengine_client.pb.runengine.v1 import workflow_pb2

from ..support.browser import build_page, node_environment
from ..support.engine_process import TOKENS, EngineProcess
from ..support.refusals import bearer, raw_api
from ..support.skill_server_process import SkillServerProcess
from .watch_page import FOLDER, WORKFLOW, two_gates


@pytest.fixture(scope="module")
def built() -> None:
    """The program is there."""
    build_page(FOLDER)


@pytest.fixture(scope="module")
def registered(engine: EngineProcess) -> None:
    """The engine knows the workflow."""
    with raw_api(engine.target) as api:
        request = workflow_pb2.RegisterWorkflowRequest(workflow=two_gates())
        api.registry.RegisterWorkflow(request, metadata=bearer(TOKENS.admin), timeout=20)


@pytest.mark.usefixtures("built", "registered")
@pytest.mark.parametrize("protocol", ["connect", "grpc-web"])
def test_a_run_is_followed(engine: EngineProcess, skills: SkillServerProcess, protocol: str) -> None:
    """Events are printed while the run goes on; the program ends with the run."""
    payload = {"first": f"node-{protocol}-1", "second": f"node-{protocol}-2"}
    program = subprocess.Popen(
        ["node", FOLDER / "dist" / "follow.mjs", WORKFLOW, json.dumps(payload), protocol],
        env={**node_environment(), "RUNENGINE_URL": engine.http_url, "TOKEN": TOKENS.writer},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with program:
        assert program.stdout is not None
        told = []
        for line in program.stdout:
            told.append(line.strip())
            if line.endswith(" first is running\n"):
                skills.open_gate(payload["first"])
            if line.endswith(" second is running\n"):
                skills.open_gate(payload["second"])
    assert program.returncode == 0, told
    assert told[0].startswith("run ")
    assert told[-1].endswith(" run is completed")


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("protocol", ["connect", "grpc-web"])
def test_a_refusal_ends_the_program(engine: EngineProcess, protocol: str) -> None:
    """What the engine refuses is printed with its code."""
    done = subprocess.run(
        ["node", FOLDER / "dist" / "follow.mjs", "nowhere", "{}", protocol],
        env={**node_environment(), "RUNENGINE_URL": engine.http_url, "TOKEN": TOKENS.writer},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("[not_found] ")

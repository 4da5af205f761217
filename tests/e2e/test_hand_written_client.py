"""The protos are enough: a client that plain protoc generates, in an environment without RunEngine, does everything."""

import hashlib
import json
import os
import runpy
import subprocess
from pathlib import Path

import anyio
import pytest

from runengine_client import RunEngineClient
from runengine_client.workflow import WorkflowBuilder, expression

from ..support.engine_process import TOKENS, EngineProcess
from ..support.processes import REPOSITORY

pytestmark = pytest.mark.anyio

PROTOS = REPOSITORY / "protos"
PROGRAM = Path(__file__).with_name("hand_written_client.py")


@pytest.fixture(scope="module")
def tool_python() -> Path:
    """The Python of the environment that the generated code comes from: grpcio-tools and no RunEngine."""
    made = runpy.run_path(str(REPOSITORY / ".ci" / "generate_protos.py"))["tool_environment"]()
    assert isinstance(made, Path)
    return made


@pytest.fixture(scope="module")
def generated(tool_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What plain protoc makes of the protos."""
    folder = tmp_path_factory.mktemp("plain")
    files = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    command = [str(tool_python), "-m", "grpc_tools.protoc", "-I", str(PROTOS), f"--python_out={folder}"]
    subprocess.run([*command, f"--grpc_python_out={folder}", *files], check=True, timeout=60)
    return folder


async def test_plain_protoc_client(
    client: RunEngineClient, engine: EngineProcess, tool_python: Path, generated: Path, tmp_path: Path
) -> None:
    """It triggers, sees every event to the end, and lists the artifacts."""
    workflow = (
        WorkflowBuilder("published", version="1.0.0")
        .step("file", skill="t.publish", input={"text": expression("trigger.text"), "filename": "hello.txt"})
        .step("after", skill="t.echo", needs=["file"], input={"file": expression("steps.file.artifacts[0]")})
        .build()
    )
    await client.register_workflow(workflow)
    with anyio.fail_after(40):
        done = await anyio.run_process(
            [tool_python, PROGRAM, engine.target, TOKENS.admin, "published"],
            check=False,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(generated)},
        )
    assert done.returncode == 0, done.stderr.decode()
    seen = json.loads(done.stdout)
    assert seen["foreign"] == []
    assert (seen["status"], seen["completed"], seen["last"]) == ("RUN_STATUS_COMPLETED", 2, "end")
    assert seen["sequences"] == list(range(1, len(seen["sequences"]) + 1))
    assert {"RUN_EVENT_TYPE_RUN_STATUS", "RUN_EVENT_TYPE_STEP_STATUS", "RUN_EVENT_TYPE_ARTIFACT"} <= set(seen["kinds"])
    assert seen["artifacts"] == [["hello.txt", hashlib.sha256(b"hello").hexdigest()]]

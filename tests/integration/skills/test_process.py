"""A skill server as a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import anyio
import pytest

from runengine_client.skills import LedgerEvent, read_ledger
from runengine_server.adapters.skills.grpc_runner import GrpcSkillRunner
from runengine_server.adapters.skills.targets import parse_endpoint
from runengine_server.ports.skill_runner import Failed, Outcome, SkillCall, Succeeded

pytestmark = pytest.mark.anyio
CallFactory = Callable[..., SkillCall]

_PROGRAM = """
import sys
from runengine_client.skills import serve_skills, skill

@skill("t.work")
def work(given, context):
    while not context.is_cancelled() and given.get("hangs"):
        pass
    return {"ok": True}

folder = sys.argv[1]
serve_skills([work], address="127.0.0.1:0", artifact_dir=folder, ledger_path=folder + "/ledger.jsonl",
             on_ready=lambda server: print(server.address, flush=True))
"""


def _ignore(fraction: float, message: str, reported_at: datetime) -> None:
    return


@pytest.mark.parametrize("wanted", [signal.SIGTERM, signal.SIGINT])
async def test_signal_stops_cleanly(wanted: signal.Signals, tmp_path: Path, make_call: CallFactory) -> None:
    """`serve_skills` answers until SIGTERM or SIGINT, then exits with 0."""
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path)]
    async with await anyio.open_process(command, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        address = (await process.stdout.receive()).decode().strip()
        async with GrpcSkillRunner(parse_endpoint(f"grpc://{address}")) as engine:
            assert isinstance(await engine.execute(make_call(), _ignore), Succeeded)
        process.send_signal(wanted)
        with anyio.fail_after(10):
            assert await process.wait() == 0


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ("", "Skill server ready: "),
        ("import logging; logging.basicConfig(level='INFO')", "INFO:runengine.skills:Skill server ready: "),
        ("import logging; logging.basicConfig()", ""),
    ],
    ids=["none", "info", "warning"],
)
async def test_ready_is_said_once(setup: str, said: str, tmp_path: Path) -> None:
    """A script without logging says on standard error where it is ready; any other says what its logging lets pass."""
    command = [sys.executable, "-c", f"{setup}\n{_PROGRAM}", str(tmp_path)]
    async with await anyio.open_process(command) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = (await process.stdout.receive()).decode().strip()
        process.terminate()
        with anyio.fail_after(10):
            told = b"".join([part async for part in process.stderr]).decode()
    lines = [line for line in told.splitlines() if "ready" in line]
    assert [line.partition(", workerId=")[0] for line in lines] == ([f"{said}address={address}"] if said else [])


async def test_killed_runner_fails_the_attempt(tmp_path: Path, make_call: CallFactory) -> None:
    """A runner that dies in a call is SKILL_UNAVAILABLE, retryable, at once; its ledger shows the start."""
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path)]
    outcomes: list[Outcome] = []
    ledger = tmp_path / "ledger.jsonl"
    async with await anyio.open_process(command, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        address = (await process.stdout.receive()).decode().strip()
        async with GrpcSkillRunner(parse_endpoint(f"grpc://{address}")) as engine:

            async def run() -> None:
                outcomes.append(await engine.execute(make_call({"hangs": True}), _ignore))

            with anyio.fail_after(10):
                async with anyio.create_task_group() as group:
                    group.start_soon(run)
                    while not read_ledger(ledger):  # noqa: ASYNC110 - another process writes it
                        await anyio.sleep(0.01)
                    os.kill(process.pid, signal.SIGKILL)
    (failed,) = outcomes
    assert isinstance(failed, Failed)
    assert (failed.failure.code, failed.failure.retryable) == ("SKILL_UNAVAILABLE", True)
    assert [record.event for record in read_ledger(ledger)] == [LedgerEvent.STARTED]

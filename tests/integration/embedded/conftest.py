"""Folders that the servers' account can enter, and other processes that own a stack."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]

# Liveness deadline: the product's target is well below 2 s; ten times that and some, for a loaded machine.
GONE_S_MAX = 20.0

_OWNER = """
import json, pathlib, sys
from runengine_server.adapters.embedded import start_embedded
data_dir = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
with start_embedded(data_dir) as stack:
    print(json.dumps({
        "database_url": stack.database_url, "redis_url": stack.redis_url, "data_dir": str(stack.data_dir),
        "postgres_pid": stack.postgres.pid, "valkey_pid": stack.valkey.pid,
    }), flush=True)
    sys.stdin.read()
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this folder first: they start servers from this process, in which no other test has used grpc.

    Beside gRPC's threads a fork as another account now and then gives a child that ends before its exec (1 run in 3).
    """
    here = Path(__file__).parent
    items.sort(key=lambda item: here not in item.path.parents)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Another Python process, and the stack it says it runs."""

    process: "subprocess.Popen[str]"
    database_url: str
    redis_url: str
    data_dir: Path
    postgres_pid: int
    valkey_pid: int

    def is_everything_gone(self) -> bool:
        """No server process, no keeper and no folder are left."""
        return not self.data_dir.exists() and not processes_naming(self.data_dir)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """The path of a folder that does not exist yet, in one that every account may pass."""
    # Not tmp_path: pytest makes its parent private, so that the account root starts PostgreSQL as could not enter.
    parent = Path(tempfile.mkdtemp(prefix="embedded-test-", dir="/tmp"))
    parent.chmod(0o711)
    yield parent / "data"
    shutil.rmtree(parent)


@pytest.fixture
def spawn_owner() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a process that owns a stack until its standard input ends; killed at the test's end if need be."""
    processes: list[subprocess.Popen[str]] = []

    def spawn(*arguments: str, python: str = sys.executable, uid: int | None = None) -> "subprocess.Popen[str]":
        site_packages = [path for path in sys.path if path.endswith("site-packages")]
        process = subprocess.Popen(
            [python, "-c", _OWNER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *site_packages])},
            start_new_session=True,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )
        processes.append(process)
        return process

    yield spawn
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def start_owner(spawn_owner: Callable[..., "subprocess.Popen[str]"]) -> Callable[..., Owner]:
    """Like `spawn_owner`, and waits until the stack runs."""

    def start(*arguments: str, python: str = sys.executable, uid: int | None = None) -> Owner:
        process = spawn_owner(*arguments, python=python, uid=uid)
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        told = json.loads(line)
        return Owner(process=process, **{**told, "data_dir": Path(told["data_dir"])})

    return start


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Polls until something holds; fails after the liveness deadline."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GONE_S_MAX
        while not holds():
            assert time.monotonic() < deadline, "did not happen in time"
            time.sleep(0.01)

    return wait


@pytest.fixture
def processes_below() -> Callable[[Path], list[str]]:
    """The command lines of all running processes that name a folder."""
    return processes_naming


def processes_naming(folder: Path) -> list[str]:
    """The command lines of all running processes that name the folder (servers and keepers do)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # It may end while we look.
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in command and int(entry.parent.name) not in (os.getpid(), os.getppid()):
                found.append(command)
    return found


@pytest.fixture
def interrupt_group() -> Callable[["subprocess.Popen[str]"], None]:
    """What Ctrl-C in a terminal does: SIGINT to the whole foreground process group."""
    return lambda process: os.killpg(process.pid, signal.SIGINT)

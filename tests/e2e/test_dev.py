"""`make dev` starts again in the same folder, and leaves to other starts what is theirs."""

import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.processes import ManagedProcess

pytest.importorskip("av", reason="the campaign extra is not installed")

START_S_MAX = 90
END_S_MAX = 60


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder; not one of pytest's, which are private: root's database account could not enter it."""
    with tempfile.TemporaryDirectory(prefix="dev-") as made:
        folder = Path(made).resolve()
        folder.chmod(0o755)
        yield folder


def start_dev(folder: Path, log: str, *, http_address: str = "127.0.0.1:0", **environment: str) -> ManagedProcess:
    addresses = {"grpc": "127.0.0.1:0", "http": http_address, "ops": "127.0.0.1:0"}
    command = [sys.executable, "-m", "examples.campaign.dev", "--folder", folder / "dev"]
    command += [part for name, address in addresses.items() for part in (f"--{name}-address", address)]
    return ManagedProcess(command, log_path=folder / log, environment=environment)


def wait_started(dev: ManagedProcess) -> None:
    dev.wait_for_line("The same lines are in ", timeout_s=START_S_MAX)


def exported(text: str) -> dict[str, str]:
    """What a shell has that has sourced the file."""
    return {name: value.strip("'") for name, value in re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE)}


def test_starts_in_one_folder(folder: Path) -> None:
    """A second start is refused and takes nothing; a later one, in a shell of the first, has databases of its own."""
    env_file = folder / "dev" / "env"
    with start_dev(folder, "first.log") as first:
        wait_started(first)
        written = env_file.read_text()
        assert env_file.stat().st_mode & 0o777 == 0o600
        shell = exported(written)
        with start_dev(folder, "second.log", **shell) as second:
            assert second.wait(timeout_s=END_S_MAX) == 2
        assert f"is already in use by pid {first.process.pid}" in second.log
        assert env_file.read_text() == written
        first.interrupt()
        assert first.wait(timeout_s=END_S_MAX) == 0
    assert not env_file.exists()

    with start_dev(folder, "third.log", **shell) as third:
        wait_started(third)
        for name in ("DATABASE_URL", "REDIS_URL"):
            assert f"{name} is of another start of `make dev`, and is not used" in third.log
        assert exported(env_file.read_text()).keys() == shell.keys()
        env_file.write_text("of another start")
        third.process.send_signal(signal.SIGTERM)
        assert third.wait(timeout_s=END_S_MAX) == 128 + signal.SIGTERM
    assert env_file.read_text() == "of another start"


def test_databases_of_others_are_used(folder: Path) -> None:
    """A URL that leads elsewhere is used, be it to a socket; here there is none, and the start says so."""
    elsewhere = f"postgresql://ann@/x?host={folder / 'elsewhere'}&port=1"
    with start_dev(folder, "dev.log", DATABASE_URL=elsewhere, REDIS_URL="redis://127.0.0.1:1/0") as dev:
        assert dev.wait(timeout_s=END_S_MAX) == 2
    assert "where DATABASE_URL and REDIS_URL say" in dev.log
    assert "the database of DATABASE_URL cannot be reached" in dev.log


def test_address_without_host(folder: Path) -> None:
    """A port alone is no address: the refusal names the setting and says how one is written.

    Nor are databases used, before that, whose temporary folder has gone.
    """
    gone = "/tmp/runengine-abcdEF12"
    urls = {"DATABASE_URL": f"postgresql://x@/y?host={gone}/postgres&port=1", "REDIS_URL": f"unix://:z@{gone}/v.sock"}
    with start_dev(folder, "dev.log", http_address="3001", **urls) as dev:
        assert dev.wait(timeout_s=END_S_MAX) == 2
    assert f"PostgreSQL and Valkey in {folder}" in dev.log
    assert "RUNENGINE_HTTP_ADDRESS: Input should be host:port, such as 127.0.0.1:3001" in dev.log
    assert "reachable from other machines" not in dev.log

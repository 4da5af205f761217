"""However the owning process ends, its servers end, and a temporary directory goes with them."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from runengine_server.adapters.embedded import EmbeddedError, start_embedded, start_postgres, start_valkey


def execute(url: str, statement: str) -> object:
    """The value that a statement returns."""

    async def run() -> object:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_killed_owner(start_owner: Callable, eventually: Callable, ending: signal.Signals) -> None:
    """After SIGKILL or SIGTERM of the owner both servers, their keepers and the temporary directory go."""
    owner = start_owner()
    assert execute(owner.database_url, "SELECT 1") == 1
    owner.process.send_signal(ending)
    assert owner.process.wait() == -ending
    eventually(owner.is_everything_gone)


def test_ctrl_c(start_owner: Callable, eventually: Callable, interrupt_group: Callable) -> None:
    """Ctrl-C reaches the owner only, which cleans up before it ends."""
    owner = start_owner()
    assert owner.process.pid not in (os.getpgid(owner.postgres_pid), os.getpgid(owner.valkey_pid))
    interrupt_group(owner.process)
    owner.process.wait()
    assert "KeyboardInterrupt" in owner.process.stderr.read()
    assert owner.is_everything_gone()


@pytest.mark.parametrize("stage", ["valkey", "postgres.new", "postgres"])
def test_killed_while_starting(
    spawn_owner: Callable, eventually: Callable, processes_below: Callable, stage: str
) -> None:
    """An owner killed in the middle of starting leaves neither processes nor files."""
    process: subprocess.Popen[str] = spawn_owner()
    made: list[Path] = []

    def is_at_stage() -> bool:
        made[:] = [path for path in Path("/tmp").glob("runengine-*") if _is_of(path, process.pid)]
        return any((path / stage).exists() for path in made)

    eventually(is_at_stage)
    process.kill()
    process.wait()
    eventually(lambda: not made[0].exists() and not processes_below(made[0]))


def _is_of(directory: Path, pid: int) -> bool:
    try:
        return (directory / "valkey.lock").read_text().strip() == str(pid)
    except OSError:
        return False


def test_restart_right_after_kill(start_owner: Callable, data_dir: Path) -> None:
    """A successor waits for a killed owner's server to stop, and finds what was committed."""
    owner = start_owner(str(data_dir))
    execute(owner.database_url, "CREATE TABLE kept ()")
    owner.process.kill()
    owner.process.wait()
    with start_embedded(data_dir) as stack:
        assert execute(stack.database_url, "SELECT to_regclass('kept')::text") == "kept"


def test_directory_in_use_by_another_process(start_owner: Callable, data_dir: Path) -> None:
    """A directory that another process uses is refused, naming that process."""
    owner = start_owner(str(data_dir))
    with pytest.raises(EmbeddedError, match=f"pid {owner.process.pid}"), start_embedded(data_dir):
        pass


def test_killed_postgres_recovers(data_dir: Path, eventually: Callable) -> None:
    """After SIGKILL of PostgreSQL itself the next start recovers every committed row, stale pid file or not."""
    with start_postgres(data_dir) as running:
        execute(running.url, "CREATE TABLE kept ()")
        os.kill(running.pid, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{running.pid}").exists())
    assert (data_dir / "postgres" / "postmaster.pid").exists()
    with start_postgres(data_dir) as again:
        assert execute(again.url, "SELECT to_regclass('kept')::text") == "kept"


def test_killed_postgres_of_a_temporary_directory() -> None:
    """The temporary directory goes although its server was killed."""
    # In /dev/shm a killed server leaves a megabyte, which only a next start on the same data would remove.
    with start_postgres(settings={"dynamic_shared_memory_type": "mmap"}) as running:
        os.kill(running.pid, signal.SIGKILL)
    assert not running.data_dir.exists()


def test_stale_pid_file_naming_a_stranger(data_dir: Path) -> None:
    """A left-over postmaster.pid whose pid now belongs to another program does not stop the server from starting."""
    with start_postgres(data_dir) as running:
        pid_file = (data_dir / "postgres" / "postmaster.pid").read_text()
        owner_id = Path(f"/proc/{running.pid}").stat().st_uid
    stranger = subprocess.Popen(["sleep", "60"], user=owner_id if os.geteuid() == 0 else None, cwd="/")
    try:
        lines = [str(stranger.pid), *pid_file.splitlines()[1:]]
        (data_dir / "postgres" / "postmaster.pid").write_text("\n".join(lines) + "\n")
        with start_postgres(data_dir) as again:
            assert execute(again.url, "SELECT 1") == 1
    finally:
        stranger.kill()
        stranger.wait()


def test_forked_child_does_not_keep_servers() -> None:
    """A child forked without exec does not hold the servers' pipe, so they can stop while it lives."""
    context = multiprocessing.get_context("fork")
    with start_valkey() as running:
        leave = context.Event()
        child = context.Process(target=leave.wait, args=(60,))
        child.start()
    try:
        assert child.is_alive()
        assert not running.data_dir.exists()
    finally:
        leave.set()
        child.join()


def test_forked_child_does_not_stop_servers() -> None:
    """A forked child that runs the end of the block leaves the parent's servers alone."""
    context = start_postgres()
    running = context.__enter__()
    try:
        child = os.fork()
        if child == 0:
            try:
                context.__exit__(None, None, None)
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert execute(running.url, "SELECT 1") == 1
    finally:
        context.__exit__(None, None, None)

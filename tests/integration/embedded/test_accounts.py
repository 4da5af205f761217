"""The servers run as an unprivileged account: that of the user, or, for root, one that is not root."""

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from runengine_server.adapters.embedded import EmbeddedError, start_embedded, start_postgres

REPOSITORY = Path(__file__).resolve().parents[3]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# In the user database everywhere, and neither root nor what root chooses by itself.
DAEMON_UID = 1


def python_for(uid: int) -> str:
    """An interpreter that the user can execute and that can import the product; skips the test without one."""
    site_packages = [path for path in sys.path if path.endswith("site-packages")]
    check = "import sys; assert sys.version_info >= (3, 11); import runengine_server.adapters.embedded"
    for python in (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [python, "-c", check],
                cwd="/",
                env={"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *site_packages])},
                user=uid,
                group=uid,
                extra_groups=[],
                check=True,
                capture_output=True,
            )
            return python
    pytest.skip(f"uid {uid} can reach no Python 3.11 that imports the product (private home folder?)")


async def select_one(url: str) -> object:
    """1, from the server."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetchval("SELECT 1")
    finally:
        await connection.close()


@as_root
def test_root_runs_nothing_as_root() -> None:
    """Started by root, both servers run as `nobody`, with no group of root's."""
    with start_embedded() as stack:
        for pid in (stack.postgres.pid, stack.valkey.pid):
            status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            assert set(status["Uid"].split()) == {str(pwd.getpwnam("nobody").pw_uid)}
            assert status["Groups"].split() in ([], [status["Gid"].split()[0]])
        assert asyncio.run(select_one(stack.database_url)) == 1


@as_root
def test_configured_account(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    """Root can name the account; later starts take the data's owner without being told."""
    monkeypatch.setenv("RUNENGINE_EMBEDDED_USER", pwd.getpwuid(DAEMON_UID).pw_name)
    with start_postgres(data_dir):
        assert (data_dir / "postgres").stat().st_uid == DAEMON_UID
    monkeypatch.delenv("RUNENGINE_EMBEDDED_USER")
    with start_postgres(data_dir) as again:
        assert Path(f"/proc/{again.pid}").stat().st_uid == DAEMON_UID


@as_root
@pytest.mark.parametrize("name", ["root", "no-such-user-here"])
def test_unusable_account_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An account that cannot run PostgreSQL is refused by the variable's name."""
    monkeypatch.setenv("RUNENGINE_EMBEDDED_USER", name)
    with pytest.raises(EmbeddedError, match="RUNENGINE_EMBEDDED_USER"), start_embedded():
        pass


@as_root
def test_private_parent_is_refused_not_opened(data_dir: Path) -> None:
    """A data directory below a private folder is refused with the reason; the folder stays private."""
    data_dir.mkdir(mode=0o700)
    with pytest.raises(EmbeddedError, match=r"cannot enter .*inner"), start_embedded(data_dir / "inner"):
        pass
    assert data_dir.stat().st_mode & 0o777 == 0o700


@as_root
def test_private_temporary_folder_is_avoided(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where root's TMPDIR is private, a temporary stack goes where its account can enter."""
    data_dir.mkdir(mode=0o700)
    monkeypatch.setattr("tempfile.tempdir", str(data_dir))
    with start_postgres() as running:
        assert not running.data_dir.is_relative_to(data_dir)


@as_root
def test_normal_user(start_owner: Callable, eventually: Callable) -> None:
    """A normal user without HOME runs both servers as himself; killed, he leaves nothing."""
    owner = start_owner(python=python_for(DAEMON_UID), uid=DAEMON_UID)
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in (owner.postgres_pid, owner.valkey_pid)} == {DAEMON_UID}
    assert asyncio.run(select_one(owner.database_url)) == 1
    owner.process.kill()
    owner.process.wait()
    eventually(owner.is_everything_gone)


@as_root
def test_user_without_a_name_is_told(spawn_owner: Callable) -> None:
    """A uid that the user database does not know is told why it cannot create a cluster."""
    process = spawn_owner(python=python_for(12345), uid=12345)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "/etc/passwd" in errors


@as_root
def test_private_binaries_are_copied_once(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Binaries below a private folder run from one copy, which is reused, and replaced when they change."""
    cache = data_dir.parent / "cache"
    monkeypatch.setattr("runengine_server.adapters.embedded.binary_copy.BASE_DIRECTORIES", (cache,))
    private = data_dir.parent / "private"
    private.mkdir(mode=0o700)
    with start_postgres() as running:
        package = running.bin_dir.parents[1]
    shutil.copytree(package, private / package.name, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, private / libraries.name)
    bin_dir = private / package.name / "pginstall" / "bin"

    used = []
    for _ in range(2):
        with start_postgres(postgres_bin=bin_dir) as running:
            assert asyncio.run(select_one(running.url)) == 1
            used.append((running.bin_dir, (running.bin_dir / "postgres").stat().st_ino))
    assert used[0] == used[1]
    assert used[0][0].is_relative_to(cache)

    with start_postgres(postgres_bin=bin_dir) as old:
        os.utime(bin_dir / "postgres", (1, 1))
        with start_postgres(postgres_bin=bin_dir) as new:
            assert new.bin_dir != old.bin_dir
            assert len(list(cache.iterdir())) == 2, "the copy in use stays"
        assert asyncio.run(select_one(old.url)) == 1
    with start_postgres(postgres_bin=bin_dir):
        assert len(list(cache.iterdir())) == 1, "unused copies are removed"
    assert private.stat().st_mode & 0o777 == 0o700

"""Creates a PostgreSQL cluster on disk, and reads what its files say about version, password and server state."""

import os
import secrets
import shutil
from pathlib import Path

from runengine_server.adapters.embedded.binaries import POSTGRES_VARIABLE, PostgresBinaries
from runengine_server.adapters.embedded.data_directory import DataDirectory
from runengine_server.adapters.embedded.errors import EmbeddedError
from runengine_server.adapters.embedded.keeper import Keeper, Kept

DATABASE_USER = "runengine"

# 0.5 s on a laptop; a slow network disk that honours fsync takes many seconds.
INITDB_S_MAX = 180.0

# The first with a collation provider of its own, which sorts and upper-cases alike on every machine.
_BUILTIN_LOCALE_MAJOR = 17


def create_cluster(directory: DataDirectory, binaries: PostgresBinaries, inherited_fds: tuple[int, ...]) -> None:
    """`postgres/` holds a new cluster: UTF-8, C.UTF-8, checksums as the version's default.

    Made beside its place and renamed when complete, so an interrupted creation is never mistaken for a cluster.

    Raises:
        EmbeddedError: When initdb fails, with its output; or would fail, with the reason.
    """
    if not directory.account.has_name():
        raise EmbeddedError(
            f"PostgreSQL's initdb refuses uid {directory.account.name} because the user database has no name for it: "
            f"add the uid to /etc/passwd, run as another user, or use a data directory that was created elsewhere"
        )
    unfinished = directory.path / "postgres.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    # 192 random bits; URL-safe, so it needs no quoting anywhere.
    password_path = directory.write_secret("postgres.password", secrets.token_urlsafe(24) + "\n")
    directory.make_private("postgres.new")
    keeper = Keeper(
        Kept(
            name="postgres",
            command=_initdb_command(directory, binaries, unfinished, password_path),
            account=directory.account,
            log_path=directory.path / "postgres.log",
            inherited_fds=inherited_fds,
            gentle_signal="TERM",
            patience_s=5,
            firm_signal="KILL",
        )
    )
    try:
        status = keeper.exit_status(INITDB_S_MAX)
    finally:
        keeper.stop()
    if status != 0:
        ended = "did not end" if status is None else f"failed with status {status}"
        raise EmbeddedError(f"initdb {ended}:\n{keeper.log_tail()}")
    unfinished.rename(directory.path / "postgres")
    if not directory.is_temporary:
        _sync_folder(directory.path)


def check_cluster(cluster: Path, binaries: PostgresBinaries) -> None:
    """The existing cluster can be started with these binaries; a left-over postmaster.pid does not hinder it.

    Raises:
        EmbeddedError: When it is of another major version, no cluster at all, or a server runs on it.
    """
    try:
        version = (cluster / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise EmbeddedError(f"{cluster} exists but holds no readable PostgreSQL cluster: {error}") from error
    if version != str(binaries.major):
        raise EmbeddedError(
            f"{cluster} was created by PostgreSQL {version}, but {binaries.bin_dir} is version {binaries.major}: set "
            f"{POSTGRES_VARIABLE} to a version {version} bin directory, or move the data with pg_dump or pg_upgrade"
        )
    pid = _postmaster_lines(cluster)[0]
    if pid.isdigit():
        _check_postmaster(cluster, int(pid))


def postmaster_status(cluster: Path, pid: int) -> str:
    """What the server `pid` says of itself (`starting`, `ready`, `stopping`), or '' while it says nothing yet.

    The same file that `pg_ctl` waits on; a connection attempt would be refused, and logged, while it recovers.
    """
    lines = _postmaster_lines(cluster)
    return lines[7].strip() if len(lines) > 7 and lines[0] == str(pid) else ""


def read_password(directory: DataDirectory) -> str:
    """The password that TCP connections need.

    Raises:
        EmbeddedError: When its file is missing.
    """
    path = directory.path / "postgres.password"
    try:
        return path.read_text().strip()
    except OSError as error:
        raise EmbeddedError(f"the password of the existing cluster cannot be read: {error}") from error


def _initdb_command(
    directory: DataDirectory, binaries: PostgresBinaries, target: Path, password_path: Path
) -> list[str]:
    command = [
        str(binaries.bin_dir / "initdb"),
        f"--pgdata={target}",
        f"--username={DATABASE_USER}",
        f"--pwfile={password_path}",
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-instructions",
    ]
    if binaries.major >= _BUILTIN_LOCALE_MAJOR:
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if directory.is_temporary:
        command.append("--no-sync")  # A machine that crashes loses the temporary directory anyway.
    return command


def _check_postmaster(cluster: Path, pid: int) -> None:
    """A process that has the recorded pid is either this cluster's server (refused) or a stranger (file removed).

    After a reboot or in a new container the pid may belong to anything. PostgreSQL would refuse to start if that ran
    as the same account, so it is told apart here by its working directory, which a server sets to its cluster. Where
    that cannot be read PostgreSQL decides; a pid that nobody has is its own business, too.
    """
    try:
        working_directory = Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return
    if working_directory == cluster:
        raise EmbeddedError(f"{cluster} is already in use by pid {pid}")
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def _postmaster_lines(cluster: Path) -> list[str]:
    try:
        return (cluster / "postmaster.pid").read_text().splitlines() or [""]
    except OSError:
        return [""]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

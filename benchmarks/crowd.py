"""Watchers in a process of their own (`watcher.py`), and what they saw."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from benchmarks.bench import BenchmarkError, child
from benchmarks.watcher import Seen
from examples.campaign.child import Child


@dataclass(frozen=True, slots=True)
class Crowd:
    """Attached watchers."""

    _process: Child

    async def seen(self) -> Seen:
        """What they saw, once every run they watch has ended.

        Raises:
            BenchmarkError: a watch broke.
        """
        status = await anyio.to_thread.run_sync(self._process.wait_ended)
        if status:
            raise BenchmarkError(f"the watchers ended with status {status}:\n{self._process.tail()}")
        return Seen(**json.loads(self._process.tail().splitlines()[-1]))


async def attached(resources: ExitStack, folder: Path, target: str, watchers: int, runs: Sequence[str]) -> Crowd:
    """Every watcher has had its first message."""
    file = folder / "watched"
    file.write_text("\n".join(runs))
    process = child(resources, "benchmarks.watcher", target, str(watchers), str(file))
    await anyio.to_thread.run_sync(process.wait_for, lambda line: line == "attached")
    return Crowd(process)

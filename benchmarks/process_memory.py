"""How much memory a process has, from Linux's /proc."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SAMPLE_S: Final = 0.05


@dataclass(slots=True)
class Peak:
    """The most a process has had while it was looked at, in bytes."""

    value: int = 0


def resident_bytes(pid: int) -> int:
    """What lies in memory of a process, libraries too."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no memory")


@asynccontextmanager
async def peak_of(pid: int) -> AsyncIterator[Peak]:
    """The most that the process has while the block lasts, looked at every 50 ms."""
    peak = Peak(resident_bytes(pid))

    async def look() -> None:
        while True:
            peak.value = max(peak.value, resident_bytes(pid))
            await asyncio.sleep(_SAMPLE_S)

    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(look())
        try:
            yield peak
        finally:
            peak.value = max(peak.value, resident_bytes(pid))
            looking.cancel()

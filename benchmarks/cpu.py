"""How much CPU time each part of the system has used, from Linux's /proc, so that a noisy machine can still be read."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import sysconf
from pathlib import Path
from time import process_time
from typing import Self

_PROC = Path("/proc")
_NS = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """Seconds of CPU time, of all cores together.

    Attributes:
        engine: this process (engine, no-op skill, whoever starts the runs) and further engines.
        postgres: the server and all its backends and workers.
        valkey: the hot cache.
        skills: the skill server.
    """

    engine: float
    postgres: float
    valkey: float
    skills: float

    def __sub__(self, earlier: Self) -> "CpuTimes":
        """What was used in between."""
        return CpuTimes(
            engine=self.engine - earlier.engine,
            postgres=self.postgres - earlier.postgres,
            valkey=self.valkey - earlier.valkey,
            skills=self.skills - earlier.skills,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Process ids to read; this process is always read."""

    postgres: int
    valkey: int
    skills: Sequence[int] = ()
    engines: Sequence[int] = ()

    def cpu_times(self) -> CpuTimes:
        """What they have used since they started; zeros where there is no /proc."""
        return CpuTimes(
            engine=process_time() + sum(map(_process_s, self.engines)),
            postgres=_server_s(self.postgres),
            valkey=_process_s(self.valkey),
            skills=sum(map(_process_s, self.skills)),
        )


def _process_s(pid: int) -> float:
    """All living threads, in nanoseconds' resolution; `stat` would give ticks of 10 ms."""
    total_ns = 0
    for thread in (_PROC / str(pid) / "task").glob("*/schedstat"):
        total_ns += int(_read(thread).partition(" ")[0] or 0)
    return total_ns / _NS


def _server_s(pid: int) -> float:
    """A server, its living children, and the children it has already waited for."""
    fields = _stat(pid)
    waited_for = (int(fields[13]) + int(fields[14])) / sysconf("SC_CLK_TCK") if fields else 0.0
    return waited_for + sum(map(_process_s, _family(pid)))


def _family(pid: int) -> Iterator[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for entry in _PROC.glob("[0-9]*"):
        if fields := _stat(int(entry.name)):
            children[int(fields[1])].append(int(entry.name))
    waiting = [pid]
    while waiting:
        member = waiting.pop()
        yield member
        waiting += children[member]


def _stat(pid: int) -> list[str]:
    """The fields after the command's name, which may have spaces: state is 0, parent 1; empty if it is gone."""
    return _read(_PROC / str(pid) / "stat").rpartition(")")[2].split()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it ended meanwhile
        return ""

"""The scheduler's bounds; every queue, batch and wait has one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """Times in seconds.

    Attributes:
        attempts_max: attempts in flight at once in this process.
        backlog_max: leased attempts beyond the limits of their skills, which wait and do not count in `attempts_max`;
            further ones do.
        batch_max: completions in one tick.
        pipelines: ticks in flight at once (2 were best, more do not help).
        permits_s: between two looks at the permits of skills in use (see scheduler/skill_gates.py).
        poll_s: the longest wait before the queue is looked at without a hint.
        lease_s: how long the process may be silent before others take its steps; renewed every third.
        drain_s: how long completions may still be committed at shutdown.
        contexts_max: runs whose facts are kept in memory.
        values_bytes_max: outputs kept in memory, by the size of their canonical bytes.
    """

    attempts_max: int = 1000
    backlog_max: int = 10_000
    batch_max: int = 500
    pipelines: int = 2
    permits_s: float = 0.5
    poll_s: float = 0.5
    lease_s: float = 10.0
    drain_s: float = 5.0
    contexts_max: int = 5000
    values_bytes_max: int = 64 * 1024 * 1024

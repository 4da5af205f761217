"""Words and colours of runs and steps, the same in every table, line and live view."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from rich.text import Text

from runengine_client.states import CacheOutcome, MissReason, OutputSource, RunStatus, StepStatus
from runengine_client.types import CacheDecision, Failure, StepsSummary

_COLOURS = {
    "queued": "yellow",
    "pending": "bright_black",
    "ready": "yellow",
    "delayed": "yellow",
    "waiting": "bright_black",
    "held": "bright_black",
    "running": "cyan",
    "completed": "green",
    "skipped": "blue",
    "failed": "red",
    "cancelled": "magenta",
    "execute": "cyan",
    "reuse": "blue",
    "unknown": "yellow",
}

_SOURCES = {
    OutputSource.BASE_RUN: "from base run",
    OutputSource.CACHE_HOT: "cache hit (hot)",
    OutputSource.CACHE_COLD: "cache hit (cold)",
    OutputSource.JOINED: "joined another run's step",
}

_OUTCOMES = {
    CacheOutcome.DISABLED: "not cached",
    CacheOutcome.REFRESHED: "cache refreshed",
    CacheOutcome.BYPASSED: "cache bypassed",
    CacheOutcome.JOINED: "follows an identical step",
    CacheOutcome.LOOKUP_FAILED: "cache lookup failed",
}

POINTERS_SHOWN = 3


def status_text(status: RunStatus | StepStatus | str, *, width: int = 0) -> Text:
    """The status word in its colour, padded to a width."""
    return Text(str(status).ljust(width), style=status_style(str(status)))


def status_style(status: str) -> str:
    """The colour of a status word; empty for a word that has none."""
    return _COLOURS.get(status, "")


def span(value: timedelta | None) -> str:
    """A duration a person reads at a glance: 340 ms, 5.2 s, 3 m 07 s; empty for None."""
    if value is None:
        return ""
    seconds = max(0.0, value.total_seconds())
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} m"


def moment(value: datetime | None) -> str:
    """A time of day in UTC with its date; empty for None."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if value else ""


def clock(value: datetime | None) -> str:
    """A time of day in UTC, for event lines."""
    return value.astimezone(UTC).strftime("%H:%M:%S") if value else "--:--:--"


def reuse(source: OutputSource | None, cache: CacheDecision | None) -> str:
    """Where an output comes from, or why it was not to be had; empty where there is nothing to say."""
    if source in _SOURCES:
        age = f", {span(cache.age)} old" if cache and cache.age else ""
        return _SOURCES[source] + age
    if cache is None:
        return ""
    if cache.miss_reason is MissReason.SCOPE:
        return _OUTCOMES[CacheOutcome.DISABLED]
    if cache.outcome is CacheOutcome.MISS:
        return f"cache miss: {_miss(cache)}"
    return _OUTCOMES.get(cache.outcome, "")


def _miss(cache: CacheDecision) -> str:
    reason = (cache.miss_reason or MissReason.UNKNOWN).replace("_", " ")
    return f"{reason} at {pointers(cache.changed_pointers)}" if cache.changed_pointers else reason


def pointers(found: Sequence[str]) -> str:
    """The first of the pointers; the input itself has an empty one."""
    shown = ", ".join(pointer or "its root" for pointer in found[:POINTERS_SHOWN])
    return f"{shown}, …" if len(found) > POINTERS_SHOWN else shown


def failure(error: Failure | None) -> str:
    """A failure in one line; empty for None."""
    if error is None:
        return ""
    where = f" at {error.step_id}" if error.step_id else ""
    what = f": {error.message}" if error.message else ""
    return f"{error.code}{where}{what}"


def summary(counts: StepsSummary) -> str:
    """The steps of a run by status, without the zeros."""
    named = {
        "completed": counts.completed,
        "skipped": counts.skipped,
        "running": counts.running,
        "pending": counts.pending,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
    }
    parts = [f"{count} {name}" for name, count in named.items() if count]
    return f"{counts.total} steps: {', '.join(parts)}" if parts else f"{counts.total} steps"


def size(count: int) -> str:
    """A number of bytes a person reads at a glance."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def shortened(text: str, characters_max: int) -> str:
    """The text on one line, cut off with an ellipsis where it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= characters_max else line[: characters_max - 1].rstrip() + "…"

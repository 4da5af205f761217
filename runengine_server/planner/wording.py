"""How explanations put values: spans and moments, lists of names, a difference, what the cache decided."""

from collections.abc import Sequence
from datetime import UTC, datetime

from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.failure import Failure
from runengine_server.domain.states import CacheMode, CacheOutcome, MissReason
from runengine_server.planner.input_changes import InputChange, Source, SourceKind

NAMES_SHOWN_MAX = 8
TEXT_CHARACTERS_MAX = 300

_MISSES = {
    MissReason.NEVER_SEEN: "the cache has never held an output of this step",
    MissReason.INPUT_CHANGED: "the cache holds outputs of this step, but none of this input",
    MissReason.SKILL_CHANGED: "the cached output of this input was made by another skill or cache version",
    MissReason.EPOCH_CHANGED: "the cached output of this input belongs to another cache epoch of the workflow",
    MissReason.INVALIDATED: "the cached output of this input was invalidated",
    MissReason.EVICTED: "the cached output of this input was cleaned up",
    MissReason.ARTIFACT_GONE: "an artifact of the cached output no longer exists",
}

_OUTCOMES = {
    CacheOutcome.DISABLED: "Caching is disabled for this step.",
    CacheOutcome.REFRESHED: "The cache was not read but gets the new output (refresh).",
    CacheOutcome.BYPASSED: "The cache was neither read nor written (bypass).",
    CacheOutcome.LOOKUP_FAILED: "The cache could not be asked: it, or the version of the skill, was not known.",
    CacheOutcome.JOINED: "It followed an identical step of another run, which did not succeed.",
}


def cache_sentence(decision: CacheDecision | None, mode: CacheMode) -> str:
    """What the cache did for a step that was executed; empty where there is nothing to say."""
    if decision is None:
        return ""
    if decision.miss_reason is MissReason.SCOPE:
        return "The step's cache scope is run_only: other runs never reuse its output."
    if decision.outcome is not CacheOutcome.MISS:
        return _OUTCOMES.get(decision.outcome, "")
    known = _MISSES.get(decision.miss_reason) if decision.miss_reason is not None else None
    kept = "; its own output is not stored (read_only)" if mode is CacheMode.READ_ONLY else ""
    return f"Cache miss: {known or 'there is no entry'}{kept}."


def change_phrase(change: InputChange, *, is_update: bool) -> str:
    """A difference with its values and what it comes from: `/style: "calm" -> "epic", which comes from …`.

    Args:
        change: the difference.
        is_update: the later run is an update of the earlier one, so whatever differs in the payload was requested.
    """
    before = "nothing" if change.before is None else change.before
    after = "nothing" if change.after is None else change.after
    origins = list(dict.fromkeys(_origin(source, is_update=is_update) for source in change.sources))
    comes_from = f", which comes from {named(origins)}" if origins else ""
    return f"{change.pointer or 'its root'}: {before} -> {after}{comes_from}"


def failure_phrase(failure: Failure | None) -> str:
    """` with CODE: message`, the message on one line; empty for None."""
    if failure is None:
        return ""
    message = one_line(failure.message).rstrip(".")
    return f" with {failure.code}: {message}" if message else f" with {failure.code}"


def one_line(text: str) -> str:
    """The text on one line, cut off where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= TEXT_CHARACTERS_MAX else line[: TEXT_CHARACTERS_MAX - 1] + "…"


def named(names: Sequence[str]) -> str:
    """The names as one enumeration, the first eight of many; empty without any."""
    shown = list(names[:NAMES_SHOWN_MAX])
    if len(names) > NAMES_SHOWN_MAX:
        shown.append(f"{len(names) - NAMES_SHOWN_MAX} more")
    return shown[0] if len(shown) == 1 else " and ".join([", ".join(shown[:-1]), shown[-1]]) if shown else ""


def span(seconds: float) -> str:
    """A duration a person reads at a glance: 340 ms, 5.2 s, 3 m 07 s, 2 h 05 m, 3 d 4 h."""
    if seconds < 1:
        return f"{round(max(0.0, seconds) * 1000)} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def moment(value: datetime) -> str:
    """A time in UTC with its date."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _origin(source: Source, *, is_update: bool) -> str:
    match source.kind:
        case SourceKind.TRIGGER:
            place = f" at {source.name}" if source.name else ""
            return f"the change request{place}" if is_update else f"the trigger payload{place}"
        case SourceKind.CHANGE:
            return "the change request"
        case SourceKind.RUN:
            return "the run's own id"
        case SourceKind.OUTPUT:
            return f"the output of {source.name}"
        case SourceKind.ARTIFACTS:
            return f"the artifacts of {source.name}"
        case SourceKind.DEFINITION:
            return "the workflow's definition"

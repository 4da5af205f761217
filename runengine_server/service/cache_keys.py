"""What callers say to name cache entries, checked once for all use cases on the cache."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.planner.compiled import CompiledWorkflows
from runengine_server.ports.cache_admin import CacheAdmin

_KEY = re.compile(r"([a-z][a-z0-9_.-]{0,127}):([a-z][a-z0-9_]{0,63}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManageCache:
    """What it takes to look into the step cache and to remove entries from it."""

    admin: CacheAdmin
    workflows: CompiledWorkflows


def parse_key(key: str) -> tuple[str, str, str] | None:
    """Workflow, step and input hash of a key; None when it is none."""
    match = _KEY.fullmatch(key)
    return (match[1], match[2], match[3]) if match else None


def key_violation(field: str) -> FieldViolation:
    """What is wrong with a text that is no key."""
    return FieldViolation(
        field=field, description="must be workflowName:stepId:inputHash, the hash as 64 lower-case hex digits"
    )


def refuse(violations: Sequence[FieldViolation]) -> None:
    """Return when there are none.

    Raises:
        InvalidError: VALIDATION_FAILED, with all of them.
    """
    if violations:
        raise InvalidError(
            "VALIDATION_FAILED",
            "the request is not valid: " + "; ".join(f"{each.field}: {each.description}" for each in violations),
            violations=violations,
        )

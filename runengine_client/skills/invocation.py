"""Runs a skill's function once and turns whatever happens into an outcome.

An exception that is not a `SkillError` becomes SKILL_FAILED. It is retryable unless its type says that the code itself
is wrong (`TypeError`, `AttributeError`, `NameError`, `ImportError`, `NotImplementedError`, `AssertionError`), for then
another attempt does the same again. The wire carries the type's name and an error id; message and stack trace go to the
log under that id, because they may quote the input.
"""

import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from runengine_client.skills.artifact_folder import Artifact
from runengine_client.skills.context import CallFacts
from runengine_client.skills.errors import SkillError

OUTPUT_BYTES_MAX: Final = 1 << 20
_CODE_IS_WRONG: Final = (TypeError, AttributeError, NameError, ImportError, NotImplementedError, AssertionError)

# NaN and infinities are not JSON; orjson would write null for them without a word.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

_log = logging.getLogger("runengine.skills")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSucceeded:
    """The skill returned an output."""

    output_json: bytes
    artifacts: tuple[Artifact, ...] = ()
    do_not_cache: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed:
    """The skill failed, timed out or was cancelled."""

    code: str
    message: str
    retryable: bool = False
    retry_after_s: float | None = None
    details: Mapping[str, Any] | None = None


CallOutcome = CallSucceeded | CallFailed


def encode_output(output: object) -> bytes:
    """The output as JSON bytes.

    Raises:
        SkillError: OUTPUT_INVALID (not a JSON object) or OUTPUT_TOO_LARGE (above 1 MiB).
    """
    if not isinstance(output, dict):
        raise SkillError("OUTPUT_INVALID", f"The skill returned {type(output).__name__} instead of a JSON object")
    try:
        encoded = _ENCODER.encode(output).encode()
    except (TypeError, ValueError, RecursionError) as problem:
        raise SkillError("OUTPUT_INVALID", f"The skill's output is not JSON ({type(problem).__name__})") from problem
    if len(encoded) > OUTPUT_BYTES_MAX:
        raise SkillError(
            "OUTPUT_TOO_LARGE", f"The skill's output has {len(encoded)} bytes; more than 1 MiB belongs in an artifact"
        )
    return encoded


def failure_of(problem: BaseException, facts: CallFacts) -> CallFailed:
    """What the engine is told of an exception; what it must not see is logged."""
    if isinstance(problem, SkillError):
        return CallFailed(
            code=problem.code,
            message=problem.message,
            retryable=problem.retryable,
            retry_after_s=problem.retry_after_s,
            details=problem.details,
        )
    error_id = uuid.uuid4().hex[:12]
    _log.error(
        "Skill raised: skillId=%s, runId=%s, stepId=%s, attempt=%d, errorId=%s",
        facts.skill_id,
        facts.run_id,
        facts.step_id,
        facts.attempt,
        error_id,
        exc_info=problem,
    )
    return CallFailed(
        code="SKILL_FAILED",
        message=f"The skill failed with {type(problem).__name__} (error id {error_id}; see its log)",
        retryable=not isinstance(problem, _CODE_IS_WRONG),
    )

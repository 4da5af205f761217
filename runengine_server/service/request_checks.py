"""What every request that starts a run must satisfy, whatever surface it came through."""

from collections.abc import Mapping

import anyio.to_thread

from runengine_server.domain.canonical_json import (
    DEFAULT_LIMITS,
    JsonLimitExceeded,
    NotCanonical,
    canonical_bytes,
    check_encoded,
)
from runengine_server.domain.errors import ExhaustedError, FieldViolation, InvalidError, PreconditionError
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.skill_runner import SkillRunner
from runengine_server.service.trigger_schema import check_payload_schema

REQUEST_ID_LENGTH_MAX = 128
LABELS_MAX = 64
LABEL_KEY_LENGTH_MAX = 63
LABEL_VALUE_LENGTH_MAX = 255

# Checking takes up to 20 µs an item: what would hold the event loop for milliseconds goes to a thread.
_INLINE_SCHEMA_BYTES_MAX = 16 * 1024

DEADLINE_S_MAX = 365 * 24 * 3600.0


def check_options(*, request_id: str, labels: Mapping[str, str], priority: int, deadline_s: float | None) -> None:
    """Check what all requests that start a run have in common.

    Raises:
        InvalidError: VALIDATION_FAILED, with every field that is wrong.
    """
    wrong = []
    if len(request_id) > REQUEST_ID_LENGTH_MAX or not request_id.isprintable():
        wrong.append(
            FieldViolation(field="requestId", description=f"at most {REQUEST_ID_LENGTH_MAX} printable characters")
        )
    if len(labels) > LABELS_MAX:
        wrong.append(FieldViolation(field="labels", description=f"at most {LABELS_MAX} labels"))
    for key, value in labels.items():
        is_printable = key.isprintable() and value.isprintable()
        if not key or len(key) > LABEL_KEY_LENGTH_MAX or len(value) > LABEL_VALUE_LENGTH_MAX or not is_printable:
            wrong.append(
                FieldViolation(
                    field=f'labels["{key[:LABEL_KEY_LENGTH_MAX]}"]',
                    description=f"keys have 1 to {LABEL_KEY_LENGTH_MAX} printable characters, "
                    f"values at most {LABEL_VALUE_LENGTH_MAX}",
                )
            )
    if not 0 <= priority <= 9:
        wrong.append(FieldViolation(field="priority", description="from 0 (default) to 9 (first)"))
    if deadline_s is not None and not 0 < deadline_s <= DEADLINE_S_MAX:
        wrong.append(FieldViolation(field="deadline", description="more than 0 seconds and at most a year"))
    if wrong:
        raise InvalidError(
            "VALIDATION_FAILED",
            "the request is not valid: " + "; ".join(f"{v.field}: {v.description}" for v in wrong),
            violations=wrong,
        )


def canonical_payload(field: str, payload: JsonObject) -> bytes:
    """The payload's canonical bytes, within the limits.

    Raises:
        ExhaustedError: PAYLOAD_TOO_LARGE.
        InvalidError: VALIDATION_FAILED, naming the place.
    """
    try:
        body = canonical_bytes(payload)
        check_encoded(payload, body, DEFAULT_LIMITS)
    except JsonLimitExceeded as error:
        raise ExhaustedError(
            "PAYLOAD_TOO_LARGE",
            f"{field}{error.pointer}: {error.problem}; put large content into an artifact and refer to it",
        ) from None
    except NotCanonical as error:
        place = f"{field}{error.pointer}"
        raise InvalidError(
            "VALIDATION_FAILED",
            f"{place}: {error.problem}",
            violations=[FieldViolation(field=place, description=error.problem)],
        ) from None
    return body


async def check_schema(workflow: Workflow, payload: JsonObject, payload_bytes: int) -> None:
    """Check an effective payload against the workflow's trigger schema; a large one beside the event loop.

    Raises:
        InvalidError: PAYLOAD_SCHEMA_MISMATCH, with a violation for each place.
    """
    if workflow.trigger_schema is None:
        return
    if payload_bytes <= _INLINE_SCHEMA_BYTES_MAX:
        check_payload_schema(workflow, payload)
    else:
        await anyio.to_thread.run_sync(check_payload_schema, workflow, payload)


def check_skills_offered(workflow: Workflow, skills: SkillRunner) -> None:
    """Check that every skill has a target, and is listed wherever the target's list is known.

    A runner that cannot be reached right now is no reason to refuse: its steps wait and retry.

    Raises:
        PreconditionError: SKILL_UNREGISTERED, naming every such skill.
    """
    missing = set()
    for step in workflow.steps:
        known = skills.availability(step.skill_id)
        if not known.has_target or (known.is_catalogue_known and known.info is None):
            missing.add(step.skill_id)
    if missing:
        names = ", ".join(sorted(missing))
        raise PreconditionError(
            "SKILL_UNREGISTERED",
            f"no skill runner offers {names}; start a runner that does or correct the target map",
            metadata={"skillIds": names},
        )

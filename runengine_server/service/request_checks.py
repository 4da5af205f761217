"""What every request that starts a run must satisfy, whatever surface it came through."""

import re
from collections.abc import Mapping, Sequence

import anyio.to_thread

from runengine_server.domain.base_run import BaseRun
from runengine_server.domain.caller import Caller
from runengine_server.domain.canonical_json import (
    DEFAULT_LIMITS,
    JsonLimitExceeded,
    NotCanonical,
    canonical_bytes,
    check_encoded,
)
from runengine_server.domain.errors import ExhaustedError, FieldViolation, InvalidError, PreconditionError
from runengine_server.domain.ids import StepId, StepNo, parse_run_id
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.workflow import Workflow
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.ports.run_store import RunStore
from runengine_server.ports.skill_runner import SkillRunner
from runengine_server.service.run_lookup import run_not_found
from runengine_server.service.trigger_schema import check_payload_schema

REQUEST_ID_LENGTH_MAX = 128
LABELS_MAX = 64
LABEL_KEY_LENGTH_MAX = 63
LABEL_VALUE_LENGTH_MAX = 255

# Checking takes up to 20 µs an item: what would hold the event loop for milliseconds goes to a thread.
_INLINE_SCHEMA_BYTES_MAX = 16 * 1024

VIOLATIONS_MAX = 200
"""More than a status can carry."""

_SHA256 = re.compile("[0-9a-f]{64}")

DEADLINE_S_MAX = 365 * 24 * 3600.0


def check_options(*, request_id: str, labels: Mapping[str, str], priority: int, deadline_s: float | None) -> None:
    """Check what all requests that start a run have in common.

    Raises:
        InvalidError: VALIDATION_FAILED, with every field that is wrong.
    """
    wrong = _request_id_problems(request_id)
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
    _raise_if_any(wrong)


def check_request_id(request_id: str) -> None:
    """Check a request id.

    Raises:
        InvalidError: VALIDATION_FAILED.
    """
    _raise_if_any(_request_id_problems(request_id))


def check_plan_digest(digest: str) -> None:
    """Check that what is expected can be a plan's digest; empty expects nothing.

    Raises:
        InvalidError: VALIDATION_FAILED.
    """
    if digest and not _SHA256.fullmatch(digest):
        description = "is no plan's digest: 64 lower-case hex digits, as an answer with a plan shows it"
        _raise_if_any([FieldViolation(field="expectedPlanDigest", description=description)])


def find_steps(field: str, step_ids: Sequence[str], compiled: CompiledWorkflow) -> tuple[StepNo, ...]:
    """The numbers of the steps a request names, in definition order.

    Raises:
        InvalidError: VALIDATION_FAILED, with every id that the workflow has no step of or that occurs twice.
    """
    workflow = compiled.workflow
    wrong: list[FieldViolation] = []
    found: set[StepNo] = set()
    for index, step_id in enumerate(step_ids):
        number = compiled.step_no.get(StepId(step_id))
        if number is None:
            problem = f"{workflow.name} {workflow.version} has no step {step_id[:64]!r}"
        elif number in found:
            problem = f"names {step_id} a second time"
        else:
            found.add(number)
            continue
        if len(wrong) < VIOLATIONS_MAX:
            wrong.append(FieldViolation(field=f"{field}[{index}]", description=problem))
    _raise_if_any(wrong)
    return tuple(sorted(found))


async def find_run_to_build_on(store: RunStore, caller: Caller, run_id: str) -> BaseRun:
    """The caller's run of that id with what it has finished.

    Raises:
        NotFoundError: RUN_NOT_FOUND.
    """
    parsed = parse_run_id(run_id)
    base = await store.base(caller.tenant, parsed) if parsed else None
    if base is None:
        raise run_not_found(run_id)
    return base


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
    for skill_id in {step.skill_id for step in workflow.steps}:
        known = skills.availability(skill_id)
        if not known.has_target or (known.is_catalogue_known and known.info is None):
            missing.add(skill_id)
    if missing:
        names = ", ".join(sorted(missing))
        raise PreconditionError(
            "SKILL_UNREGISTERED",
            f"no skill runner offers {names}; start a runner that does or correct the target map",
            metadata={"skillIds": names},
        )


def _request_id_problems(request_id: str) -> list[FieldViolation]:
    if len(request_id) <= REQUEST_ID_LENGTH_MAX and request_id.isprintable():
        return []
    return [FieldViolation(field="requestId", description=f"at most {REQUEST_ID_LENGTH_MAX} printable characters")]


def _raise_if_any(wrong: Sequence[FieldViolation]) -> None:
    if wrong:
        raise InvalidError(
            "VALIDATION_FAILED",
            "the request is not valid: " + "; ".join(f"{v.field}: {v.description}" for v in wrong),
            violations=wrong,
        )

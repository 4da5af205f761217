"""From a plan to the run that carries it out: what is reused, what waits, what is ready, and the answer to keep."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from runengine_server.domain.canonical_json import canonical_bytes, content_hash
from runengine_server.domain.errors import ConflictError
from runengine_server.domain.ids import RunId, StepId, StepNo
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import PlannedStep, RebuildPlan
from runengine_server.domain.states import PlanAction, PlanReason, RunStatus
from runengine_server.domain.workflow import StepDefinition
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.ports.run_store import EarlierAnswer, RequestKey
from runengine_server.service.messages import TriggerAnswer

# Compressing takes 20 µs however little there is, a fiftieth of a start call; an answer without a plan is 120 bytes.
_STORED_BYTES_MAX: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a plan becomes rows: direct dependencies still awaited per step, and the steps to queue at once.

    A step that is reused waits for nothing, even where a dependency, which it does not read, still executes: counting
    down leads away from zero, so that it is never queued.
    """

    waiting_for: tuple[int, ...]
    ready: tuple[tuple[StepNo, int], ...]


def lay_out(compiled: CompiledWorkflow, plan: RebuildPlan, timeout_ms: Callable[[StepDefinition], int]) -> Layout:
    """Count what each step waits for once the plan's reuse is done."""
    is_done = [step.action is PlanAction.REUSE for step in plan.steps]
    waiting_for = tuple(
        0 if is_done[number] else sum(not is_done[dependency] for dependency in dependencies)
        for number, dependencies in enumerate(compiled.dependencies)
    )
    ready = tuple(
        (StepNo(number), timeout_ms(compiled.workflow.steps[number]))
        for number, waits in enumerate(waiting_for)
        if waits == 0 and not is_done[number]
    )
    return Layout(waiting_for=waiting_for, ready=ready)


def request_key(rpc: str, request_id: str, content: Mapping[str, object]) -> RequestKey:
    """What makes a request repeatable; `content` is everything that a repetition must have in common."""
    body = canonical_bytes({key: value for key, value in content.items() if value is not None})  # type: ignore[misc]
    return RequestKey(rpc=rpc, request_id=request_id, digest=content_hash(body))


def repeated_answer(earlier: EarlierAnswer, request: RequestKey) -> TriggerAnswer:
    """What was answered to the same request before.

    Raises:
        ConflictError: REQUEST_ID_REUSED, the id came with other content.
    """
    if earlier.digest != request.digest:
        raise ConflictError(
            "REQUEST_ID_REUSED",
            f"request id {request.request_id!r} was used before with other content; send a new request id",
            metadata={"requestId": request.request_id},
        )
    return decode_answer(earlier.answer)


def encode_answer(answer: TriggerAnswer) -> bytes:
    """An answer as it is kept for repetitions."""
    assert answer.run_id is not None and answer.status is not None
    body = orjson.dumps({
        "runId": answer.run_id,
        "status": int(answer.status),
        "message": answer.message,
        "plan": _encode_plan(answer.plan) if answer.plan else None,
    })  # fmt: skip
    return zlib.compress(body, level=1) if len(body) > _STORED_BYTES_MAX else _stored(body)


def decode_answer(data: bytes) -> TriggerAnswer:
    """The answer that `encode_answer` kept, marked as a repetition."""
    kept = orjson.loads(zlib.decompress(data))
    return TriggerAnswer(
        run_id=RunId(kept["runId"]),
        status=RunStatus(kept["status"]),
        message=kept["message"],
        deduplicated=True,
        plan=_decode_plan(kept["plan"]) if kept["plan"] else None,
    )


def _stored(body: bytes) -> bytes:
    """A zlib stream of one block that is not compressed (RFC 1950, RFC 1951)."""
    size = len(body)
    header = b"\x78\x01\x01" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little")
    return header + body + zlib.adler32(body).to_bytes(4, "big")


def _encode_plan(plan: RebuildPlan) -> JsonObject:
    return {
        "digest": plan.digest,
        "seeds": list(plan.seed_step_ids),
        "base": plan.base_run_id,
        "estimate": plan.estimate_s,
        "steps": [
            [s.step_id, int(s.action), int(s.reason), list(s.caused_by), list(s.changed_pointers),
             list(s.unknown_until), s.estimate_s]
            for s in plan.steps
        ],
    }  # fmt: skip


def _decode_plan(kept: dict[str, Any]) -> RebuildPlan:
    return RebuildPlan(
        digest=kept["digest"],
        seed_step_ids=tuple(kept["seeds"]),
        base_run_id=kept["base"],
        estimate_s=kept["estimate"],
        steps=tuple(
            PlannedStep(
                step_id=StepId(step_id),
                action=PlanAction(action),
                reason=PlanReason(reason),
                caused_by=tuple(caused_by),
                changed_pointers=tuple(pointers),
                unknown_until=tuple(unknown_until),
                estimate_s=estimate,
            )
            for step_id, action, reason, caused_by, pointers, unknown_until, estimate in kept["steps"]
        ),
    )

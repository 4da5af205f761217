"""New runs as the arguments of `runs_start`: rows of its composite types; what a run keeps of its base is not sent."""

from collections.abc import Sequence

import orjson

from runengine_server.adapters.postgres.encoding import encode_decision, encode_planned
from runengine_server.domain.states import OutputSource
from runengine_server.ports.run_store import Intake, NewRun
from runengine_server.ports.step_queue import CacheQuestion

Row = tuple[object, ...]

Creation = tuple[NewRun, Intake | None]


def creation_arguments(batch: Sequence[Creation]) -> list[Sequence[object] | None]:
    """The arguments of the SQL function `runs_start`, in the order of its parameters."""
    kept: list[Row] = []
    reused: list[Row] = []
    absent: list[Row] = []
    firsts: list[Row] = []
    for place, (new, intake) in enumerate(batch, 1):
        if new.reused:
            _add_reused(place, new, kept, reused)
        if new.assumes is not None:
            absent += [
                (place, key.tenant, key.workflow_name, key.step_id, bytes.fromhex(key.input_hash))
                for key in new.assumes.absent
            ]
        if intake is not None:
            firsts += [_first_step(place, question) for question in intake.questions]
    return [
        [_run_row(new, intake) for new, intake in batch],
        [new.payload for new, _ in batch],
        [orjson.dumps(new.change.payload) if new.change else None for new, _ in batch],
        kept,
        reused,
        _if_any([None if new.trace is None else new.trace.encode() for new, _ in batch]),
        _if_any([new.cache_after for new, _ in batch]),
        _if_any([None if new.assumes is None else new.assumes.version for new, _ in batch]),
        absent,
        _if_any([intake.engine if intake is not None and intake.questions else None for _, intake in batch]),
        [len(intake.questions) if intake is not None else 0 for _, intake in batch],
        firsts,
    ]


def _if_any(values: Sequence[object]) -> Sequence[object] | None:
    return None if all(value is None for value in values) else values


def _run_row(new: NewRun, intake: Intake | None) -> Row:
    ready = _leased_first(new, intake) if intake is not None and intake.questions else new.ready
    return (
        new.id, new.tenant, new.workflow_name, new.workflow_version, bytes.fromhex(new.workflow_digest),
        len(new.plan), int(new.trigger_type), int(new.cache_mode), new.priority, int(new.failure_policy),
        new.change.type if new.change else None,
        new.base_run, new.root_run, bytes([encode_planned(step.action, step.reason) for step in new.plan]),
        orjson.dumps(dict(new.labels)).decode() if new.labels else "{}", new.principal,
        None if new.deadline_s is None else round(new.deadline_s * 1000),
        new.request.rpc, new.request.request_id, bytes.fromhex(new.request.digest), new.answer,
        new.waiting_for, [step for step, _ in ready], [timeout_ms for _, timeout_ms in ready], len(new.reused),
    )  # fmt: skip


def _leased_first(new: NewRun, intake: Intake) -> Sequence[tuple[int, int]]:
    leased = {question.step for question in intake.questions}
    return sorted(new.ready, key=lambda each: each[0] not in leased)


def _first_step(place: int, question: CacheQuestion) -> Row:
    key = question.query.key
    return (
        place, question.step, key.tenant, key.workflow_name, key.step_id, bytes.fromhex(key.input_hash),
        question.flight, question.is_step_known, question.wants_generation,
    )  # fmt: skip


def _add_reused(place: int, new: NewRun, kept: list[Row], reused: list[Row]) -> None:
    """What the base has under the same number is said with a byte a step: it is copied where it is."""
    is_kept = bytearray(len(new.plan))
    for step, binding in new.reused:
        if new.is_base_version and binding.source is OutputSource.BASE_RUN:
            is_kept[step] = 1
        else:
            reused.append((
                place, step, int(binding.source), bytes.fromhex(binding.input_hash), binding.cache_version,
                bytes.fromhex(binding.output_hash), binding.producer_run, binding.producer_step,
                encode_decision(binding.decision) if binding.decision else None,
            ))  # fmt: skip
    if any(is_kept):
        kept.append((place, new.base_run, bytes(is_kept)))

"""New runs as the arguments of `runs_create`: rows of its composite types; what a run keeps of its base is not sent."""

from collections.abc import Sequence

import orjson

from runengine_server.adapters.postgres.encoding import encode_decision, encode_planned
from runengine_server.domain.states import OutputSource
from runengine_server.ports.run_store import NewRun

Row = tuple[object, ...]


def creation_arguments(batch: Sequence[NewRun]) -> list[Sequence[object]]:
    """The arguments of the SQL function `runs_create`, in the order of its parameters."""
    kept: list[Row] = []
    reused: list[Row] = []
    for place, new in enumerate(batch, 1):
        if new.reused:
            _add_reused(place, new, kept, reused)
    return [
        [_run_row(new) for new in batch],
        [new.payload for new in batch],
        [orjson.dumps(new.change.payload) if new.change else None for new in batch],
        kept,
        reused,
    ]


def _run_row(new: NewRun) -> Row:
    return (
        new.id, new.tenant, new.workflow_name, new.workflow_version, bytes.fromhex(new.workflow_digest),
        len(new.plan), int(new.trigger_type), int(new.cache_mode), new.priority, int(new.failure_policy),
        new.change.type if new.change else None,
        new.base_run, new.root_run, bytes([encode_planned(step.action, step.reason) for step in new.plan]),
        orjson.dumps(dict(new.labels)).decode() if new.labels else "{}", new.principal,
        None if new.deadline_s is None else round(new.deadline_s * 1000),
        new.request.rpc, new.request.request_id, bytes.fromhex(new.request.digest), new.answer,
        new.waiting_for, [step for step, _ in new.ready], [timeout_ms for _, timeout_ms in new.ready], len(new.reused),
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

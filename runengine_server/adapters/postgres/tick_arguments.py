"""Completions as the tick's arguments: columns, with what many completions have in common said once.

Encoding is a large part of what a step costs in Python: an element of an array costs about 0.3 µs, whatever is in it.
"""

from collections.abc import Sequence
from typing import TypeVar, assert_never

from runengine_server.adapters.postgres.encoding import encode_body, encode_decision, encode_failure, encode_json
from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.ids import StepNo
from runengine_server.domain.states import StepStatus
from runengine_server.ports.step_queue import (
    AttemptFailed,
    Completion,
    Dependents,
    StepExecuted,
    StepFailed,
    StepReused,
)

Row = tuple[object, ...]
H = TypeVar("H")

_COMPLETION_COLUMNS = 10
_FILING_COLUMNS = 5
_REUSE_COLUMNS = 4
_FAILURE_COLUMNS = 5
_ARTIFACT_COLUMNS = 11


def tick_arguments(completions: Sequence[Completion]) -> list[Sequence[object]]:
    """The arguments of the SQL function `tick` after engine and capacity, in the order of its parameters."""
    return _TickArguments(completions).columns()


class _TickArguments:
    def __init__(self, completions: Sequence[Completion]) -> None:
        self._completions: list[Row] = []
        self._filings: dict[Row, int] = {}
        self._reuses: list[Row] = []
        self._failures: list[Row] = []
        self._decisions: dict[bytes, int] = {}
        self._artifacts: list[Row] = []
        self._dependents: tuple[list[int], list[StepNo], list[int]] = ([], [], [])
        for completion in completions:
            self._add(completion)

    def columns(self) -> list[Sequence[object]]:
        return [
            *_columns(self._completions, _COMPLETION_COLUMNS),
            *_columns(list(self._filings), _FILING_COLUMNS),
            *_columns(self._reuses, _REUSE_COLUMNS),
            *_columns(self._failures, _FAILURE_COLUMNS),
            list(self._decisions),
            *_columns(self._artifacts, _ARTIFACT_COLUMNS),
            *self._dependents,
        ]

    def _add(self, completion: Completion) -> None:
        match completion:
            case StepExecuted():
                self._executed(completion)
            case StepReused():
                self._reused(completion)
            case AttemptFailed() | StepFailed():
                self._failed(completion)
            case _:
                assert_never(completion)

    def _executed(self, done: StepExecuted) -> None:
        lease, filing = done.lease, done.filing
        body, is_compressed = encode_body(done.output)
        filed: Row = (None, None, None, done.cache_version, None)
        if filing is not None:
            fingerprint = filing.fingerprint
            filed = (
                filing.workflow_name, filing.step_id, fingerprint.skill_id, done.cache_version, fingerprint.cache_epoch
            )  # fmt: skip
        self._completions.append((
            lease.run, lease.step, lease.epoch, int(StepStatus.COMPLETED), _position(self._filings, filed),
            self._decision(done.decision), bytes.fromhex(done.input_hash), bytes.fromhex(done.output_hash), body,
            is_compressed,
        ))  # fmt: skip
        index = len(self._completions)
        for ordinal, artifact in enumerate(done.artifacts):
            self._artifacts.append((
                index, ordinal, bytes.fromhex(artifact.content_hash), artifact.size_bytes, artifact.media_type,
                artifact.uri, artifact.filename, encode_json(artifact.metadata),
                encode_json([*artifact.made_from]), done.skill_id, done.skill_version,
            ))  # fmt: skip
        self._ready(index, done.dependents)

    def _reused(self, done: StepReused) -> None:
        lease = done.lease
        self._reuses.append((int(done.source), done.producer_run, done.producer_step, done.cache_version))
        self._completions.append((
            lease.run, lease.step, lease.epoch, int(StepStatus.SKIPPED), len(self._reuses),
            self._decision(done.decision), bytes.fromhex(done.input_hash), bytes.fromhex(done.output_hash), None, None,
        ))  # fmt: skip
        self._ready(len(self._completions), done.dependents)

    def _failed(self, failed: AttemptFailed | StepFailed) -> None:
        lease, error, worker = failed.lease, encode_failure(failed.failure), failed.worker_id
        if isinstance(failed, AttemptFailed):
            status = StepStatus.READY
            self._failures.append((error, None, failed.delay_ms, worker, True))
        else:
            status = StepStatus.FAILED
            self._failures.append((error, encode_failure(failed.run_failure), 0, worker, failed.is_attempted))
        self._completions.append((
            lease.run, lease.step, lease.epoch, int(status), len(self._failures), self._decision(failed.decision),
            bytes.fromhex(failed.input_hash) if failed.input_hash else None, None, None, None,
        ))  # fmt: skip

    def _decision(self, decision: CacheDecision | None) -> int:
        return 0 if decision is None else _position(self._decisions, encode_decision(decision))

    def _ready(self, index: int, dependents: Dependents) -> None:
        indexes, steps, timeouts = self._dependents
        indexes.extend([index] * len(dependents.steps))
        steps.extend(dependents.steps)
        timeouts.extend(dependents.timeouts_ms)


def _position(seen: dict[H, int], item: H) -> int:
    """The item's 1-based position among the distinct ones."""
    return seen.setdefault(item, len(seen) + 1)


def _columns(rows: Sequence[Row], width: int) -> list[Sequence[object]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width

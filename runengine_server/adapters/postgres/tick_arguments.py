"""Completions as the tick's arguments: rows of its composite types; what many have in common is said once.

Encoding is a large part of what a step costs in Python: a field costs about 0.3 µs, whatever is in it.
"""

from collections.abc import Sequence
from typing import TypeVar, assert_never

from runengine_server.adapters.postgres.encoding import encode_body, encode_decision, encode_failure, encode_json
from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.ids import RunKey
from runengine_server.domain.states import StepStatus
from runengine_server.ports.step_queue import (
    AttemptFailed,
    CacheQuestion,
    Completion,
    Dependents,
    StepExecuted,
    StepFailed,
    StepReused,
)

Row = tuple[object, ...]
H = TypeVar("H")


def tick_arguments(completions: Sequence[Completion], questions: Sequence[CacheQuestion]) -> list[Sequence[object]]:
    """The arguments of the SQL function `tick` after engine and capacity, in the order of its parameters.

    Completions of one run must stand together, and questions be in order of run and step.
    """
    return [*_TickArguments(completions).in_order(), [_question(question) for question in questions]]


class _TickArguments:
    def __init__(self, completions: Sequence[Completion]) -> None:
        self._runs: dict[RunKey, None] = {}
        self._completions: list[Row] = []
        self._filings: dict[Row, int] = {}
        self._reuses: list[Row] = []
        self._failures: list[Row] = []
        self._decisions: dict[bytes, int] = {}
        self._waits: dict[int, Dependents] = {}
        self._places: dict[int, int] = {}
        self._artifacts: list[Row] = []
        for completion in completions:
            self._add(completion)

    def in_order(self) -> list[Sequence[object]]:
        return [
            list(self._runs),
            self._completions,
            list(self._filings),
            self._reuses,
            self._failures,
            list(self._decisions),
            [(waits.steps, waits.timeouts_ms) for waits in self._waits.values()],
            self._artifacts,
        ]

    def _add(self, completion: Completion) -> None:
        self._runs[completion.lease.run] = None
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
            lease.run, lease.step, lease.epoch, 4, _position(self._filings, filed), self._decision(done.decision),
            self._waiting(done.dependents), bytes.fromhex(done.input_hash), bytes.fromhex(done.output_hash), body,
            is_compressed, done.flight,
        ))  # fmt: skip
        index = len(self._completions)
        for ordinal, artifact in enumerate(done.artifacts):
            self._artifacts.append((
                index, ordinal, bytes.fromhex(artifact.content_hash), artifact.size_bytes, artifact.media_type,
                artifact.uri, artifact.filename, encode_json(artifact.metadata),
                encode_json([*artifact.made_from]), done.skill_id, done.skill_version,
            ))  # fmt: skip

    def _reused(self, done: StepReused) -> None:
        lease = done.lease
        self._reuses.append((int(done.source), done.producer_run, done.producer_step, done.cache_version))
        self._completions.append((
            lease.run, lease.step, lease.epoch, int(StepStatus.SKIPPED), len(self._reuses),
            self._decision(done.decision), self._waiting(done.dependents), bytes.fromhex(done.input_hash),
            bytes.fromhex(done.output_hash), None, None, done.flight,
        ))  # fmt: skip

    def _failed(self, failed: AttemptFailed | StepFailed) -> None:
        lease, error, worker = failed.lease, encode_failure(failed.failure), failed.worker_id
        if isinstance(failed, AttemptFailed):
            status = StepStatus.READY
            self._failures.append((error, None, failed.delay_ms, worker, True))
        else:
            status = StepStatus.FAILED
            self._failures.append((error, encode_failure(failed.run_failure), 0, worker, failed.is_attempted))
        self._completions.append((
            lease.run, lease.step, lease.epoch, int(status), len(self._failures), self._decision(failed.decision), 0,
            bytes.fromhex(failed.input_hash) if failed.input_hash else None, None, None, None, None,
        ))  # fmt: skip

    def _decision(self, decision: CacheDecision | None) -> int:
        return 0 if decision is None else _position(self._decisions, encode_decision(decision))

    def _waiting(self, dependents: Dependents) -> int:
        if not dependents.steps:
            return 0
        self._waits[id(dependents)] = dependents  # equal ones are mostly one and the same
        return _position(self._places, id(dependents))


def _question(question: CacheQuestion) -> Row:
    query, key = question.query, question.query.key
    assert query.claimant is not None, "whoever asks in advance will execute"
    return (
        *query.claimant, key.workflow_name, key.step_id, bytes.fromhex(key.input_hash), question.flight,
        question.is_step_known, question.wants_generation,
    )  # fmt: skip


def _position(seen: dict[H, int], item: H) -> int:
    """The item's 1-based position among the distinct ones."""
    return seen.setdefault(item, len(seen) + 1)

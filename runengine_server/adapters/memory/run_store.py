"""Runs in memory: creation, cancellation and what planning and the scheduler load; for tests and simulation."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from runengine_server.adapters.memory.queued_steps import QueuedStep
from runengine_server.adapters.memory.tables import MemoryTables, Move, RunRecord, StepResult, first_event
from runengine_server.adapters.memory.turn import MemoryTurn
from runengine_server.domain.base_run import BaseResult, BaseRun
from runengine_server.domain.failure import RUN_CANCELLED
from runengine_server.domain.ids import EngineNo, Place, RunId, RunKey, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.states import OutputSource, PlanAction, PlanReason, RunStatus, StepStatus
from runengine_server.domain.trace_context import TraceContext, run_span
from runengine_server.ports.run_store import (
    Assumptions,
    CreatedRun,
    EarlierAnswer,
    Intake,
    NewRun,
    Outdated,
    RequestKey,
    RunFacts,
    StepDuration,
    StoredOutput,
)
from runengine_server.ports.step_queue import CacheQuestion
from runengine_server.ports.workflow_store import WorkflowStore


class MemoryRunStore:
    """RunStore over tables that a MemoryStepQueue may share."""

    def __init__(self, tables: MemoryTables, workflows: WorkflowStore | None = None) -> None:
        """Keep runs in `tables`; `workflows` says what versions mean, without it what is assumed of them holds."""
        self._tables = tables
        self._workflows = workflows

    async def create(self, new: NewRun, intake: Intake | None = None) -> CreatedRun | EarlierAnswer | Outdated:
        """See the port."""
        if new.assumes is not None and await self._is_outdated(new, new.assumes):
            return Outdated()
        questions = intake.questions if intake is not None and self._tables.is_alive(intake.engine) else ()
        created = self._create(new, {question.step for question in questions})
        if intake is not None and isinstance(created, CreatedRun):
            created = self._leased(created.run, intake.engine, questions)
            intake.created(created)
        return created

    async def _is_outdated(self, new: NewRun, assumes: Assumptions) -> bool:
        if assumes.version is not None and self._workflows is not None:
            found = await self._workflows.find_version(new.tenant, new.workflow_name, assumes.version)
            if found is None or found.digest != new.workflow_digest:
                return True
        return any(self._tables.is_key_known(key) for key in assumes.absent)

    def _leased(self, run: RunKey, engine: EngineNo, questions: Sequence[CacheQuestion]) -> CreatedRun:
        """The run with the leases of the steps that ask something."""
        turn = MemoryTurn(self._tables, engine)
        turn.lease_new(run, [question.step for question in questions])
        asked = [
            replace(question, query=replace(question.query, claimant=(run, question.step))) for question in questions
        ]
        return CreatedRun(run=run, leases=turn.leases, misses=turn.answer(asked))

    def _create(self, new: NewRun, leased: Collection[StepNo]) -> CreatedRun | EarlierAnswer:
        """The run with its first events but those of the steps to be leased."""
        tables, request = self._tables, new.request
        if request.request_id:
            key = (new.tenant, request.rpc, request.request_id)
            if earlier := tables.requests.get(key):
                return earlier
            tables.requests[key] = EarlierAnswer(digest=request.digest, answer=new.answer)
        now = tables.now()
        run = RunRecord(
            key=RunKey(len(tables.runs) + 1),
            new=new,
            created_at=now,
            deadline_at=None if new.deadline_s is None else now + new.deadline_s,
            waiting_for=list(new.waiting_for),
            remaining=len(new.plan),
        )
        run.events.append(first_event(run))
        tables.runs[run.key], tables.by_id[new.id] = run, run.key
        moves = [self._reuse(run, number, now) for number in range(len(new.reused))]
        for step, timeout_ms in new.ready:
            tables.queue[run.key, step] = QueuedStep(timeout_ms=timeout_ms, ready_at=now, available_at=now)
            if step not in leased:
                moves.append(_move(step, StepStatus.READY))
        tables.apply_moves(run, moves)
        return CreatedRun(run=run.key)

    async def earlier_answer(self, tenant: Tenant, request: RequestKey) -> EarlierAnswer | None:
        """See the port."""
        return self._tables.requests.get((tenant, request.rpc, request.request_id))

    async def cancel(self, tenant: Tenant, run_id: RunId, principal: str, reason: str) -> bool | None:
        """See the port."""
        run = self._find(tenant, run_id)
        if run is None:
            return None
        if run.status.is_terminal:
            return False
        run.cancel_reason = reason
        self._tables.stop_run(run, RunStatus.CANCELLED, RUN_CANCELLED, "the run was cancelled", None)
        return True

    async def base(self, tenant: Tenant, run_id: RunId) -> BaseRun | None:
        """See the port."""
        run = self._find(tenant, run_id)
        if run is None:
            return None
        return BaseRun(
            run=run.key,
            root_run=run.key if run.new.root_run is None else run.new.root_run,
            run_id=run.new.id,
            status=run.status,
            workflow_name=run.new.workflow_name,
            workflow_digest=run.new.workflow_digest,
            payload=_payload(run),
            change=run.new.change,
            cache_mode=run.new.cache_mode,
            failure_policy=run.new.failure_policy,
            priority=run.new.priority,
            labels=run.new.labels,
            plan=_planned(run.new),
            results=(await self.base_results([run.key])).get(run.key, {}),
            trace=run.new.trace,
        )

    async def base_results(self, runs: Sequence[RunKey]) -> Mapping[RunKey, Mapping[StepNo, BaseResult]]:
        """See the port."""
        found: dict[RunKey, dict[StepNo, BaseResult]] = {}
        for (run, step), result in self._tables.results.items():
            if run in runs and result.producer is not None:
                found.setdefault(run, {})[step] = self._base_result(result, result.producer)
        return found

    async def recent_runs(self, tenant: Tenant, workflow_name: str, limit: int) -> Mapping[RunKey, WorkflowDigest]:
        """See the port."""
        completed = [
            run
            for run in reversed(self._tables.runs.values())
            if (run.new.tenant, run.new.workflow_name, run.status) == (tenant, workflow_name, RunStatus.COMPLETED)
        ]
        return {run.key: run.new.workflow_digest for run in completed[:limit]}

    async def durations(self, steps: Sequence[Place]) -> Mapping[Place, StepDuration]:
        """See the port."""
        found = {}
        for place in steps:
            result = self._tables.results.get(place)
            made = self._tables.results.get(result.producer) if result is not None and result.producer else None
            if made is not None and made.started_at is not None:
                seconds = made.ended_at - made.started_at
                found[place] = StepDuration(seconds=seconds, is_resumed=made.lease_losses > 0)
        return found

    async def facts(self, runs: Sequence[RunKey]) -> Mapping[RunKey, RunFacts]:
        """See the port."""
        return {run: self._facts(self._tables.runs[run]) for run in runs if run in self._tables.runs}

    async def outputs(self, steps: Sequence[Place]) -> Mapping[Place, StoredOutput]:
        """See the port."""
        found = {}
        for place in steps:
            result = self._tables.results.get(place)
            if result is not None and result.producer in self._tables.outputs:
                assert result.source is not None, "a success says where its output came from"
                found[place] = StoredOutput(
                    body=self._tables.outputs[result.producer],
                    artifacts=self._tables.artifacts.get(result.producer, ()),
                    source=OutputSource(result.source),
                )
        return found

    def _find(self, tenant: Tenant, run_id: RunId) -> RunRecord | None:
        key = self._tables.by_id.get(run_id)
        run = None if key is None else self._tables.runs[key]
        return run if run is not None and run.new.tenant == tenant else None

    def _reuse(self, run: RunRecord, number: int, now: float) -> Move:
        step, binding = run.new.reused[number]
        self._tables.results[run.key, step] = StepResult(
            status=StepStatus.SKIPPED,
            attempt=0,
            lease_losses=0,
            ended_at=now,
            source=binding.source,
            producer=(binding.producer_run, binding.producer_step),
            input_hash=binding.input_hash,
            cache_version=binding.cache_version,
            output_hash=binding.output_hash,
            decision=binding.decision,
        )
        return _move(step, StepStatus.SKIPPED)

    def _facts(self, run: RunRecord) -> RunFacts:
        new = run.new
        return RunFacts(
            run=run.key,
            run_id=new.id,
            tenant=new.tenant,
            workflow_name=new.workflow_name,
            workflow_digest=new.workflow_digest,
            cache_mode=new.cache_mode,
            payload=_payload(run),
            change=new.change,
            base_run=new.base_run,
            base_digest=self._tables.runs[new.base_run].new.workflow_digest if new.base_run is not None else None,
            plan=_planned(new),
            deadline_in_s=None if run.deadline_at is None else run.deadline_at - self._tables.now(),
            trace=new.trace,
            base_span=None if new.base_run is None else self._span(self._tables.runs[new.base_run].new),
            cache_after=new.cache_after,
        )

    def _span(self, new: NewRun) -> TraceContext | None:
        return None if new.trace is None else run_span(new.trace, new.id)

    def _base_result(self, result: StepResult, producer: Place) -> BaseResult:
        return BaseResult(
            producer_run=producer[0],
            producer_step=producer[1],
            producer_run_id=self._tables.runs[producer[0]].new.id,
            input_hash=result.input_hash,
            cache_version=result.cache_version,
            output_hash=result.output_hash,
        )


def _move(step: StepNo, to_status: StepStatus) -> Move:
    return Move(step=step, attempt=0, from_status=StepStatus.PENDING, to_status=to_status)


def _payload(run: RunRecord) -> JsonObject:
    payload: JsonObject = json.loads(run.new.payload)
    return payload


def _planned(new: NewRun) -> Sequence[tuple[PlanAction, PlanReason]]:
    return [(step.action, step.reason) for step in new.plan]

"""Cancel a run: when it returns, nothing of the run will start any more and no late result changes it."""

from dataclasses import dataclass

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.domain.run import Run
from runengine_server.domain.states import RunStatus
from runengine_server.ports.observer import Observer
from runengine_server.ports.run_reader import RunIdentity
from runengine_server.ports.run_store import RunStore
from runengine_server.ports.step_queue import EndedRun
from runengine_server.ports.tracer import UNTRACED, Tracer
from runengine_server.ports.work_signal import WorkSignal
from runengine_server.service.authorization import require
from runengine_server.service.messages import CancelAnswer
from runengine_server.service.run_lookup import ReadRuns, find_run, read_run

REASON_LENGTH_MAX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRuns:
    """What it takes to cancel runs."""

    read: ReadRuns
    store: RunStore
    signal: WorkSignal
    observer: Observer
    tracer: Tracer = UNTRACED


async def cancel_run(cancel: CancelRuns, caller: Caller, run_id: str, reason: str) -> CancelAnswer:
    """Cancel a run; a terminal one is left as it is, and the answer says so.

    Idempotent by: the run's state.

    Raises:
        NotFoundError: RUN_NOT_FOUND.
        InvalidError: VALIDATION_FAILED, the reason is too long.
    """
    require(caller, Scope.RUN_WRITE)
    if len(reason) > REASON_LENGTH_MAX:
        problem = f"at most {REASON_LENGTH_MAX} characters"
        raise InvalidError(
            "VALIDATION_FAILED",
            f"reason: {problem}",
            violations=[FieldViolation(field="reason", description=problem)],
        )
    run = await find_run(cancel.read, caller, run_id)
    is_ended_here = await cancel.store.cancel(caller.tenant, run.run_id, caller.principal, reason)
    if is_ended_here:
        cancel.signal.run_cancelled(run.key)
        cancel.observer.run_cancelled(run.run_id)
    now = await read_run(cancel.read, run, is_full=False)
    if is_ended_here and cancel.tracer.is_on:
        await _trace_end(cancel, run, now)
    return CancelAnswer(run=now, message=_message(now.status, is_ended_here=bool(is_ended_here)))


async def _trace_end(cancel: CancelRuns, run: RunIdentity, now: Run) -> None:
    facts = (await cancel.store.facts([run.key])).get(run.key)
    if facts is None or facts.trace is None or now.completed_at is None:
        return
    duration_ms = round((now.completed_at - now.created_at).total_seconds() * 1000)
    ended = EndedRun(run=run.key, status=now.status, duration_ms=duration_ms, failed_step=None, failure=None)
    compiled = await cancel.read.workflows.compiled(run.workflow_digest)
    cancel.tracer.run_ended(facts, ended, compiled.workflow.steps)


def _message(status: RunStatus, *, is_ended_here: bool) -> str:
    if is_ended_here:
        return "Run cancelled"
    return f"Run is already {status.name.lower()}; nothing was changed"

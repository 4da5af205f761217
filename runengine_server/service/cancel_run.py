"""Cancel a run: when it returns, nothing of the run will start any more and no late result changes it."""

from dataclasses import dataclass

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.domain.states import RunStatus
from runengine_server.ports.observer import Observer
from runengine_server.ports.run_store import RunStore
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
    return CancelAnswer(run=now, message=_message(now.status, is_ended_here=bool(is_ended_here)))


def _message(status: RunStatus, *, is_ended_here: bool) -> str:
    if is_ended_here:
        return "Run cancelled"
    return f"Run is already {status.name.lower()}; nothing was changed"

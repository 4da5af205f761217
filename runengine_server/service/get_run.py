"""Read one run."""

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.run import Run
from runengine_server.service.authorization import require
from runengine_server.service.run_lookup import ReadRuns, find_run, read_run


async def get_run(read: ReadRuns, caller: Caller, run_id: str, *, is_full: bool) -> Run:
    """Read one run; the payloads only when `is_full`.

    Raises:
        NotFoundError: RUN_NOT_FOUND, also for another tenant's run.
    """
    require(caller, Scope.RUN_READ, run_id=run_id)
    return await read_run(read, await find_run(read, caller, run_id), is_full=is_full)

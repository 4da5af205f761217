"""Work that the engines of a database do for all of them together, at an interval: whoever comes first does it."""

from collections.abc import Awaitable, Callable

import anyio

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.errors import UnavailableError
from runengine_server.ports.observer import Observer


async def begin(database: Database, task: str, interval_s: float) -> bool:
    """True for whoever may do the task now; then nobody else may within the interval."""
    # Shorter by a little than the interval, or an engine would find its own last pass too recent.
    return bool(await database.fetchval(sql("housekeeping_begin"), task, interval_s * 0.9))


async def repeat(task: str, interval_s: float, work: Callable[[], Awaitable[object]], observer: Observer) -> None:
    """Do the work at the interval until cancelled; what fails is told, and tried again the next time."""
    while True:
        await anyio.sleep(interval_s)
        try:
            await work()
        except UnavailableError as error:
            observer.database_unavailable(str(error.__cause__ or error))
        except Exception as error:  # a pass that cannot be made must not end the engine
            observer.internal_failure(f"the {task}", error)

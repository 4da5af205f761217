"""Read how deep a tenant's queue is, and which of its steps are delayed or stuck."""

from runengine_server.domain.caller import Caller, Scope
from runengine_server.service.authorization import require
from runengine_server.service.queue_overview import QueueOverview, QueueOverviews


async def get_queue(queue: QueueOverviews, caller: Caller) -> QueueOverview:
    """The queue of the caller's tenant; what waits of other tenants shows in nothing but age.

    Raises:
        UnavailableError: DATABASE_UNAVAILABLE.
    """
    require(caller, Scope.RUN_READ)
    return await queue.of_tenant(caller.tenant)

"""Count how the cache served the steps of retained runs."""

from collections import Counter

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.domain.ids import StepId
from runengine_server.service.authorization import require
from runengine_server.service.cache_keys import ManageCache
from runengine_server.service.messages import CacheStats

# At most 2.5 MB on the wire: names have up to 128 and 64 characters.
ROWS_MAX = 10_000


async def get_cache_stats(cache: ManageCache, caller: Caller, workflow_name: str) -> tuple[CacheStats, ...]:
    """The tenant's counts by workflow and step, over all versions; an empty name means every workflow.

    Raises:
        InvalidError: VALIDATION_FAILED, more rows than one answer holds.
    """
    require(caller, Scope.CACHE_ADMIN)
    found: dict[tuple[str, StepId], Counter[str]] = {}
    for counts in await cache.admin.counts(caller.tenant, workflow_name):
        compiled = await cache.workflows.compiled(counts.workflow_digest)
        step_id = compiled.workflow.steps[counts.step].step_id
        found.setdefault((counts.workflow_name, step_id), Counter()).update(
            hot_hits=counts.hot_hits, cold_hits=counts.cold_hits, misses=counts.misses, joined=counts.joined
        )
    if len(found) > ROWS_MAX:
        raise InvalidError(
            "VALIDATION_FAILED",
            f"{len(found)} steps have statistics, more than the {ROWS_MAX} of one answer; name a workflow",
            violations=[FieldViolation(field="workflowName", description="is required with so many steps")],
        )
    return tuple(
        CacheStats(workflow_name=name, step_id=step_id, **found[name, step_id]) for name, step_id in sorted(found)
    )

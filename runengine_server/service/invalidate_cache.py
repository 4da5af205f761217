"""Invalidate cache entries: when it returns, no lookup finds what matched, in either tier, on any replica."""

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import FieldViolation
from runengine_server.domain.ids import parse_run_id
from runengine_server.ports.cache_admin import CacheSelector, MatchingEntries
from runengine_server.service.authorization import require
from runengine_server.service.cache_keys import ManageCache, key_violation, parse_key, refuse
from runengine_server.service.messages import InvalidateCacheRequest

REASON_LENGTH_MAX = 1024


async def invalidate_cache(cache: ManageCache, caller: Caller, request: InvalidateCacheRequest) -> MatchingEntries:
    """Remove the entries of the caller's tenant that match every field that is set; with `validate_only` count them.

    Runs are left as they are: base runs, and steps that were already bound to an entry.

    Idempotent by: entries removed stay removed; a repetition counts only what it removes itself.

    Raises:
        InvalidError: VALIDATION_FAILED, among others for a selector without any field.
    """
    require(caller, Scope.CACHE_ADMIN)
    violations: list[FieldViolation] = []
    selector = _selector(request, violations)
    if len(request.reason) > REASON_LENGTH_MAX:
        violations.append(FieldViolation(field="reason", description=f"at most {REASON_LENGTH_MAX} characters"))
    refuse(violations)
    if selector is None:
        return MatchingEntries(count=0, sample_keys=())
    if request.validate_only:
        return await cache.admin.count(caller.tenant, selector)
    return await cache.admin.invalidate(caller.tenant, caller.principal, selector, request.reason)


def _selector(request: InvalidateCacheRequest, violations: list[FieldViolation]) -> CacheSelector | None:
    """What the request selects; None when its fields contradict each other, so that nothing can match."""
    workflow_name, step_id, input_hash = request.workflow_name, request.step_id, ""
    is_contradiction = False
    if request.key:
        named = parse_key(request.key)
        if named is None:
            violations.append(key_violation("selector.key"))
        else:
            is_contradiction = workflow_name not in ("", named[0]) or step_id not in ("", named[1])
            workflow_name, step_id, input_hash = named
    run_id = parse_run_id(request.source_run_id) if request.source_run_id else None
    if request.source_run_id and run_id is None:
        violations.append(FieldViolation(field="selector.sourceRunId", description="must be a UUID"))
    selector = CacheSelector(
        workflow_name=workflow_name or None,
        step_id=step_id or None,
        input_hash=input_hash or None,
        source_run_id=run_id,
        skill_id=request.skill_id or None,
        cache_version=request.cache_version or None,
        created_before=request.created_before,
    )
    if not violations and selector == CacheSelector():
        violations.append(
            FieldViolation(
                field="selector",
                description="is empty, which would match nothing: set at least one field; "
                "for everything, set createdBefore to a moment in the future",
            )
        )
    return None if is_contradiction else selector

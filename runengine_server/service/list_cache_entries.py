"""List cache entries, newest first."""

from datetime import UTC, datetime, timedelta

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.ids import RunKey, StepNo
from runengine_server.domain.json_value import JsonValue
from runengine_server.ports.cache_admin import EntryPosition, FiledEntry
from runengine_server.service.authorization import require
from runengine_server.service.cache_keys import ManageCache
from runengine_server.service.messages import CacheEntryPage, ListCacheEntriesRequest
from runengine_server.service.page_tokens import decode_page_token, encode_page_token, page_size

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# What a forged token cannot go beyond: the year 9999, and the number of steps.
_MICROSECONDS_MAX = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_STEPS_MAX = 10_000


async def list_cache_entries(cache: ManageCache, caller: Caller, request: ListCacheEntriesRequest) -> CacheEntryPage:
    """List the entries of the caller's tenant that match every field that is set; an entry is at most 1 KB here.

    Raises:
        InvalidError: VALIDATION_FAILED, PAGE_TOKEN_INVALID.
    """
    require(caller, Scope.CACHE_ADMIN)
    limit = page_size(request.page_size)
    bound_to: dict[str, JsonValue] = {
        "list": "cache",
        "tenant": caller.tenant,
        "workflowName": request.workflow_name,
        "stepId": request.step_id,
    }
    position = decode_page_token(request.page_token, bound_to, 3)
    entries = await cache.admin.entries(
        caller.tenant,
        request.workflow_name,
        request.step_id,
        after=None if position is None else _position(position),
        limit=limit + 1,
    )
    page = tuple(entries[:limit])
    token = encode_page_token(_numbers(page[-1]), bound_to) if len(page) < len(entries) else ""
    return CacheEntryPage(entries=page, next_page_token=token)


def _numbers(entry: FiledEntry) -> tuple[int, int, int]:
    place = entry.position
    return (place.created_at - _EPOCH) // _MICROSECOND, place.run, place.step


def _position(numbers: tuple[int, ...]) -> EntryPosition:
    microseconds, run, step = numbers
    created_at = _EPOCH + min(microseconds, _MICROSECONDS_MAX) * _MICROSECOND
    return EntryPosition(created_at=created_at, run=RunKey(run), step=StepNo(min(step, _STEPS_MAX)))

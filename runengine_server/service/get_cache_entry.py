"""Read one cache entry by its key."""

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import NotFoundError
from runengine_server.ports.cache_admin import FiledEntry
from runengine_server.service.authorization import require
from runengine_server.service.cache_keys import ManageCache, key_violation, parse_key, refuse

_KEY_SHOWN_MAX = 260


async def get_cache_entry(cache: ManageCache, caller: Caller, key: str, *, include_output: bool) -> FiledEntry:
    """Read the entry of the caller's tenant with this key, from the cold tier, which is the authority.

    Raises:
        InvalidError: VALIDATION_FAILED, this is no key.
        NotFoundError: CACHE_ENTRY_NOT_FOUND.
    """
    require(caller, Scope.CACHE_ADMIN)
    named = parse_key(key)
    if named is None:
        refuse([key_violation("key")])
    else:
        workflow_name, step_id, input_hash = named
        entry = await cache.admin.entry(caller.tenant, workflow_name, step_id, input_hash, with_output=include_output)
        if entry is not None:
            return entry
    raise NotFoundError(
        "CACHE_ENTRY_NOT_FOUND",
        f"the cache has no entry {key[:_KEY_SHOWN_MAX]!r}; ListCacheEntries shows those it has",
        metadata={"key": key[:_KEY_SHOWN_MAX]},
    )

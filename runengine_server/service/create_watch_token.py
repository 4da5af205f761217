"""Make a token that reads one run, for pages whose streams and pictures can send no header."""

from datetime import timedelta

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.ports.watch_tokens import WatchGrant
from runengine_server.service.authorization import require
from runengine_server.service.messages import WatchToken
from runengine_server.service.run_lookup import find_run
from runengine_server.service.watch_tokens import AdmitWatchers

TTL_S_DEFAULT = 15 * 60.0
TTL_S_MIN = 1.0
TTL_S_MAX = 3600.0


async def create_watch_token(watchers: AdmitWatchers, caller: Caller, run_id: str, ttl_s: float | None) -> WatchToken:
    """A token that reads this run of the caller's for `ttl_s` seconds, and no longer than the caller's own does.

    Nothing is stored, so there is nothing to take back but the keys: see docs/artifacts.md.

    Raises:
        NotFoundError: RUN_NOT_FOUND.
        InvalidError: VALIDATION_FAILED, `ttl_s` is out of range.
    """
    require(caller, Scope.RUN_READ)
    ttl_s = TTL_S_DEFAULT if ttl_s is None else ttl_s
    if not TTL_S_MIN <= ttl_s <= TTL_S_MAX:
        problem = f"must be {TTL_S_MIN:g} s to {TTL_S_MAX:g} s"
        violation = FieldViolation(field="ttl", description=problem)
        raise InvalidError("VALIDATION_FAILED", f"ttl {problem}", violations=[violation])
    run = await find_run(watchers.read, caller, run_id)
    expires_at = (watchers.clock.now() + timedelta(seconds=ttl_s)).replace(microsecond=0)
    if caller.expires_at is not None:
        expires_at = min(expires_at, caller.expires_at.replace(microsecond=0))
    grant = WatchGrant(run_id=run.run_id, tenant=caller.tenant, principal=caller.principal, expires_at=expires_at)
    return WatchToken(token=await watchers.tokens.sign(grant), expires_at=expires_at)

"""Who the bearer of a watch token is: the token stands for whoever asked for it, and for one run."""

from dataclasses import dataclass

from runengine_server.domain.caller import Caller, Scope
from runengine_server.ports.clock import Clock
from runengine_server.ports.watch_tokens import WatchTokens
from runengine_server.service.run_lookup import ReadRuns


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitWatchers:
    """What it takes to make and to admit watch tokens."""

    read: ReadRuns
    tokens: WatchTokens
    clock: Clock


async def admit_watcher(watchers: AdmitWatchers, token: str) -> Caller:
    """A caller who reads the token's run and nothing else.

    Raises:
        UnauthenticatedError: TOKEN_INVALID.
    """
    grant = await watchers.tokens.read(token)
    return Caller(
        principal=f"watch:{grant.principal}",
        tenant=grant.tenant,
        scopes=frozenset({Scope.RUN_READ}),
        expires_at=grant.expires_at,
        only_run=grant.run_id,
    )

"""Who is calling: a name, a tenant and scopes, all from the credential and nothing else."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from runengine_server.domain.ids import RunId, Tenant


class Scope(StrEnum):
    """What a credential allows."""

    RUN_READ = "run:read"
    RUN_WRITE = "run:write"
    WORKFLOW_WRITE = "workflow:write"
    CACHE_ADMIN = "cache:admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The authenticated caller of a request; streams end at `expires_at`, `only_run` is all that it may read."""

    principal: str
    tenant: Tenant
    scopes: frozenset[Scope]
    expires_at: datetime | None = None
    only_run: RunId | None = None

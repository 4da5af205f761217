"""The PostgreSQL and Valkey that a table runs on."""

from dataclasses import dataclass
from typing import Self

from runengine_server.adapters.embedded import EmbeddedStack


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """Where they are; the process ids are those of the servers."""

    database_url: str
    redis_url: str
    postgres_pid: int
    valkey_pid: int

    @classmethod
    def of(cls, stack: EmbeddedStack) -> Self:
        """Those of an embedded stack."""
        return cls(
            database_url=stack.database_url,
            redis_url=stack.redis_url,
            postgres_pid=stack.postgres.pid,
            valkey_pid=stack.valkey.pid,
        )

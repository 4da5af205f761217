"""A RunEngine server as a process of its own, with tokens of several tenants."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .processes import ManagedProcess

if TYPE_CHECKING:
    from runengine_client import RunEngineClient

ALL_SCOPES = ("run:read", "run:write", "workflow:write", "cache:admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Bearer tokens that every engine of a test knows; all but the stranger's belong to the tenant `acme`."""

    admin: str = "acme-admin-token"
    reader: str = "acme-reader-token"
    writer: str = "acme-writer-token"
    stranger: str = "globex-admin-token"

    def write(self, path: Path) -> Path:
        """The tokens file is at the path."""
        entries = [
            _entry(self.admin, "ada", "acme", ALL_SCOPES),
            _entry(self.reader, "rita", "acme", ("run:read",)),
            _entry(self.writer, "will", "acme", ("run:read", "run:write")),
            _entry(self.stranger, "gus", "globex", ALL_SCOPES),
        ]
        path.write_text(json.dumps(entries))
        return path


TOKENS = Tokens()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What engines of one test share; `skills` is the target map."""

    database_url: str
    redis_url: str | None
    skills: str = ""
    folder: Path
    environment: Mapping[str, str]


class EngineProcess(ManagedProcess):
    """`runengine-server serve`, answering at `target` once constructed."""

    def __init__(
        self,
        settings: EngineSettings,
        name: str = "engine",
        *,
        address: str = "127.0.0.1:0",
        **environment: str,
    ) -> None:
        """Start the server and wait until it listens; the schema is there already.

        Args:
            settings: databases, skill targets, and the folder for tokens file and log.
            name: of its log file.
            address: where it listens; port 0 takes a free one, `unix:/path` a socket.
            environment: further variables, such as RUNENGINE_LEASE_S.

        Raises:
            AssertionError: it did not start; with its log.
        """
        variables = {
            "DATABASE_URL": settings.database_url,
            "RUNENGINE_GRPC_ADDRESS": address,
            "RUNENGINE_HTTP_ADDRESS": "127.0.0.1:0",
            "RUNENGINE_OPS_ADDRESS": "127.0.0.1:0",
            "RUNENGINE_SKILLS": settings.skills,
            "RUNENGINE_TOKENS_FILE": str(TOKENS.write(settings.folder / "tokens.json")),
            "RUNENGINE_LOG_FORMAT": "console",
            "RUNENGINE_REFLECTION": "true",
            "RUNENGINE_DATABASE_CONNECTIONS": "4",
            **settings.environment,
            **environment,
        }
        if settings.redis_url is not None:
            variables["REDIS_URL"] = settings.redis_url
        if variables.get("RUNENGINE_ANONYMOUS") == "true":
            del variables["RUNENGINE_TOKENS_FILE"]
        super().__init__(
            [sys.executable, "-m", "runengine_server", "serve"],
            log_path=settings.folder / f"{name}.log",
            environment=variables,
        )
        try:
            self.http_url = self.wait_for_line("HTTP and console on ")
            self.ops_url = self.wait_for_line("Health and metrics on ")
            self.target = self.wait_for_line("RunEngine is listening on ")
        except BaseException:
            self.kill()
            raise

    @property
    def token(self) -> str:
        """A token that may do everything."""
        return TOKENS.admin

    def client(self, token: str | None = TOKENS.admin, **options: Any) -> "RunEngineClient":
        """A client of this server; use it inside `async with`."""
        from runengine_client import RunEngineClient

        return RunEngineClient(self.target, token=token, **options)


def _entry(token: str, principal: str, tenant: str, scopes: tuple[str, ...]) -> dict[str, object]:
    return {"token": token, "principal": principal, "tenant": tenant, "scopes": list(scopes)}

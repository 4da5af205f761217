"""What an operator can set, by environment variable; frozen once parsed, wrong values explained by field."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, DirectoryPath, Field, PlainValidator, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource, SettingsConfigDict

from runengine_server.scheduler.settings import SchedulerSettings

_PORT_MAX = 65_535
_DAYS_MIN = 1  # a request id is promised to be good for 24 hours, and goes with its run
_DAYS_MAX = 36_500


class LogFormat(StrEnum):
    """How log lines look."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class ConfigurationError(Exception):
    """The configuration cannot be used; the message names each variable and what to do."""


def host_and_port(address: str) -> tuple[str, int]:
    """What `host:port` says, an IPv6 address without its brackets.

    Raises:
        ValueError: it is written otherwise; the message says how to write it.
    """
    host, _, port = address.rpartition(":")
    is_host = host != "" and (":" not in host or (host.startswith("[") and host.endswith("]")))
    if not is_host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > _PORT_MAX:
        raise PydanticCustomError(
            "address",
            "Input should be host:port, such as 127.0.0.1:3001; [::1]:3001 for IPv6, 0.0.0.0:3001 for every interface",
        )
    return host.strip("[]"), int(port)


def _tcp(address: str) -> str:
    host_and_port(address)
    return address


def _tcp_or_socket(address: str) -> str:
    return address if address.startswith("unix:") and address != "unix:" else _tcp(address)


def _days_or_never(value: object) -> float | Literal["never"]:
    if value == "never":
        return "never"
    try:
        days = float(str(value))
    except ValueError:
        days = 0.0
    if not _DAYS_MIN <= days <= _DAYS_MAX:
        raise PydanticCustomError("days", "Input should be a number of days from 1 to 36500, or never")
    return days


DaysOrNever = Annotated[float | Literal["never"], PlainValidator(_days_or_never)]


class Settings(BaseSettings):
    """All settings; `DATABASE_URL` and `REDIS_URL` by their plain names, everything else `RUNENGINE_*`."""

    model_config = SettingsConfigDict(env_prefix="RUNENGINE_", frozen=True, extra="ignore")

    database_url: Annotated[
        str, Field(validation_alias="DATABASE_URL", description="PostgreSQL 15-18, postgresql://user@host/database")
    ]
    redis_url: Annotated[
        str | None,
        Field(validation_alias="REDIS_URL", description="Redis >= 6.2 or Valkey >= 7.2; unset: cold cache only"),
    ] = None
    listen_database_url: Annotated[
        str | None, Field(description="for LISTEN, where DATABASE_URL leads to a transaction pooler; default: the same")
    ] = None
    secrets_dir: Annotated[
        DirectoryPath | None, Field(description="folder of files named like variables, each with the value of one")
    ] = None
    database_connections: Annotated[int, Field(ge=2, le=100, description="connections besides the scheduler's")] = 8
    statement_cache_size: Annotated[int, Field(ge=0, description="0 behind PgBouncer in transaction mode")] = 200

    grpc_address: Annotated[
        str, AfterValidator(_tcp_or_socket), Field(description="host:port (port 0: any free) or unix:/path")
    ] = "127.0.0.1:50051"
    http_address: Annotated[
        str, AfterValidator(_tcp), Field(description="HTTP, events and console: host:port (port 0: any free)")
    ] = "127.0.0.1:3001"
    ops_address: Annotated[
        str,
        AfterValidator(_tcp),
        Field(description="health and metrics, without tokens: host:port (port 0: any free); bind it privately"),
    ] = "127.0.0.1:3002"
    cors_origins: Annotated[
        str, Field(description="origins whose pages may call over HTTP, such as https://app.example,https://…")
    ] = ""
    reflection: Annotated[bool, Field(description="serve gRPC reflection")] = False
    tls_cert: Annotated[Path | None, Field(description="PEM certificate chain of the server")] = None
    tls_key: Annotated[Path | None, Field(description="PEM private key of the server")] = None
    insecure_plaintext: Annotated[bool, Field(description="accept tokens in clear text beyond loopback")] = False
    watches_max: Annotated[int, Field(ge=1, description="open watches of this server")] = 2_000
    watches_per_tenant_max: Annotated[int, Field(ge=1, description="open watches of one tenant on this server")] = 500

    tokens_file: Annotated[Path | None, Field(description="YAML or JSON; see docs/configuration.md")] = None
    jwt_jwks_url: Annotated[
        str | None,
        Field(description="keys of the issuer of JSON Web Tokens: https://…, http:// on loopback, file:///path"),
    ] = None
    jwt_issuer: Annotated[str | None, Field(min_length=1, description="iss of its tokens, letter by letter")] = None
    jwt_audience: Annotated[str | None, Field(min_length=1, description="aud of tokens that are for this server")] = (
        None
    )
    jwt_tenant_claim: Annotated[str, Field(min_length=1, description="claim that names the tenant")] = "tenant"
    jwt_scope_claim: Annotated[str, Field(min_length=1, description="claim with the scopes: text or a list")] = "scope"
    anonymous: Annotated[bool, Field(description="let callers in without a token; on loopback only")] = False

    skills: Annotated[
        str, Field(description="target map, such as image.*=grpc://127.0.0.1:7001,*=grpcs://skills.example:443")
    ] = ""
    skill_tokens: Annotated[str, Field(description="bearer tokens of skill targets: endpoint=token,…")] = ""
    callback_url: Annotated[
        str, Field(pattern="^(https?://.+)?$", description="where skills over HTTP answer later; default: this server")
    ] = ""
    workflow_dir: Annotated[Path | None, Field(description="workflow files that serve every tenant")] = None

    artifact_store: Annotated[
        str, Field(description="where skills publish, to serve from and clear: file:///directory or s3://bucket/prefix")
    ] = ""
    artifact_roots: Annotated[
        str, Field(description="further places to serve and verify from: file:///srv/artifacts,https://cdn.example/a")
    ] = ""
    artifact_unreferenced_days: Annotated[
        float | None,
        Field(ge=0.25, le=36_500, description="clear the artifact store of what is older and unused; unset: never"),
    ] = None
    cache_max_age_days: Annotated[
        float | None, Field(gt=0, le=36_500, description="evict cache entries older than this; unset: never")
    ] = None
    cache_max_bytes: Annotated[
        int | None, Field(ge=0, description="evict the oldest entries beyond so many bytes of output; unset: never")
    ] = None
    cache_cleanup_interval_s: Annotated[
        float, Field(ge=1, le=86_400, description="time between two passes over the cache, in seconds")
    ] = 600.0

    run_retention_days: Annotated[
        DaysOrNever, Field(description="delete runs so many days (1 or more) after they ended, or never")
    ] = 30.0
    event_retention_days: Annotated[
        DaysOrNever, Field(description="delete events so many days after their run ended; never: with their run")
    ] = 7.0
    audit_retention_days: Annotated[
        DaysOrNever, Field(description="delete entries of the audit log after so many days, or never")
    ] = 365.0
    retention_interval_s: Annotated[
        float, Field(ge=1, le=86_400, description="time between two passes over the history, in seconds")
    ] = 600.0

    lease_s: Annotated[float, Field(gt=0.1, le=300, description="how long an engine may be silent, in seconds")] = 10.0
    attempts_max: Annotated[int, Field(ge=1, le=20_000, description="attempts in flight in this process")] = 1_000
    poll_s: Annotated[float, Field(gt=0, le=60, description="longest wait for work without a hint, in seconds")] = 0.5
    heartbeat_interval_s: Annotated[
        float, Field(gt=0, le=60, description="how often skills must be heard; three missed intervals end a call")
    ] = 5.0
    drain_s: Annotated[float, Field(ge=0, le=600, description="time to finish at shutdown, in seconds")] = 10.0

    log_format: LogFormat = LogFormat.AUTO
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments come before variables, and variables before the files of `RUNENGINE_SECRETS_DIR`."""
        folder = Path(os.environ.get("RUNENGINE_SECRETS_DIR", ""))
        # What is no folder is explained as the setting's value, like any other.
        files = (SecretsSettingsSource(settings_cls, folder),) if folder.name and folder.is_dir() else ()
        return (init_settings, env_settings, *files)

    @model_validator(mode="after")
    def _is_consistent(self) -> "Settings":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("RUNENGINE_TLS_CERT and RUNENGINE_TLS_KEY belong together: set both or neither")
        if self.tokens_file is not None and self.anonymous:
            raise ValueError("RUNENGINE_ANONYMOUS lets everybody in: unset it, or RUNENGINE_TOKENS_FILE")
        jwt = [self.jwt_jwks_url, self.jwt_issuer, self.jwt_audience]
        named = "RUNENGINE_JWT_JWKS_URL, RUNENGINE_JWT_ISSUER and RUNENGINE_JWT_AUDIENCE"
        if None in jwt and jwt != [None, None, None]:
            raise ValueError(f"{named} belong together: set all three or none")
        if self.jwt_jwks_url is not None and self.anonymous:
            raise ValueError(f"RUNENGINE_ANONYMOUS lets everybody in: unset it, or {named}")
        return self

    @property
    def knows_callers(self) -> bool:
        """Whether it says where tokens are from."""
        return self.tokens_file is not None or self.jwt_jwks_url is not None

    def scheduler_settings(self) -> SchedulerSettings:
        """The part about the scheduler."""
        return SchedulerSettings(lease_s=self.lease_s, attempts_max=self.attempts_max, poll_s=self.poll_s)


def read_settings(**overrides: object) -> Settings:
    """The settings from the environment, `overrides` on top.

    Raises:
        ConfigurationError: with one line for each variable that is wrong.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigurationError("\n".join(_line(problem) for problem in error.errors())) from None


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    field = Settings.model_fields.get(name)
    alias = field.validation_alias if field is not None else None
    if isinstance(alias, str):
        return alias
    return name if name.isupper() else f"RUNENGINE_{name.upper()}"


def _line(problem: object) -> str:
    assert isinstance(problem, dict), "pydantic describes each problem as a dict"
    place = ".".join(str(part) for part in problem["loc"])
    variable = variable_of(place)
    if not place:
        return str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{variable} is not set; `runengine-server config check` explains, `runengine-server dev` needs none"
    return f"{variable}: {problem['msg']}"

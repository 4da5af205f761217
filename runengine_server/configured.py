"""Part of the composition: builds from the settings alone what the parts of a process need of the world.

Every function here raises ConfigurationError where the settings cannot be used.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from runengine_server.adapters.artifacts import ArtifactRootError, Artifacts, open_artifacts
from runengine_server.adapters.cache.tiered import TieredOutputCache
from runengine_server.adapters.clock import SystemClock
from runengine_server.adapters.postgres.cache_cleanup import CacheCleanup, CleanupSettings
from runengine_server.adapters.postgres.cold_cache import PostgresOutputCache
from runengine_server.adapters.postgres.database import PINNED_PLANS, Database, open_database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.adapters.postgres.retention import Retention, RetentionSettings
from runengine_server.adapters.skills.http_callbacks import HttpCallbacks
from runengine_server.adapters.skills.local_runner import LocalSkillRunner
from runengine_server.adapters.skills.routing import RoutingSkillRunner, route_targets
from runengine_server.adapters.skills.targets import TargetError, parse_targets, parse_tokens
from runengine_server.adapters.tokens.anonymous import AnonymousAuthenticator
from runengine_server.adapters.tokens.static_tokens import StaticTokens
from runengine_server.adapters.valkey.output_cache import open_valkey_cache
from runengine_server.config import ConfigurationError, Settings
from runengine_server.http.settings import HttpSettings
from runengine_server.ports.authenticator import Authenticator
from runengine_server.ports.observer import Observer
from runengine_server.rpc.settings import RpcSettings, TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """Connections by use: ticks, heartbeats and questions about health never wait behind anything else."""

    general: Database
    ticks: Database
    heartbeats: Database
    operations: Database


async def open_databases(stack: AsyncExitStack, settings: Settings) -> Databases:
    """Pools that close with the stack."""
    enter = stack.enter_async_context
    pipelines = settings.scheduler_settings().pipelines
    return Databases(
        general=await enter(_database(settings, settings.database_connections, PINNED_PLANS)),
        ticks=await enter(_database(settings, pipelines, PINNED_PLANS)),
        heartbeats=await enter(_database(settings, 1)),
        operations=await enter(_database(settings, 2)),
    )


def _database(settings: Settings, connections_max: int, server_settings: Mapping[str, str] | None = None) -> Any:
    return open_database(
        settings.database_url,
        connections_max=connections_max,
        settings=server_settings,
        statement_cache_size=settings.statement_cache_size,
    )


def _tls(settings: Settings) -> TlsFiles | None:
    if settings.tls_cert and settings.tls_key:
        return TlsFiles(certificate_chain=settings.tls_cert, private_key=settings.tls_key)
    return None


def http_settings_of(settings: Settings) -> HttpSettings:
    """Those of the HTTP surface."""
    return HttpSettings(
        address=settings.http_address,
        has_auth=not settings.anonymous,
        tls=_tls(settings),
        insecure_plaintext=settings.insecure_plaintext,
        cors_origins=[origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()],
    )


def rpc_settings_of(settings: Settings) -> RpcSettings:
    """Those of the gRPC surface."""
    return RpcSettings(
        address=settings.grpc_address,
        has_auth=not settings.anonymous,
        tls=_tls(settings),
        insecure_plaintext=settings.insecure_plaintext,
        has_reflection=settings.reflection,
        watches_max=settings.watches_max,
        watches_per_tenant_max=settings.watches_per_tenant_max,
    )


@asynccontextmanager
async def open_skill_runner(
    settings: Settings, local: LocalSkillRunner | None, callbacks: HttpCallbacks
) -> AsyncIterator[RoutingSkillRunner]:
    """The skills of the target map: `local` are those of this process, those over HTTP may answer to `callbacks`."""
    try:
        targets = parse_targets(settings.skills)
        is_wildcard = settings.http_address.rpartition(":")[0] in ("", "0.0.0.0", "[::]")
        if is_wildcard and not settings.callback_url and any(each.endpoint.transport.is_http for each in targets):
            raise ConfigurationError("RUNENGINE_CALLBACK_URL is not set: say where skills over HTTP reach this server")
        runner = route_targets(
            targets,
            tokens=parse_tokens(settings.skill_tokens),
            local=local,
            callbacks=callbacks,
            heartbeat_interval_s=settings.heartbeat_interval_s,
        )
    except TargetError as error:
        raise ConfigurationError(f"RUNENGINE_SKILLS: {error}") from None
    try:
        async with runner:
            yield runner
    except ExceptionGroup as group:
        raise _only(group) from None


def _only(group: ExceptionGroup[Exception]) -> Exception:
    """What is wrong, without the groups that task groups put around it; a group where it is more than one thing."""
    error: Exception = group
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def open_cache_tiers(
    settings: Settings, database: Database, cold: PostgresOutputCache
) -> AsyncIterator[TieredOutputCache | None]:
    """Both tiers of the cache; None where there is no hot one."""
    if settings.redis_url is None:
        yield None
        return
    installation_id = str(await database.fetchval(sql("installation_id")))
    async with AsyncExitStack() as stack:
        try:
            hot = await stack.enter_async_context(open_valkey_cache(settings.redis_url, installation_id, SystemClock()))
        except ValueError as error:
            raise ConfigurationError(f"REDIS_URL: {error}") from None
        yield TieredOutputCache(hot, cold)


def artifacts_of(settings: Settings) -> Artifacts:
    """Where artifacts are, and may be."""
    try:
        return open_artifacts(settings.artifact_roots, settings.artifact_store, SystemClock())
    except ArtifactRootError as error:
        raise ConfigurationError(f"RUNENGINE_ARTIFACT_ROOTS, RUNENGINE_ARTIFACT_STORE: {error}") from None


def cache_cleanup_of(settings: Settings, database: Database, observer: Observer) -> CacheCleanup:
    """What evicts cache entries by age and size."""
    return CacheCleanup(
        database,
        CleanupSettings(
            age_s_max=_seconds(settings.cache_max_age_days),
            bytes_max=settings.cache_max_bytes,
            interval_s=settings.cache_cleanup_interval_s,
        ),
        observer,
    )


def retention_of(settings: Settings, database: Database, observer: Observer) -> Retention:
    """What deletes the history."""
    return Retention(
        database,
        RetentionSettings(
            runs_s=_seconds(settings.run_retention_days),
            events_s=_seconds(settings.event_retention_days),
            audit_s=_seconds(settings.audit_retention_days),
            interval_s=settings.retention_interval_s,
        ),
        observer,
    )


def _seconds(days: float | str | None) -> float | None:
    return days * 24 * 3600 if isinstance(days, float) else None


def authenticator_of(settings: Settings) -> Authenticator:
    """Who knows the callers."""
    if settings.anonymous:
        return AnonymousAuthenticator()
    if not settings.knows_callers:
        raise ConfigurationError(
            "RUNENGINE_TOKENS_FILE is not set: name a file of tokens, or an issuer of JSON Web Tokens by "
            "RUNENGINE_JWT_JWKS_URL, or set RUNENGINE_ANONYMOUS=true on loopback"
        )
    listed = StaticTokens.from_file(settings.tokens_file) if settings.tokens_file is not None else None
    return listed if listed is not None and settings.jwt_jwks_url is None else _jwt_tokens(settings, listed)


def _jwt_tokens(settings: Settings, listed: StaticTokens | None) -> Authenticator:
    # Imported when it is configured: cryptography takes 10 MB.
    from runengine_server.adapters.tokens.jwks import Jwks, JwksError, check_jwks_url
    from runengine_server.adapters.tokens.jwt_tokens import JwtRules, JwtTokens

    url, issuer, audience = settings.jwt_jwks_url, settings.jwt_issuer, settings.jwt_audience
    assert url is not None and issuer is not None and audience is not None, "the settings are consistent"
    try:
        check_jwks_url(url)
    except JwksError as error:
        raise ConfigurationError(f"RUNENGINE_JWT_JWKS_URL {error}") from None
    rules = JwtRules(
        issuer=issuer,
        audience=audience,
        tenant_claim=settings.jwt_tenant_claim,
        scope_claim=settings.jwt_scope_claim,
    )
    return JwtTokens(rules, Jwks(url, SystemClock()), otherwise=listed)

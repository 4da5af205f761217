"""What a configuration names or spells out: token files, certificates, skills, workflows, roots, URLs."""

import ssl
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from runengine_client.workflow import WorkflowDocumentError, read_directory
from runengine_server.adapters.artifacts import ArtifactRootError, open_artifacts, parse_roots
from runengine_server.adapters.clock import SystemClock
from runengine_server.adapters.memory.skill_calls import MemorySkillCalls
from runengine_server.adapters.postgres.database_check import DatabaseUrlError, one_line_errors
from runengine_server.adapters.skills.http_callbacks import HttpCallbacks
from runengine_server.adapters.skills.routing import RoutingSkillRunner, route_targets
from runengine_server.adapters.skills.targets import Endpoint, SkillTarget, TargetError, parse_targets, parse_tokens
from runengine_server.adapters.tokens.jwks import JwksError, check_jwks_url
from runengine_server.adapters.tokens.tokens_file import TokensFileError, read_tokens_file
from runengine_server.adapters.valkey.connection import SCHEMES
from runengine_server.commands.effective import without_secrets
from runengine_server.commands.findings import Finding, failed, warning
from runengine_server.config import Settings
from runengine_server.rpc.bind import is_loopback

_Check = Callable[[Settings], Iterator[Finding]]


def check_files(settings: Settings, *, without: Collection[str]) -> Iterator[Finding]:
    """What is wrong with what the settings name, those in `without` left out."""
    for needed, check in _CHECKS:
        if not set(needed) & set(without):
            yield from check(settings)


def _database_urls(settings: Settings) -> Iterator[Finding]:
    urls = {"DATABASE_URL": settings.database_url}
    if settings.listen_database_url is not None:
        urls["RUNENGINE_LISTEN_DATABASE_URL"] = settings.listen_database_url
    for variable, url in urls.items():
        try:
            with one_line_errors(url, variable):
                _ = urlsplit(url).port  # a ValueError where it is no number
        except DatabaseUrlError as error:
            found, _, advice = str(error).removeprefix(f"{variable} ").partition("; ")
            yield failed(variable, found, advice)


def _redis_url(settings: Settings) -> Iterator[Finding]:
    if settings.redis_url is None:
        advice = "set REDIS_URL=redis://host:6379/0 so that hits need no database"
        yield warning("REDIS_URL", "is not set: the cache is PostgreSQL alone", advice)
    elif urlsplit(settings.redis_url).scheme not in SCHEMES:
        yield failed("REDIS_URL", "is not the URL of a Redis or Valkey server", "write redis://:password@host:6379/0")


def _tokens(settings: Settings) -> Iterator[Finding]:
    variable = "RUNENGINE_TOKENS_FILE"
    if settings.tokens_file is None:
        if not settings.anonymous and not settings.knows_callers:
            advice = (
                "name a file of tokens, or an issuer by RUNENGINE_JWT_JWKS_URL, "
                "or set RUNENGINE_ANONYMOUS=true to let everybody on this machine in"
            )
            yield failed(variable, "is not set", advice)
        return
    try:
        read_tokens_file(settings.tokens_file)
    except TokensFileError as error:
        for problem in error.problems:
            yield failed(variable, f"{settings.tokens_file}: {problem}", "see docs/configuration.md#tokens")


def _jwks_url(settings: Settings) -> Iterator[Finding]:
    if settings.jwt_jwks_url is None:
        return
    try:
        check_jwks_url(settings.jwt_jwks_url)
    except JwksError as error:
        yield failed("RUNENGINE_JWT_JWKS_URL", str(error), "write https://issuer.example/.well-known/jwks.json")


def _certificate(settings: Settings) -> Iterator[Finding]:
    if settings.tls_cert is None or settings.tls_key is None:
        return
    files = {"RUNENGINE_TLS_CERT": settings.tls_cert, "RUNENGINE_TLS_KEY": settings.tls_key}
    unreadable = list(_unreadable(files))
    yield from unreadable
    if unreadable:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except ssl.SSLError as error:
        found = f"{settings.tls_cert} and {settings.tls_key}: {error.reason or error}"
        advice = "write PEM files: a certificate chain and its own private key, without a password"
        yield failed("RUNENGINE_TLS_CERT", found, advice)


def _unreadable(files: dict[str, Path]) -> Iterator[Finding]:
    for variable, file in files.items():
        try:
            file.read_bytes()
        except OSError as error:
            advice = "name a file that the server's account may read"
            yield failed(variable, f"{file}: cannot be read: {error.strerror}", advice)


def _skills(settings: Settings) -> Iterator[Finding]:
    variable = "RUNENGINE_SKILLS"
    form = "write image.*=grpc://127.0.0.1:7001,*=grpcs://skills.example:443"
    try:
        targets = parse_targets(settings.skills)
    except TargetError as error:
        yield failed(variable, str(error), form)
        return
    if not targets:
        yield warning(variable, "is not set: no step can run", form)
    try:
        tokens = parse_tokens(settings.skill_tokens)
    except TargetError as error:
        yield failed("RUNENGINE_SKILL_TOKENS", str(error), "write grpcs://skills.example:443=TOKEN")
        return
    try:
        routed(targets, tokens)
    except TargetError as error:
        is_token = "token" in str(error)
        advice = "use the endpoints of RUNENGINE_SKILLS, letter by letter" if is_token else form
        yield failed("RUNENGINE_SKILL_TOKENS" if is_token else variable, str(error), advice)
    remote = [each for each in targets if each.endpoint.transport.is_http and not each.endpoint.is_on_this_machine]
    if remote and not settings.callback_url and is_loopback(settings.http_address):
        found = f"is not set: {remote[0].endpoint.address} cannot call back to {settings.http_address}"
        yield failed("RUNENGINE_CALLBACK_URL", found, "write the URL by which skills reach this engine or any other")


def routed(targets: Sequence[SkillTarget], tokens: Mapping[Endpoint, str]) -> RoutingSkillRunner:
    """The runner of a target map, for asking what skills there are; callbacks of calls would be lost.

    Raises:
        TargetError: as `route_targets`.
    """
    return route_targets(targets, tokens=tokens, callbacks=HttpCallbacks(MemorySkillCalls()))


def _origins(settings: Settings) -> Iterator[Finding]:
    for origin in filter(None, map(str.strip, settings.cors_origins.split(","))):
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}"):
            advice = "write scheme, host and port alone, as a browser does: https://app.example"
            yield failed("RUNENGINE_CORS_ORIGINS", f"{origin!r} is no origin, and no page is one like it", advice)


def _workflows(settings: Settings) -> Iterator[Finding]:
    if settings.workflow_dir is None:
        return
    variable = "RUNENGINE_WORKFLOW_DIR"
    try:
        read_directory(settings.workflow_dir)
    except WorkflowDocumentError as error:
        advice = f"runengine workflow lint {settings.workflow_dir}"
        for violation in error.violations:
            yield failed(variable, f"{violation.field}: {violation.description}", advice)
    except OSError as error:
        found = f"{settings.workflow_dir}: cannot be read: {error.strerror}"
        yield failed(variable, found, "name a directory that the server's account may read")


def _artifacts(settings: Settings) -> Iterator[Finding]:
    texts = {
        "RUNENGINE_ARTIFACT_ROOTS": (settings.artifact_roots, ""),
        "RUNENGINE_ARTIFACT_STORE": ("", settings.artifact_store),
    }
    for variable, (roots, store) in texts.items():
        try:
            open_artifacts(roots, store, SystemClock())
        except ArtifactRootError as error:
            found, _, advice = str(error).partition("; ")
            yield failed(variable, without_secrets(found), advice)
            continue
        for root in parse_roots(",".join([roots, store if store.startswith("file:") else ""])):
            if root.scheme == "file" and not Path(root.path).is_dir():
                found = f"{root.path} is no directory: artifacts below it can be neither opened nor verified"
                yield warning(variable, found, "make the directory, or mount it here")


_CHECKS: Final[tuple[tuple[tuple[str, ...], _Check], ...]] = (
    (("database_url", "listen_database_url"), _database_urls),
    (("redis_url",), _redis_url),
    (("tokens_file", "anonymous", "jwt_jwks_url"), _tokens),
    (("jwt_jwks_url",), _jwks_url),
    (("tls_cert", "tls_key"), _certificate),
    (("cors_origins",), _origins),
    (("skills", "skill_tokens"), _skills),
    (("workflow_dir",), _workflows),
    (("artifact_roots", "artifact_store"), _artifacts),
)

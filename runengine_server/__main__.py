"""The `runengine-server` command: serve, dev, migrate; `config check` and `doctor` are in commands/."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from runengine_server.adapters.embedded import EmbeddedError, start_embedded
from runengine_server.adapters.postgres.database_check import (
    DatabaseUnusableError,
    DatabaseUrlError,
    check_database,
    one_line_errors,
)
from runengine_server.adapters.postgres.migrate import MigrationError
from runengine_server.adapters.postgres.migrate import migrate as apply_migrations
from runengine_server.commands.artifact_commands import artifacts_app
from runengine_server.commands.diagnosis import config_app, doctor
from runengine_server.config import ConfigurationError, Settings, read_settings

RUNNING = "Run it"
CHECKING = "Check it"

cli = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The RunEngine server. Settings come from the environment: DATABASE_URL, REDIS_URL and RUNENGINE_*."
    "\n\nExamples:\n\n  runengine-server dev\n\n  runengine-server doctor",
)


def _say_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"runengine-server {version('runengine')}")
        raise typer.Exit


@cli.callback()
def describe(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Take the options that need no command."""


@cli.command(rich_help_panel=RUNNING)
def serve(
    *,
    migrate_first: Annotated[bool, typer.Option("--migrate", help="Bring the schema up to date first.")] = False,
) -> None:
    """Serve gRPC, HTTP and the console, and run steps, until SIGTERM or Ctrl-C, then drain.

    Example:

      DATABASE_URL=postgresql://… REDIS_URL=redis://… RUNENGINE_TOKENS_FILE=tokens.yaml runengine-server serve
    """
    settings = _settings()
    if migrate_first:
        _migrate(settings)
    _check_databases(settings)
    _serve(settings)


@cli.command(rich_help_panel=RUNNING)
def migrate() -> None:
    """Bring the database's schema up to date; safe to run from many places at once.

    Example:

      DATABASE_URL=postgresql://… runengine-server migrate
    """
    _migrate(_settings())


@cli.command(rich_help_panel=RUNNING)
def dev(
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the databases live; default: a temporary folder, gone at exit.")
    ] = None,
) -> None:
    """Serve on an embedded PostgreSQL and Valkey with a token of its own, for development on this machine.

    DATABASE_URL and REDIS_URL are honoured where they are set.

    Example:

      runengine-server dev --data-dir data
    """
    with ExitStack() as stack:
        overrides: dict[str, object] = {"reflection": True}
        # Databases start before grpc is imported: it does not like processes to be forked beside it.
        overrides |= _embedded_urls(stack, data_dir)
        settings = _settings(**overrides)
        _migrate(settings)
        _serve(settings, is_development=True)


cli.command(rich_help_panel=CHECKING)(doctor)
cli.add_typer(config_app, name="config", rich_help_panel=CHECKING)
cli.add_typer(artifacts_app, name="artifacts", rich_help_panel=RUNNING)


def main() -> None:
    """Run the command line."""
    cli()


def _embedded_urls(stack: ExitStack, data_dir: Path | None) -> dict[str, object]:
    """Start whichever database the environment does not name."""
    wanted = {name for name in ("DATABASE_URL", "REDIS_URL") if name not in os.environ}
    if not wanted:
        return {}
    try:
        embedded = stack.enter_context(start_embedded(data_dir))
    except EmbeddedError as error:
        _refuse(error)
    urls = {"DATABASE_URL": embedded.database_url, "REDIS_URL": embedded.redis_url}
    return {name: urls[name] for name in wanted}


def _settings(**overrides: object) -> Settings:
    try:
        return read_settings(**overrides)
    except ConfigurationError as error:
        _refuse(error)


def _migrate(settings: Settings) -> None:
    async def apply() -> None:
        with one_line_errors(settings.database_url):
            for migration in await apply_migrations(settings.database_url):
                typer.echo(f"applied migration {migration.version:04} {migration.name}", err=True)

    _run_on_database(apply)


def _check_databases(settings: Settings) -> None:
    async def check() -> None:
        await check_database(settings.database_url)
        if settings.listen_database_url is not None:
            await check_database(settings.listen_database_url, "RUNENGINE_LISTEN_DATABASE_URL")

    _run_on_database(check)


def _run_on_database(work: Callable[[], Coroutine[object, object, None]]) -> None:
    """Do it, or end with one line: status 2 where the configuration is wrong, 1 where the database is not there."""
    try:
        asyncio.run(work())
    except (DatabaseUrlError, MigrationError) as error:
        _refuse(error)
    except DatabaseUnusableError as error:
        _refuse(error, status=1)


def _serve(settings: Settings, *, is_development: bool = False) -> None:
    from runengine_server.serve import serve_until_stopped

    try:
        serve_until_stopped(settings, is_development=is_development)
    except ConfigurationError as error:
        _refuse(error)


def _refuse(error: Exception, *, status: int = 2) -> NoReturn:
    typer.echo(f"runengine-server: {error}", err=True)
    raise typer.Exit(status)


if __name__ == "__main__":
    main()

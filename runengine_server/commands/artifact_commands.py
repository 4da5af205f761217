"""The commands `artifacts …`: what an operator does with the artifact store by hand.

What they need is imported when they run: `dev`, in the same program, starts its databases before grpc is there.
"""

import asyncio
from typing import Annotated, NoReturn

import typer

AGE_DAYS_DEFAULT = 7.0
AGE_DAYS_MIN = 0.25

UNAVAILABLE, REFUSED = 1, 2

artifacts_app = typer.Typer(
    no_args_is_help=True,
    help="Look after the artifact store.\n\nExample:\n\n  runengine-server artifacts clean --dry-run",
)


@artifacts_app.callback()
def _artifacts() -> None:
    """Keeps `clean` a command of its own: there will be others."""


@artifacts_app.command()
def clean(
    *,
    dry_run: Annotated[bool, typer.Option(help="Count what could go, and change nothing.")] = False,
    age_days: Annotated[
        float | None,
        typer.Option(min=AGE_DAYS_MIN, show_default=False, help="How old it must be; default: the setting, else 7."),
    ] = None,
) -> None:
    """Remove from RUNENGINE_ARTIFACT_STORE what no artifact names: run it twice, an hour or more apart.

    The first pass marks, a later one removes what is still old and without references. Engines may go on meanwhile.

    Exit status: 0 done, 1 the database or the store does not answer, 2 there is no store, or it is another database's.

    Examples:

      runengine-server artifacts clean --dry-run

      runengine-server artifacts clean --age-days 30
    """
    from runengine_server.adapters.artifacts import ArtifactRootError
    from runengine_server.config import ConfigurationError
    from runengine_server.domain.errors import PreconditionError, UnavailableError

    try:
        typer.echo(asyncio.run(_clean(is_dry=dry_run, age_days=age_days)))
    except (ConfigurationError, ArtifactRootError) as error:
        _end(str(error), REFUSED)
    except PreconditionError as error:
        _end(error.message, REFUSED)
    except UnavailableError as error:
        _end(error.message, UNAVAILABLE)


async def _clean(*, is_dry: bool, age_days: float | None) -> str:
    from runengine_server.adapters.artifacts import open_artifacts
    from runengine_server.adapters.clock import SystemClock
    from runengine_server.adapters.postgres.database import open_database
    from runengine_server.artifact_cleaning import artifact_cleaner
    from runengine_server.config import ConfigurationError, read_settings
    from runengine_server.service.clean_artifacts import clean_artifacts, count_removable

    settings = read_settings()
    artifacts = open_artifacts(settings.artifact_roots, settings.artifact_store, SystemClock())
    age_days = age_days or settings.artifact_unreferenced_days or AGE_DAYS_DEFAULT
    async with open_database(settings.database_url, connections_max=1) as database:
        cleaner = await artifact_cleaner(artifacts, database, SystemClock(), age_days=age_days)
        if cleaner is None:
            raise ConfigurationError("RUNENGINE_ARTIFACT_STORE is not set: there is nothing to clear")
        if is_dry:
            return f"{await count_removable(cleaner)} contents are older than {age_days:g} days and have no references"
        cleaning = await clean_artifacts(cleaner)
    return (
        f"removed {cleaning.removed} contents, {cleaning.freed_bytes} bytes; marked {cleaning.marked} for a pass in an "
        f"hour or later; kept {cleaning.kept} that are needed again; cleared {cleaning.unfinished} unfinished files"
    )


def _end(message: str, status: int) -> NoReturn:
    typer.echo(f"runengine-server: {message}", err=True)
    raise typer.Exit(status)

"""The commands `config check` and `doctor`: what is wrong, and what to do about it.

What they need is imported when they run: `dev`, in the same program, starts its databases before grpc is there.
"""

import os
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

if TYPE_CHECKING:
    from rich.table import Table

    from runengine_server.commands.findings import Finding

BROKEN = 1
MISCONFIGURED = 2


class Output(StrEnum):
    """How findings are printed; the client's command has the same forms."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Form = Annotated[Output, typer.Option("--output", "-o", help="How to print what was found.")]

config_app = typer.Typer(
    no_args_is_help=True, help="Look at the configuration.\n\nExample:\n\n  runengine-server config check"
)


@config_app.command()
def check(output: Form = Output.TABLE) -> None:
    """Say what is wrong with the environment's settings and what to write, or which settings hold. Connects to nothing.

    Exit status: 0 it can be used, 2 it cannot.

    Examples:

      runengine-server config check

      runengine-server config check --output json
    """
    from runengine_server.commands.configuration import examine
    from runengine_server.commands.effective import effective_settings, settings_table
    from runengine_server.commands.findings import findings_table, has_failure

    configuration = examine(os.environ)
    findings = configuration.findings
    is_valid = not has_failure(findings)
    settings = effective_settings(configuration.settings, os.environ) if is_valid else []
    if output is Output.TABLE:
        tables = [settings_table(settings)] if settings else []
        _print(*tables, *([findings_table(findings)] if findings else []))
        typer.echo(f"the configuration {'can be used' if is_valid else 'cannot be used'}{_counted(findings)}")
    else:
        _print_data({"valid": is_valid, "findings": findings, "settings": settings}, output)
    raise typer.Exit(0 if is_valid else MISCONFIGURED)


def doctor(output: Form = Output.TABLE) -> None:
    """Examine PostgreSQL, its schema, Redis, every skill target, the files and the addresses of the settings.

    Changes nothing, and may be run beside engines that serve.

    Exit status: 0 nothing failed, 1 something did, 2 the configuration cannot be used.

    Examples:

      runengine-server doctor

      runengine-server doctor --output json
    """
    from runengine_server.commands.configuration import examine
    from runengine_server.commands.examination import examine_surroundings
    from runengine_server.commands.findings import findings_table, has_failure

    configuration = examine(os.environ)
    findings = [*configuration.findings, *anyio.run(examine_surroundings, configuration)]
    is_healthy = not has_failure(findings)
    if output is Output.TABLE:
        _print(findings_table(findings))
        typer.echo(
            f"{'nothing is in the way' if is_healthy else 'an engine cannot work like this'}{_counted(findings)}"
        )
    else:
        _print_data({"healthy": is_healthy, "findings": findings}, output)
    if is_healthy:
        raise typer.Exit(0)
    raise typer.Exit(MISCONFIGURED if has_failure(configuration.findings) else BROKEN)


def _print(*tables: "Table") -> None:
    from runengine_client.cli.session import make_console

    for table in tables:
        make_console(is_error=False).print(table)


def _print_data(value: object, output: Output) -> None:
    from runengine_client.cli import output as client

    typer.echo(client.dumps(value, client.Output(output.value)), nl=False)


def _counted(findings: "Sequence[Finding]") -> str:
    """How many are not as they should be, as the end of a sentence."""
    counts = {word: sum(finding.level == word for finding in findings) for word in ("failed", "warning")}
    said = [
        f"{count} {word}{'s' if word == 'warning' and count > 1 else ''}" for word, count in counts.items() if count
    ]
    return f": {', '.join(said)}" if said else ""

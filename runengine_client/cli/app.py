"""The `runengine` command line: global options, and where each command lives."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from runengine_client.cli import explanation_commands, run_commands, start_commands
from runengine_client.cli.cache_commands import cache_app
from runengine_client.cli.session import Output, Session
from runengine_client.cli.workflow_commands import workflow_app
from runengine_client.connection import TARGET_DEFAULT

GLOBAL_WITH_VALUE = ("--target", "--token", "--tls-ca", "--output", "-o")
GLOBAL_FLAGS = ("--tls", "--insecure-token")


class GlobalOptionsAnywhere(TyperGroup):
    """Takes the global options after the command too: `runengine get RUN --output json`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # click's Context, or typer's own copy of it
        """Parse with the global options moved to the front."""
        return super().parse_args(ctx, hoist(args))


def hoist(args: list[str]) -> list[str]:
    """The arguments with the global options first; everything after `--` stays."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(args)
    for arg in remaining:
        if arg == "--":
            rest.extend([arg, *remaining])
        elif arg in GLOBAL_FLAGS or (arg.partition("=")[0] in GLOBAL_WITH_VALUE[:-1] and "=" in arg):
            front.append(arg)
        elif arg in GLOBAL_WITH_VALUE:
            front.append(arg)
            front.extend([value] if (value := next(remaining, None)) is not None else [])
        else:
            rest.append(arg)
    return front + rest


app = typer.Typer(cls=GlobalOptionsAnywhere, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def connect(
    context: typer.Context,
    target: Annotated[str, typer.Option(envvar="RUNENGINE_TARGET", help="The server's gRPC address.")] = TARGET_DEFAULT,
    token: Annotated[
        str | None,
        typer.Option(envvar=["RUNENGINE_TOKEN", "TOKEN"], help="Bearer token.", show_default=False, show_envvar=True),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", envvar="RUNENGINE_TLS", help="Connect with TLS.")] = False,
    tls_ca: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="PEM file of the authority to trust; implies --tls."),
    ] = None,
    insecure_token: Annotated[
        bool, typer.Option("--insecure-token", help="Send the token unencrypted to another machine.")
    ] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print results.")] = Output.TABLE,
) -> None:
    """Start, watch and rebuild runs of workflows.

    Exit status: 0 completed, 1 failed, 2 usage, 3 cancelled, 4 not found, 5 server unavailable, 130 interrupted.

    Examples:

      runengine trigger campaign.build.v1 --payload @brief.json --watch

      runengine update RUN audio.update --payload '{"audioStyle": "epic"}' --plan

      runengine steps RUN --output json
    """
    context.obj = Session(
        target=target,
        token=token or None,
        tls=tls,
        tls_ca=tls_ca,
        insecure_token=insecure_token,
        output=output,
    )


app.command()(start_commands.trigger)
app.command()(start_commands.update)
app.command()(start_commands.retry)
app.command()(run_commands.watch)
app.command()(run_commands.get)
app.command(name="list")(run_commands.list_runs)
app.command()(run_commands.steps)
app.command()(run_commands.artifacts)
app.command()(explanation_commands.explain)
app.command()(explanation_commands.compare)
app.command()(explanation_commands.lineage)
app.command()(run_commands.cancel)
app.add_typer(workflow_app, name="workflow")
app.add_typer(cache_app, name="cache")


def main() -> None:
    """Run the command; the process ends with its status."""
    app()

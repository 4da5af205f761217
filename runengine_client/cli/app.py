"""The `runengine` command line: global options, and where each command lives."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from runengine_client.cli import (
    artifact_command,
    exit_codes,
    explanation_commands,
    queue_command,
    run_commands,
    start_commands,
)
from runengine_client.cli.cache_commands import cache_app
from runengine_client.cli.error_output import error_body
from runengine_client.cli.output import Output, dumps
from runengine_client.cli.session import Session, make_console
from runengine_client.cli.workflow_commands import workflow_app
from runengine_client.connection import TARGET_DEFAULT
from runengine_client.errors import InvalidArgumentError

GLOBAL_WITH_VALUE = ("--target", "--token", "--tls-ca", "--url", "--output", "-o")
GLOBAL_FLAGS = ("--tls", "--insecure-token", "--no-color")

STARTING = "Start and follow"
RUNS = "Look at runs"
WHY = "Ask why"
ENGINE = "Workflows and cache"
SERVER = "Where the server is"
PRINTING = "What is printed"


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
    target: Annotated[
        str,
        typer.Option(envvar="RUNENGINE_TARGET", help="The server's gRPC address.", rich_help_panel=SERVER),
    ] = TARGET_DEFAULT,
    token: Annotated[
        str | None,
        typer.Option(
            envvar=["RUNENGINE_TOKEN", "TOKEN"],
            help="Bearer token.",
            show_default=False,
            show_envvar=True,
            rich_help_panel=SERVER,
        ),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", envvar="RUNENGINE_TLS", help="Connect with TLS.", rich_help_panel=SERVER)
    ] = False,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="PEM file of the authority to trust; implies --tls.",
            rich_help_panel=SERVER,
        ),
    ] = None,
    insecure_token: Annotated[
        bool,
        typer.Option("--insecure-token", help="Send the token unencrypted to another machine.", rich_help_panel=SERVER),
    ] = False,
    url: Annotated[
        str,
        typer.Option(
            envvar="RUNENGINE_URL", help="The server's HTTP address, for files of artifacts.", rich_help_panel=SERVER
        ),
    ] = artifact_command.URL_DEFAULT,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="How to print results.", rich_help_panel=PRINTING)
    ] = Output.TABLE,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="Words without colours; so does NO_COLOR.", rich_help_panel=PRINTING)
    ] = False,
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
        url=url,
        output=output,
        console=make_console(is_error=False, has_colour=not no_color),
        errors=make_console(is_error=True, has_colour=not no_color),
    )


app.command(rich_help_panel=STARTING)(start_commands.trigger)
app.command(rich_help_panel=STARTING)(start_commands.update)
app.command(rich_help_panel=STARTING)(start_commands.retry)
app.command(rich_help_panel=STARTING)(run_commands.watch)
app.command(rich_help_panel=STARTING)(run_commands.cancel)
app.command(rich_help_panel=RUNS)(run_commands.get)
app.command(name="list", rich_help_panel=RUNS)(run_commands.list_runs)
app.command(rich_help_panel=RUNS)(run_commands.steps)
app.command(rich_help_panel=RUNS)(run_commands.artifacts)
app.add_typer(artifact_command.artifact_app, name="artifact", rich_help_panel=RUNS)
app.command(rich_help_panel=RUNS)(queue_command.queue)
app.command(name="watch-token", rich_help_panel=RUNS)(run_commands.watch_token)
app.command(rich_help_panel=WHY)(explanation_commands.explain)
app.command(rich_help_panel=WHY)(explanation_commands.compare)
app.command(rich_help_panel=WHY)(explanation_commands.lineage)
app.add_typer(workflow_app, name="workflow", rich_help_panel=ENGINE)
app.add_typer(cache_app, name="cache", rich_help_panel=ENGINE)


def main() -> None:
    """Run the command; the process ends with its status."""
    output = output_asked_for(sys.argv[1:])
    if output is Output.TABLE:
        app()
        return
    try:
        status = app(standalone_mode=False)
    except typer.Abort:
        status = exit_codes.FAILED
    except typer.TyperException as error:  # what a person would be told in a box
        sys.stderr.write(dumps(error_body(InvalidArgumentError("USAGE", error.format_message())), output))
        status = error.exit_code
    sys.exit(status)


def output_asked_for(args: list[str]) -> Output:
    """How the arguments ask for results to be printed, whatever else is wrong with them."""
    forms = {form.value: form for form in Output}
    asked = Output.TABLE
    before = ""
    for arg in hoist(args):
        name, _, value = arg.partition("=")
        if before in ("--output", "-o"):
            asked = forms.get(arg, asked)
        elif name == "--output":
            asked = forms.get(value, asked)
        before = arg
    return asked

"""The `runengine` command line: global options, and where each command lives."""

import sys

import typer

from runengine_client.cli import (
    artifact_command,
    exit_codes,
    explanation_commands,
    global_options,
    queue_command,
    run_commands,
    start_commands,
)
from runengine_client.cli.cache_commands import cache_app
from runengine_client.cli.error_output import error_body
from runengine_client.cli.global_options import GlobalOptionsAnywhere, output_asked_for
from runengine_client.cli.output import Output, dumps
from runengine_client.cli.session import Session, make_console
from runengine_client.cli.workflow_commands import workflow_app
from runengine_client.connection import TARGET_DEFAULT
from runengine_client.content import URL_DEFAULT
from runengine_client.errors import InvalidArgumentError

STARTING = "Start and follow"
RUNS = "Look at runs"
WHY = "Ask why"
ENGINE = "Workflows and cache"

app = typer.Typer(cls=GlobalOptionsAnywhere, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def connect(
    context: typer.Context,
    target: global_options.Target = TARGET_DEFAULT,
    token: global_options.Token = None,
    tls: global_options.Tls = False,
    tls_ca: global_options.TlsCa = None,
    insecure_token: global_options.InsecureToken = False,
    url: global_options.Url = URL_DEFAULT,
    output: global_options.Form = Output.TABLE,
    no_color: global_options.NoColor = False,
    version: global_options.Version = False,
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

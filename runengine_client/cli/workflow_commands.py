"""The commands on workflow definitions: register, list, get; lint and graph live in files of their own."""

from typing import Annotated

import typer

from runengine_client.cli import exit_codes, graph_command, lint_command, tables
from runengine_client.cli.completion import workflow_names
from runengine_client.cli.session import session_of
from runengine_client.cli.workflow_files import Files, expand
from runengine_client.client import RunEngineClient
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import document_of, format_workflow, load_workflow

workflow_app = typer.Typer(
    no_args_is_help=True,
    help="Register, check, draw and look up workflow definitions.\n\nExample:\n\n  runengine workflow lint workflows/",
)


@workflow_app.command()
def register(
    context: typer.Context,
    files: Files,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Have the server check them; register nothing.")
    ] = False,
) -> None:
    """Register workflow versions. The same content again changes nothing.

    Examples:

      runengine workflow register workflows/campaign.yaml

      runengine workflow register workflows/ --validate-only
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        loaded = [
            (file, load_workflow(file)) for file in expand(session, files)
        ]  # all are readable, or none is registered
        for _, workflow in loaded:
            answer = await client.register_workflow(workflow, validate_only=validate_only)
            named = answer.workflow
            if session.is_data:
                found = {"name": named.name, "version": named.version, "digest": named.digest}
                session.print_data({**found, "created": answer.created}, is_item=True)
            else:
                done = _done(answer.created, validate_only)
                session.say(f"{named.name} {named.version} {done} ({named.digest[:12]})")
        return exit_codes.COMPLETED

    session.run(command)


workflow_app.command()(lint_command.lint)
workflow_app.command()(graph_command.graph)


@workflow_app.command(name="list")
def list_workflows(
    context: typer.Context,
    all_versions: Annotated[bool, typer.Option("--all-versions", help="Every version, not only the highest.")] = False,
) -> None:
    """List the workflows that can be triggered.

    Example:

      runengine workflow list --all-versions
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        found = [workflow async for workflow in client.list_workflows(all_versions=all_versions)]
        if session.is_data:
            session.print_data({"workflows": [_document(workflow) for workflow in found]})
        elif found:
            session.show(tables.workflows_table(found))
        else:
            session.say("no workflows")
        return exit_codes.COMPLETED

    session.run(command)


@workflow_app.command()
def get(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="Name of the workflow.", show_default=False, autocompletion=workflow_names)
    ],
    version: Annotated[str, typer.Option(help="Exact version; default the highest.", show_default=False)] = "",
) -> None:
    """Print a workflow as a file that `register` takes: YAML, or JSON with --output json.

    Example:

      runengine workflow get campaign.build.v1 > campaign.yaml
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        workflow = await client.get_workflow(name, version)
        if session.is_data:
            session.print_data(document_of(workflow))
        else:
            session.console.file.write(format_workflow(workflow))
        return exit_codes.COMPLETED

    session.run(command)


def _done(is_created: bool, validate_only: bool) -> str:
    if validate_only:
        return "can be registered"
    return "registered" if is_created else "already registered"


def _document(workflow: workflow_pb2.Workflow) -> dict[str, object]:
    return {**document_of(workflow), "digest": workflow.digest}

"""The commands on workflow definitions: register, list, lint, get."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from runengine_client.cli import exit_codes, tables
from runengine_client.cli.session import Session, session_of
from runengine_client.client import RunEngineClient
from runengine_client.errors import RunEngineError, UnavailableError
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import document_of, format_workflow, load_workflow
from runengine_client.workflow.files import SUFFIXES

workflow_app = typer.Typer(no_args_is_help=True, help="Register, check and look up workflow definitions.")

Files = Annotated[
    list[Path], typer.Argument(exists=True, help="YAML or JSON files, or directories of them.", show_default=False)
]


@workflow_app.command()
def register(context: typer.Context, files: Files) -> None:
    """Register workflow versions. The same content again changes nothing.

    Example:

      runengine workflow register workflows/campaign.yaml
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        loaded = [(file, load_workflow(file)) for file in _expand(files)]  # all are readable, or none is registered
        for _, workflow in loaded:
            answer = await client.register_workflow(workflow)
            named = answer.workflow
            if session.is_json:
                found = {"name": named.name, "version": named.version, "digest": named.digest}
                session.print_json({**found, "created": answer.created}, is_line=True)
            else:
                done = "registered" if answer.created else "already registered"
                session.say(f"{named.name} {named.version} {done} ({named.digest[:12]})")
        return exit_codes.COMPLETED

    session.run(command)


@workflow_app.command()
def lint(
    context: typer.Context,
    files: Files,
    offline: Annotated[bool, typer.Option("--offline", help="Check the files only, without a server.")] = False,
) -> None:
    """Check workflow files: their structure here, everything else on the server. Registers nothing.

    The exit status is 1 if anything is wrong.

    Example:

      runengine workflow lint workflows/
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        is_offline = offline
        is_clean = True
        for file in _expand(files):
            try:
                workflow = load_workflow(file)
                if not is_offline:
                    await client.register_workflow(workflow, validate_only=True)
            except UnavailableError as error:
                is_offline = True
                note = f"no server at {session.target} ({error.message}): only the structure of files is checked"
                session.errors.print(Text(note, style="yellow"), soft_wrap=True)
            except RunEngineError as error:
                is_clean = False
                _report(session, file, error)
                continue
            _report(session, file, None)
        return exit_codes.COMPLETED if is_clean else exit_codes.FAILED

    session.run(command)


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
        if session.is_json:
            session.print_json({"workflows": [_document(workflow) for workflow in found]})
        elif found:
            session.show(tables.workflows_table(found))
        else:
            session.say("no workflows")
        return exit_codes.COMPLETED

    session.run(command)


@workflow_app.command()
def get(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the workflow.", show_default=False)],
    version: Annotated[str, typer.Option(help="Exact version; default the highest.", show_default=False)] = "",
) -> None:
    """Print a workflow as a file that `register` takes: YAML, or JSON with --output json.

    Example:

      runengine workflow get campaign.build.v1 > campaign.yaml
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        workflow = await client.get_workflow(name, version)
        if session.is_json:
            session.print_json(document_of(workflow))
        else:
            session.console.file.write(format_workflow(workflow))
        return exit_codes.COMPLETED

    session.run(command)


def _document(workflow: workflow_pb2.Workflow) -> dict[str, object]:
    return {**document_of(workflow), "digest": workflow.digest}


def _expand(files: list[Path]) -> list[Path]:
    found: list[Path] = []
    for file in files:
        if file.is_dir():
            found.extend(each for each in sorted(file.iterdir()) if each.suffix in SUFFIXES and each.is_file())
        else:
            found.append(file)
    return found


def _report(session: Session, file: Path, error: RunEngineError | None) -> None:
    violations = error.violations if error is not None else ()
    if session.is_json:
        found = [{"field": each.field, "description": each.description} for each in violations]
        if error is not None and not found:
            found = [{"field": "", "description": error.message}]
        session.print_json({"file": str(file), "valid": error is None, "violations": found}, is_line=True)
        return
    if error is None:
        session.say(Text.assemble(f"{file}: ", ("ok", "green")))
        return
    session.say(Text.assemble(f"{file}: ", (f"{len(violations) or 1} errors", "red")))
    for each in violations:
        session.say(Text.assemble("  ", (each.field, "bold"), f": {each.description}"))
    if not violations:
        session.say(f"  {error.message} ({error.reason})")

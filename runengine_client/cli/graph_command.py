"""`runengine workflow graph`: draws a workflow, what a change request touches, or what a run did."""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from runengine_client.cli import exit_codes, wording
from runengine_client.cli.completion import change_types, run_ids, workflow_names
from runengine_client.cli.session import Session, session_of
from runengine_client.client import RunEngineClient
from runengine_client.errors import InvalidArgumentError
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.states import StepStatus
from runengine_client.types import Step
from runengine_client.workflow import load_workflow
from runengine_client.workflow.diagram import (
    Diagram,
    TextRow,
    Tone,
    diagram_of,
    diagram_of_change,
    diagram_of_run,
    render_mermaid,
    render_svg,
    render_text,
)
from runengine_client.workflow.files import SUFFIXES

_STYLES = {
    Tone.PLAIN: "",
    Tone.SEED: "bold yellow",
    Tone.DOWNSTREAM: "yellow",
    Tone.REUSED: "bright_black",
}


class Format(StrEnum):
    """How a workflow is drawn."""

    TEXT = "text"
    MERMAID = "mermaid"
    SVG = "svg"


_FORMAT_OF_SUFFIX = {".svg": Format.SVG, ".mmd": Format.MERMAID, ".mermaid": Format.MERMAID}


Source = Annotated[
    str,
    typer.Argument(
        metavar="FILE|NAME",
        help="A workflow file or a registered name.",
        show_default=False,
        autocompletion=workflow_names,
    ),
]
Run = Annotated[
    str,
    typer.Option("--run", help="Show the steps' status in this run of it.", show_default=False, autocompletion=run_ids),
]
Change = Annotated[
    str,
    typer.Option(
        "--change", help="Show what this change request touches.", show_default=False, autocompletion=change_types
    ),
]


def graph(
    context: typer.Context,
    source: Source = "",
    version: Annotated[str, typer.Option(help="Of NAME; default the highest.", show_default=False)] = "",
    run: Run = "",
    change: Change = "",
    form: Annotated[
        Format | None, typer.Option("--format", help="Default: as FILE of --out ends, else text.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", dir_okay=False, help="Write to this file.", show_default=False)
    ] = None,
) -> None:
    """Draw a workflow's steps and what they wait for.

    Examples:

      runengine workflow graph campaign.yaml --change audio.update

      runengine workflow graph campaign.build.v1 --out campaign.svg

      runengine workflow graph --run RUN
    """
    session = session_of(context)
    if not source and not run:
        raise typer.BadParameter("name a workflow file, a registered workflow, or a run with --run")
    if run and change:
        raise typer.BadParameter("--run and --change are two pictures; choose one")
    chosen = form or _FORMAT_OF_SUFFIX.get(out.suffix.lower() if out else "", Format.TEXT)

    async def command(client: RunEngineClient) -> int:
        if run:
            diagram = await _of_run(client, source, version, run)
        else:
            workflow = await _workflow(client, source, version)
            diagram = _of_change(workflow, change) if change else diagram_of(workflow)
        _print(session, diagram, chosen, out)
        return exit_codes.COMPLETED

    session.run(command)


async def _workflow(client: RunEngineClient, source: str, version: str) -> workflow_pb2.Workflow:
    """The workflow in a file, or the registered one of that name."""
    file = _file(source)
    if file is None:
        return await client.get_workflow(source, version)
    if version:
        raise InvalidArgumentError("USAGE", f"{source} is a file and has one version; leave out --version")
    return load_workflow(file)


def _file(source: str) -> Path | None:
    """The file a source names; None for a name of a registered workflow."""
    path = Path(source)
    if path.is_file():
        return path
    if path.suffix in SUFFIXES or path.name != source or path.is_dir():
        raise InvalidArgumentError("USAGE", f"there is no file {source}")
    return None


async def _of_run(client: RunEngineClient, source: str, version: str, run_id: str) -> Diagram:
    """The run's own version, whatever has been registered since; a source only has to be of the same name."""
    run = await client.get_run(run_id)
    expected = (await _workflow(client, source, version)).name if source else run.workflow_name
    if expected != run.workflow_name or version not in ("", run.workflow_version):
        what = f"{run.workflow_name} {run.workflow_version}"
        raise InvalidArgumentError("USAGE", f"run {run.id} is one of {what}, not of {source} {version}".rstrip())
    workflow = await client.get_workflow(run.workflow_name, run.workflow_version)
    steps = [step async for step in client.list_steps(run_id)]
    return diagram_of_run(workflow, run, steps, _describe)


def _of_change(workflow: workflow_pb2.Workflow, change: str) -> Diagram:
    try:
        return diagram_of_change(workflow, change)
    except ValueError as error:
        raise InvalidArgumentError("UNKNOWN_CHANGE_TYPE", str(error)) from None


def _describe(step: Step) -> str:
    if step.error is not None and step.status in (StepStatus.FAILED, StepStatus.CANCELLED):
        return step.error.code
    if step.status is StepStatus.SKIPPED:
        return wording.reuse(step.output_source, step.cache)
    return wording.span(timedelta(milliseconds=step.duration_ms)) if step.duration_ms else ""


def _print(session: Session, diagram: Diagram, form: Format, out: Path | None) -> None:
    if session.is_data:
        session.print_data(_json(diagram))
        return
    if form is Format.TEXT and out is None:
        session.say(Text.assemble((diagram.title, "bold"), f": {diagram.subtitle}"))
        for line in _text_lines(render_text(diagram)):
            session.console.print(line, no_wrap=True, overflow="ellipsis")
        return
    match form:
        case Format.TEXT:
            lines = [line.plain.rstrip() for line in _text_lines(render_text(diagram))]
            picture = "\n".join([f"{diagram.title}: {diagram.subtitle}", *lines]) + "\n"
        case Format.MERMAID:
            picture = render_mermaid(diagram)
        case Format.SVG:
            picture = render_svg(diagram)
    if out is None:
        session.console.file.write(picture)
    else:
        out.write_text(picture, encoding="utf-8")
        session.note(f"{out}: {form}, {wording.size(len(picture.encode()))}")


def _text_lines(rows: Sequence[TextRow]) -> Sequence[Text]:
    level_width = max((len(row.level) for row in rows), default=0)
    id_width = max((len(row.step_id) for row in rows), default=0)
    return [_text_line(row, level_width, id_width) for row in rows]


def _text_line(row: TextRow, level_width: int, id_width: int) -> Text:
    style = _STYLES.get(row.tone, wording.status_style(row.tone))
    lanes = Text(row.lanes, "bright_black")
    lanes.stylize(style or "default", row.mark_at, row.mark_at + 1)
    return Text.assemble(
        (row.level.rjust(level_width), "bright_black"),
        " ",
        lanes,
        " ",
        (row.step_id.ljust(id_width), style),
        " ",
        (row.detail, style or "bright_black"),
    )


def _json(diagram: Diagram) -> dict[str, object]:
    steps = [
        {
            "stepId": node.step_id,
            "skillId": node.skill_id,
            "level": diagram.dag.levels[number],
            "dependsOn": [diagram.nodes[parent].step_id for parent in diagram.dag.parents[number]],
            **({"mark": str(node.tone), "note": node.note} if node.note else {}),
        }
        for number, node in enumerate(diagram.nodes)
    ]
    return {"title": diagram.title, "subtitle": diagram.subtitle, "steps": steps}

"""The commands that say why: explain, compare, lineage."""

from typing import Annotated

import typer

from runengine_client.cli import exit_codes, options
from runengine_client.cli.comparison_view import comparison_table, differs
from runengine_client.cli.completion import run_ids, step_ids
from runengine_client.cli.lineage_view import lineage_tree
from runengine_client.cli.session import session_of
from runengine_client.client import RunEngineClient


def explain(
    context: typer.Context,
    run_id: options.RunId,
    step_id: Annotated[str, typer.Argument(help="Id of the step.", show_default=False, autocompletion=step_ids)],
) -> None:
    """Say why a step ran, was reused, waits or failed.

    Example:

      runengine explain RUN generate_bgm_track
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        explanation = await client.explain_step(run_id, step_id)
        if session.is_data:
            session.print_data(explanation)
        else:
            session.tell(explanation.text)
        return exit_codes.COMPLETED

    session.run(command)


def compare(
    context: typer.Context,
    left: Annotated[str, typer.Argument(help="Id of the earlier run.", show_default=False, autocompletion=run_ids)],
    right: Annotated[str, typer.Argument(help="Id of the later run.", show_default=False, autocompletion=run_ids)],
    every: Annotated[bool, typer.Option("--all", help="Show the steps that are the same too.")] = False,
) -> None:
    """Show where two runs of a workflow differ, and which steps are to blame.

    Example:

      runengine compare RUN UPDATE
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        comparison = await client.compare_runs(left, right)
        if session.is_data:
            session.print_data(comparison)
            return exit_codes.COMPLETED
        shown = [diff for diff in comparison.steps if every or differs(diff)]
        if shown:
            session.show(comparison_table(shown, comparison.root_cause_step_ids))
        same = len(comparison.steps) - len(shown)
        if same:
            session.say("1 step is the same" if same == 1 else f"{same} steps are the same")
        return exit_codes.COMPLETED

    session.run(command)


def lineage(
    context: typer.Context,
    artifact_id: Annotated[str, typer.Argument(help="Id of the artifact.", show_default=False)],
    depth: Annotated[int, typer.Option(min=1, max=100, help="Generations to go back.")] = 10,
) -> None:
    """Show what an artifact was made from, back to the first.

    Example:

      runengine artifacts RUN --output json

      runengine lineage ARTIFACT
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        found = await client.get_lineage(artifact_id, depth=depth)
        if session.is_data:
            session.print_data({
                "nodes": [{"artifact": artifact} for artifact in found.artifacts],
                "edges": found.edges,
            })  # fmt: skip
        else:
            session.show(lineage_tree(found))
        return exit_codes.COMPLETED

    session.run(command)

"""The commands on existing runs: watch, get, list, steps, artifacts, watch-token, cancel."""

from datetime import datetime
from typing import Annotated

import typer

from runengine_client.cli import exit_codes, options, tables, wording
from runengine_client.cli.completion import run_ids, step_ids, workflow_names
from runengine_client.cli.follow import follow
from runengine_client.cli.payload_argument import read_labels
from runengine_client.cli.session import session_of
from runengine_client.client import RunEngineClient
from runengine_client.requests import RunFilter
from runengine_client.states import RunStatus, StepStatus, TriggerType
from runengine_client.types import Run

LIMIT_DEFAULT = 20


def watch(
    context: typer.Context,
    run_id: options.RunId,
    after: Annotated[
        int | None, typer.Option("--after", min=0, help="Only events after this number (with --output json or yaml).")
    ] = None,
) -> None:
    """Follow a run until it ends. Ctrl-C leaves it running.

    The exit status is 0 if it completed, 1 if it failed, 3 if it was cancelled.

    Examples:

      runengine watch RUN

      runengine watch RUN --output json --after 41
    """
    session = session_of(context)
    if after is not None and not session.is_data:
        raise typer.BadParameter("--after needs --output json or yaml: the view starts with the run's present state")
    session.run(
        lambda client: follow(session, client, run_id, after),
        on_interrupt=lambda: f"detached; the run goes on. Resume with: runengine watch {run_id}",
    )


def get(context: typer.Context, run_id: options.RunId, full: options.Full = False) -> None:
    """Show a run as it is now.

    Example:

      runengine get RUN --output json
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        run = await client.get_run(run_id, full=full)
        if session.is_data:
            session.print_data(run)
        else:
            session.show(tables.run_table(run))
            if full:
                session.print_data({"triggerPayload": run.trigger_payload or {}})
        return exit_codes.COMPLETED

    session.run(command)


def list_runs(
    context: typer.Context,
    workflow: Annotated[
        str, typer.Option(help="Only this workflow's.", show_default=False, autocompletion=workflow_names)
    ] = "",
    status: Annotated[list[RunStatus] | None, options.one_of(RunStatus, help="Only these; repeatable.")] = None,
    label: options.Labels = None,
    base_run: Annotated[
        str, typer.Option(help="Only updates and retries of this run.", show_default=False, autocompletion=run_ids)
    ] = "",
    trigger_type: Annotated[TriggerType | None, options.one_of(TriggerType, "--type", help="Only these.")] = None,
    after: Annotated[datetime | None, options.time(help="Only runs created then or later.")] = None,
    before: Annotated[datetime | None, options.time(help="Only runs created earlier.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most runs to show.")] = LIMIT_DEFAULT,
    quiet: options.Ids = False,
) -> None:
    """List runs, newest first.

    Examples:

      runengine list --workflow campaign.build.v1 --status failed

      runengine list --status running --quiet

      runengine list --after 2026-01-19 --before 2026-01-19T10:00:00Z
    """
    session = session_of(context)
    filters = RunFilter(workflow_name=workflow, statuses=status or [], labels=read_labels(label), base_run_id=base_run)
    if trigger_type is not None:
        filters["trigger_type"] = trigger_type
    if after is not None:
        filters["created_after"] = after
    if before is not None:
        filters["created_before"] = before

    async def command(client: RunEngineClient) -> int:
        runs: list[Run] = []
        async for run in client.list_runs(page_size=min(limit, 500), **filters):
            runs.append(run)
            if len(runs) == limit:
                break
        if quiet:
            session.say_each(run.id for run in runs)
        elif session.is_data:
            session.print_data({"runs": runs})
        elif runs:
            session.show(tables.runs_table(runs))
        else:
            session.say("no runs")
        return exit_codes.COMPLETED

    session.run(command)


def steps(
    context: typer.Context,
    run_id: options.RunId,
    status: Annotated[list[StepStatus] | None, options.one_of(StepStatus, help="Only these; repeatable.")] = None,
    full: options.Full = False,
) -> None:
    """List a run's steps: where each stands, how long it took and where its output comes from.

    Examples:

      runengine steps RUN --status failed

      runengine steps RUN --full --output json
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        found = [step async for step in client.list_steps(run_id, statuses=status or [], full=full)]
        if session.is_data or full:
            session.print_data({"steps": found})
        else:
            session.show(tables.steps_table(found))
        return exit_codes.COMPLETED

    session.run(command)


def artifacts(
    context: typer.Context,
    run_id: options.RunId,
    step: Annotated[str, typer.Option(help="Only this step's.", show_default=False, autocompletion=step_ids)] = "",
    quiet: options.Ids = False,
) -> None:
    """List a run's artifacts with their URIs, those of reused steps too.

    Examples:

      runengine artifacts RUN --output json

      runengine artifacts RUN --step mix_audio --quiet
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        found = [artifact async for artifact in client.list_artifacts(run_id, step_id=step)]
        if quiet:
            session.say_each(artifact.id for artifact in found)
        elif session.is_data:
            session.print_data({"artifacts": found})
        elif found:
            session.show(tables.artifacts_table(found))
        else:
            session.say("no artifacts")
        return exit_codes.COMPLETED

    session.run(command)


def watch_token(
    context: typer.Context,
    run_id: options.RunId,
    valid_for: Annotated[str, typer.Option("--for", help="How long it is valid, 1s to 1h.", show_default=True)] = "15m",
) -> None:
    """Print a token that reads this run and nothing else, for a page: `?access_token=` of the run's HTTP resources.

    Example:

      runengine watch-token RUN --for 5m
    """
    session = session_of(context)
    span = options.duration(valid_for)

    async def command(client: RunEngineClient) -> int:
        created = await client.create_watch_token(run_id, ttl=span)
        if session.is_data:
            session.print_data(created)
        else:
            session.say(created.token)
            session.note(f"valid until {wording.moment(created.expires_at)}")
        return exit_codes.COMPLETED

    session.run(command)


def cancel(
    context: typer.Context,
    run_id: options.RunId,
    reason: Annotated[str, typer.Option(help="Why; kept with the run.", show_default=False)] = "",
) -> None:
    """Cancel a run; one that has ended stays as it is.

    Example:

      runengine cancel RUN --reason "wrong brief"
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        cancelled = await client.cancel(run_id, reason)
        if session.is_data:
            session.print_data(cancelled)
        else:
            session.say(cancelled.message)
        return exit_codes.COMPLETED

    session.run(command)

"""The commands that start a run: trigger, update, retry."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from runengine_client.cli import exit_codes, options, tables
from runengine_client.cli.completion import change_types, completed_run_ids, workflow_names
from runengine_client.cli.follow import follow
from runengine_client.cli.payload_argument import read_labels, read_payload
from runengine_client.cli.session import Session, session_of
from runengine_client.client import RunEngineClient
from runengine_client.handle import RunHandle
from runengine_client.requests import RetryOptions, RunOptions, TriggerOptions, UpdateOptions
from runengine_client.states import CacheMode, FailurePolicy
from runengine_client.types import RebuildPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """How to start or plan a run, and what to do once it is started."""

    start: Callable[[RunEngineClient], Awaitable[RunHandle]]
    plan: Callable[[RunEngineClient], Awaitable[RebuildPlan]]
    is_plan: bool
    is_watch: bool
    is_quiet: bool = False


def trigger(
    context: typer.Context,
    workflow: Annotated[
        str, typer.Argument(help="Name of the workflow.", show_default=False, autocompletion=workflow_names)
    ],
    payload: options.Payload = None,
    watch: options.Watch = False,
    plan: options.Plan = False,
    quiet: options.Quiet = False,
    workflow_version: options.WorkflowVersion = "",
    label: options.Labels = None,
    deadline: options.Deadline = None,
    priority: options.Priority = 0,
    cache_mode: options.Mode = None,
    failure_policy: Annotated[
        FailurePolicy | None, options.one_of(FailurePolicy, help="Overrides the workflow's.")
    ] = None,
    force_step: options.Force = None,
    expect_plan: options.ExpectedPlan = "",
    request_id: options.RequestId = "",
) -> None:
    """Start a run of a workflow.

    Examples:

      runengine trigger campaign.build.v1 --payload '{"brief": {"title": "Summer Sale", "style": "energetic"}}'

      runengine trigger campaign.build.v1 --payload @brief.json --watch
    """
    body = read_payload(payload)
    chosen = TriggerOptions(
        workflow_version=workflow_version,
        labels=read_labels(label),
        priority=priority,
        force_step_ids=force_step or [],
        expected_plan_digest=expect_plan,
        request_id=request_id,
    )
    _choose(chosen, deadline, cache_mode)
    if failure_policy is not None:
        chosen["failure_policy"] = failure_policy
    _run(
        session_of(context),
        _Start(
            start=lambda client: client.start(workflow, body, **chosen),
            plan=lambda client: client.plan(workflow, body, **chosen),
            is_plan=plan,
            is_watch=watch,
            is_quiet=quiet,
        ),
    )


def update(
    context: typer.Context,
    base_run_id: Annotated[
        str, typer.Argument(help="Id of a completed run.", show_default=False, autocompletion=completed_run_ids)
    ],
    change_type: Annotated[
        str,
        typer.Argument(
            help="Type of the change, such as audio.update.", show_default=False, autocompletion=change_types
        ),
    ],
    payload: options.Payload = None,
    watch: options.Watch = False,
    plan: options.Plan = False,
    quiet: options.Quiet = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse where steps outside the declared impact would change too.")
    ] = False,
    workflow_version: options.WorkflowVersion = "",
    label: options.Labels = None,
    deadline: options.Deadline = None,
    priority: options.Priority = 0,
    cache_mode: options.Mode = None,
    force_step: options.Force = None,
    expect_plan: options.ExpectedPlan = "",
    request_id: options.RequestId = "",
) -> None:
    """Rebuild a completed run partially: only what the change affects is executed again.

    Examples:

      runengine update RUN audio.update --payload '{"audioStyle": "epic", "volumeBoost": 1.2}' --plan

      runengine update RUN audio.update --payload '{"audioStyle": "epic", "volumeBoost": 1.2}' --watch
    """
    body = read_payload(payload)
    chosen = UpdateOptions(
        workflow_version=workflow_version,
        labels=read_labels(label),
        priority=priority,
        force_step_ids=force_step or [],
        expected_plan_digest=expect_plan,
        request_id=request_id,
        strict_impact=strict,
    )
    _choose(chosen, deadline, cache_mode)
    _run(
        session_of(context),
        _Start(
            start=lambda client: client.start_update(base_run_id, change_type, body, **chosen),
            plan=lambda client: client.plan_update(base_run_id, change_type, body, **chosen),
            is_plan=plan,
            is_watch=watch,
            is_quiet=quiet,
        ),
    )


def retry(
    context: typer.Context,
    run_id: options.RunId,
    watch: options.Watch = False,
    plan: options.Plan = False,
    quiet: options.Quiet = False,
    expect_plan: options.ExpectedPlan = "",
    request_id: options.RequestId = "",
) -> None:
    """Start a run that finishes a failed or cancelled one; its finished steps are reused.

    Examples:

      runengine retry RUN --plan

      runengine retry RUN --watch
    """
    chosen = RetryOptions(expected_plan_digest=expect_plan, request_id=request_id)
    _run(
        session_of(context),
        _Start(
            start=lambda client: client.retry(run_id, **chosen),
            plan=lambda client: client.plan_retry(run_id, **chosen),
            is_plan=plan,
            is_watch=watch,
            is_quiet=quiet,
        ),
    )


def _choose(chosen: RunOptions, deadline: str | None, cache_mode: CacheMode | None) -> None:
    if deadline is not None:
        chosen["deadline"] = options.duration(deadline)
    if cache_mode is not None:
        chosen["cache_mode"] = cache_mode


def _run(session: Session, command: _Start) -> None:
    if command.is_plan:
        session.run(lambda client: _show_plan(session, command, client))
    started: list[RunHandle] = []

    async def start(client: RunEngineClient) -> int:
        handle = await command.start(client)
        started.append(handle)
        _announce(session, handle, command)
        return await follow(session, client, handle.id) if command.is_watch else exit_codes.COMPLETED

    session.run(start, on_interrupt=lambda: _after_interrupt(started))


async def _show_plan(session: Session, command: _Start, client: RunEngineClient) -> int:
    plan = await command.plan(client)
    if command.is_quiet:
        session.say(plan.digest)
    elif session.is_data:
        session.print_data(plan)
    else:
        session.show(tables.plan_table(plan))
        session.say(tables.plan_summary(plan))
        session.say(f"plan {plan.digest}")
    return exit_codes.COMPLETED


def _announce(session: Session, handle: RunHandle, command: _Start) -> None:
    accepted = handle.accepted
    assert accepted is not None, "a handle from a start carries the answer"
    if command.is_quiet:
        session.say(handle.id)
    elif session.is_data:
        answer = {"runId": handle.id, "status": accepted.status, "message": accepted.message}
        session.print_data(answer, is_item=command.is_watch)
    else:
        session.say(accepted.message)
        session.say(f"run {handle.id}")
        if not command.is_watch:
            session.say(f"follow it with: runengine watch {handle.id}")


def _after_interrupt(started: list[RunHandle]) -> str:
    if not started:
        return "interrupted before the server answered; `runengine list` shows whether a run was started"
    return f"detached; the run goes on. Resume with: runengine watch {started[0].id}"

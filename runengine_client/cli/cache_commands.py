"""The commands on the step cache: list, get, invalidate, stats."""

from datetime import datetime
from typing import Annotated

import typer

from runengine_client.cache import CacheSelector
from runengine_client.cli import exit_codes, options, tables
from runengine_client.cli.completion import run_ids, workflow_names
from runengine_client.cli.session import session_of
from runengine_client.client import RunEngineClient

cache_app = typer.Typer(
    no_args_is_help=True,
    help="Look into the step cache and remove what should not be reused.\n\nExample:\n\n  runengine cache stats",
)

Workflow = Annotated[
    str,
    typer.Option("--workflow", help="Of this workflow only.", show_default=False, autocompletion=workflow_names),
]
Step = Annotated[str, typer.Option("--step", help="Of this step only.", show_default=False)]
Key = Annotated[str, typer.Argument(help="workflow:step:inputHash, as `steps` and `cache list` show it.")]


@cache_app.command(name="list")
def list_entries(
    context: typer.Context,
    workflow: Workflow = "",
    step: Step = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print keys only, one a line.")] = False,
) -> None:
    """List cache entries, newest first.

    Example:

      runengine cache list --workflow campaign.build.v1 --step generate_bgm_track
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        found = []
        async for entry in client.list_cache_entries(page_size=min(limit, 500), workflow_name=workflow, step_id=step):
            found.append(entry)
            if len(found) == limit:
                break
        if quiet:
            session.say_each(entry.key for entry in found)
        elif session.is_data:
            session.print_data({"entries": found})
        elif found:
            session.show(tables.cache_entries_table(found))
        else:
            session.say("no cache entries")
        return exit_codes.COMPLETED

    session.run(command)


@cache_app.command()
def get(
    context: typer.Context,
    key: Key,
    include_output: Annotated[bool, typer.Option("--with-output", help="Print its output too.")] = False,
) -> None:
    """Show one cache entry.

    Example:

      runengine cache get KEY --with-output --output json
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        entry = await client.get_cache_entry(key, include_output=include_output)
        if session.is_data or include_output:
            session.print_data(entry)
        else:
            session.show(tables.cache_entries_table([entry]))
        return exit_codes.COMPLETED

    session.run(command)


@cache_app.command()
def invalidate(
    context: typer.Context,
    key: Annotated[str, typer.Option(help="The entry with this key.", show_default=False)] = "",
    workflow: Annotated[
        str,
        typer.Option("--workflow", help="Entries of this workflow.", show_default=False, autocompletion=workflow_names),
    ] = "",
    step: Annotated[str, typer.Option("--step", help="Entries of this step.", show_default=False)] = "",
    run: Annotated[
        str,
        typer.Option("--run", help="Entries that this run produced.", show_default=False, autocompletion=run_ids),
    ] = "",
    skill: Annotated[str, typer.Option("--skill", help="Entries that this skill produced.", show_default=False)] = "",
    skill_version: Annotated[
        str, typer.Option(help="Entries that this cache version of a skill produced.", show_default=False)
    ] = "",
    before: Annotated[
        datetime | None, options.time(help="Entries filed before it, such as 2026-01-19 or 2026-01-19T10:00:00Z.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go; remove nothing.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.", show_default=False)] = "",
) -> None:
    """Remove the cache entries that match every option given; there must be one. Runs stay as they are.

    Example:

      runengine cache invalidate --workflow campaign.build.v1 --step generate_bgm_track --dry-run
    """
    session = session_of(context)
    selector = CacheSelector(
        key=key,
        workflow_name=workflow,
        step_id=step,
        source_run_id=run,
        skill_id=skill,
        cache_version=skill_version,
    )
    if before is not None:
        selector["created_before"] = before

    async def command(client: RunEngineClient) -> int:
        done = await client.invalidate_cache(dry_run=dry_run, reason=reason, **selector)
        if session.is_data:
            session.print_data(done)
            return exit_codes.COMPLETED
        session.say(f"{done.count} entries {'would be invalidated' if dry_run else 'invalidated'}")
        for each in done.sample_keys:
            session.say(f"  {each}")
        if done.count > len(done.sample_keys):
            session.say("  …")
        return exit_codes.COMPLETED

    session.run(command)


@cache_app.command()
def stats(context: typer.Context, workflow: Workflow = "") -> None:
    """Count hits and misses by workflow and step.

    Example:

      runengine cache stats --workflow campaign.build.v1
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        found = await client.cache_stats(workflow)
        if session.is_data:
            session.print_data({"stats": found})
        elif found:
            session.show(tables.cache_stats_table(found))
        else:
            session.say("no step has asked the cache")
        return exit_codes.COMPLETED

    session.run(command)

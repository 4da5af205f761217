"""Follows a run from a command: a live view, lines, or JSON lines."""

from runengine_client.cli import exit_codes
from runengine_client.cli.live import follow_run
from runengine_client.cli.session import Session
from runengine_client.client import RunEngineClient
from runengine_client.watch import Interruption, WatchOptions
from runengine_client.watch_items import RunEnded, RunSnapshot


async def follow(session: Session, client: RunEngineClient, run_id: str, after_sequence: int | None = None) -> int:
    """Show a run until it ends; the exit status says how it did."""
    if not session.is_data:
        return exit_codes.of_run((await follow_run(client, run_id, console=session.console)).run.status)

    def interrupted(interruption: Interruption) -> None:
        session.print_error(interruption.error)

    options = WatchOptions(after_sequence=after_sequence, include_progress=True, on_interrupted=interrupted)
    async for item in client.watch(run_id, options=options):
        match item:
            case RunSnapshot():
                session.print_data({"snapshot": item}, is_item=True)
            case RunEnded():
                session.print_data({"end": item}, is_item=True)
                return exit_codes.of_run(item.run.status)
            case _:
                session.print_data({"event": item}, is_item=True)
    raise AssertionError("a watch ends with the run's end or an error")

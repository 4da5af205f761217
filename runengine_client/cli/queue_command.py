"""`runengine queue`: what waits, for how long, and what is stuck."""

import typer

from runengine_client.cli import exit_codes, tables
from runengine_client.cli.session import session_of
from runengine_client.client import RunEngineClient


def queue(context: typer.Context) -> None:
    """Show how many steps are ready, delayed, running and stuck, by skill, each with the age of the oldest.

    Examples:

      runengine queue

      runengine queue --output json
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        found = await client.get_queue()
        if session.is_data:
            session.print_data(found)
            return exit_codes.COMPLETED
        session.show(tables.queue_table(found))
        engines = "1 engine is alive" if found.engines_alive == 1 else f"{found.engines_alive} engines are alive"
        session.say(engines)
        for name, steps in (("stuck", found.stuck), ("delayed", found.delayed)):
            if steps:
                session.say(f"\n{name}:")
                session.show(tables.queued_steps_table(steps))
        return exit_codes.COMPLETED

    session.run(command)

"""What the command lines have to offer: every command of a typer application, and every RPC that callers have."""

from collections.abc import Iterator
from typing import Any, Final

import typer

from runengine_client.pb.runengine.v1 import cache_pb2, run_engine_pb2, workflow_pb2

RPCS: Final = frozenset(
    f"/{service.full_name}/{method.name}"
    for module in (run_engine_pb2, workflow_pb2, cache_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)


def commands_of(group: typer.Typer, program: str) -> Iterator[tuple[str, Any]]:
    """Every command and group below, with the words that call it."""
    pending = [(program, typer.main.get_command(group))]
    while pending:
        words, command = pending.pop()
        yield words, command
        for name, each in getattr(command, "commands", {}).items():
            pending.append((f"{words} {name}", each))

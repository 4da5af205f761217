"""Options that several commands share, with their help."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

from runengine_client.cli.completion import run_ids
from runengine_client.states import CacheMode
from runengine_client.workflow.durations import parse_duration

UNKNOWN = "unknown"
"""What a server may answer that is newer than this client; nobody asks for it."""

Choice = TypeVar("Choice", bound=StrEnum)


def one_of(kind: type[Choice], *names: str, **more: Any) -> Any:
    """A typer option whose values are those of an enum that a caller can ask for."""
    choices = [each.value for each in kind if each.value != UNKNOWN]
    return typer.Option(
        *names,
        parser=_parser(kind, choices),
        metavar="|".join(choices),
        autocompletion=lambda incomplete: [each for each in choices if each.startswith(incomplete)],
        show_default=False,
        **more,
    )


def _parser(kind: type[Choice], choices: list[str]) -> Callable[[str], Choice]:
    def parse(text: str) -> Choice:
        if text not in choices:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(choices)}")
        return kind(text)

    return parse


def duration(text: str) -> timedelta:
    """The duration that an option says, such as 30m.

    Raises:
        typer.BadParameter: it says none.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def moment(text: str) -> datetime:
    """The moment that an option says, as results print it or shorter; UTC where it names no zone.

    Raises:
        typer.BadParameter: it says none.
    """
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time such as 2026-01-19 or 2026-01-19T10:00:00Z") from None
    return said if said.tzinfo is not None else said.replace(tzinfo=UTC)


def time(*names: str, **more: Any) -> Any:
    """A typer option that is a moment."""
    return typer.Option(*names, parser=moment, metavar="TIME", show_default=False, **more)


RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.", show_default=False, autocompletion=run_ids)]
Payload = Annotated[
    str | None,
    typer.Option("--payload", "-p", help="JSON object, @FILE, or - for standard input.", show_default=False),
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow the run until it ends.")]
Plan = Annotated[bool, typer.Option("--plan", help="Show what would execute and be reused; start nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the run's id only; with --plan the digest.")]
Ids = Annotated[bool, typer.Option("--quiet", "-q", help="Print ids only, one a line.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="key=value; repeatable.", show_default=False)]
Deadline = Annotated[
    str | None, typer.Option(help="Fail the run if it has not ended after this long, such as 30m.", show_default=False)
]
Priority = Annotated[int, typer.Option(min=0, max=9, help="9 is served first.")]
Force = Annotated[
    list[str] | None,
    typer.Option("--force-step", help="Execute this step whatever could be reused; repeatable.", show_default=False),
]
ExpectedPlan = Annotated[
    str, typer.Option("--expect-plan", help="Refuse unless the plan has this digest.", show_default=False)
]
RequestId = Annotated[
    str, typer.Option(help="Repeating a command with the same id starts nothing new.", show_default=False)
]
WorkflowVersion = Annotated[str, typer.Option(help="Exact version.", show_default=False)]
Mode = Annotated[CacheMode | None, one_of(CacheMode, "--cache-mode", help="What the run does with the step cache.")]
Full = Annotated[bool, typer.Option("--full", help="Payloads, inputs and outputs too.")]

"""Options that several commands share, with their help."""

from typing import Annotated

import typer

from runengine_client.states import CacheMode

RunId = Annotated[str, typer.Argument(help="Id of the run.", show_default=False)]
Payload = Annotated[
    str | None,
    typer.Option("--payload", "-p", help="JSON object, @FILE, or - for standard input.", show_default=False),
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow the run until it ends.")]
Plan = Annotated[bool, typer.Option("--plan", help="Show what would execute and be reused; start nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the run's id only.")]
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
Mode = Annotated[
    CacheMode | None, typer.Option("--cache-mode", help="What the run does with the step cache.", show_default=False)
]
Full = Annotated[bool, typer.Option("--full", help="Payloads, inputs and outputs too.")]

"""The options of every command, which may stand before or after it."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from runengine_client.cli.output import Output

GLOBAL_WITH_VALUE = ("--target", "--token", "--tls-ca", "--url", "--output", "-o")
GLOBAL_FLAGS = ("--tls", "--insecure-token", "--no-color")

SERVER = "Where the server is"
PRINTING = "What is printed"

Target = Annotated[
    str, typer.Option(envvar="RUNENGINE_TARGET", help="The server's gRPC address.", rich_help_panel=SERVER)
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar=["RUNENGINE_TOKEN", "TOKEN"],
        help="Bearer token.",
        show_default=False,
        show_envvar=True,
        rich_help_panel=SERVER,
    ),
]
Tls = Annotated[bool, typer.Option("--tls", envvar="RUNENGINE_TLS", help="Connect with TLS.", rich_help_panel=SERVER)]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="PEM file of the authority to trust; implies --tls.", rich_help_panel=SERVER
    ),
]
InsecureToken = Annotated[
    bool,
    typer.Option("--insecure-token", help="Send the token unencrypted to another machine.", rich_help_panel=SERVER),
]
Url = Annotated[
    str,
    typer.Option(
        envvar="RUNENGINE_URL", help="The server's HTTP address, for files of artifacts.", rich_help_panel=SERVER
    ),
]
Form = Annotated[Output, typer.Option("--output", "-o", help="How to print results.", rich_help_panel=PRINTING)]
NoColor = Annotated[
    bool, typer.Option("--no-color", help="Words without colours; so does NO_COLOR.", rich_help_panel=PRINTING)
]


def _say_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"runengine {version('runengine')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
]


class GlobalOptionsAnywhere(TyperGroup):
    """Takes the global options after the command too: `runengine get RUN --output json`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # click's Context, or typer's own copy of it
        """Parse with the global options moved to the front."""
        return super().parse_args(ctx, hoist(args))


def hoist(args: list[str]) -> list[str]:
    """The arguments with the global options first; everything after `--` stays."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(args)
    for arg in remaining:
        if arg == "--":
            rest.extend([arg, *remaining])
        elif arg in GLOBAL_FLAGS or (arg.partition("=")[0] in GLOBAL_WITH_VALUE[:-1] and "=" in arg):
            front.append(arg)
        elif arg in GLOBAL_WITH_VALUE:
            front.append(arg)
            front.extend([value] if (value := next(remaining, None)) is not None else [])
        else:
            rest.append(arg)
    return front + rest


def output_asked_for(args: list[str]) -> Output:
    """How the arguments ask for results to be printed, whatever else is wrong with them."""
    forms = {form.value: form for form in Output}
    asked = Output.TABLE
    before = ""
    for arg in hoist(args):
        name, _, value = arg.partition("=")
        if before in ("--output", "-o"):
            asked = forms.get(arg, asked)
        elif name == "--output":
            asked = forms.get(value, asked)
        before = arg
    return asked

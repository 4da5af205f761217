"""One run of the command: the connection it was given, where it prints, and how errors end it."""

import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from runengine_client.cli import exit_codes
from runengine_client.cli.error_output import error_body
from runengine_client.cli.output import Output, dumps
from runengine_client.cli.target import check_target, explained
from runengine_client.cli.token_advice import advised
from runengine_client.client import RunEngineClient
from runengine_client.connection import TlsOptions
from runengine_client.errors import RunEngineError, UnavailableError

PLAIN_WIDTH = 240
"""Columns where there is no terminal: wide enough that ids and uris are never cut."""

Command = Callable[[RunEngineClient], Awaitable[int]]


@dataclass(slots=True, kw_only=True)
class Session:
    """The global options, and what commands do with them."""

    target: str
    token: str | None = None
    tls: bool = False
    tls_ca: Path | None = None
    insecure_token: bool = False
    url: str = ""
    output: Output = Output.TABLE
    console: Console = field(default_factory=lambda: make_console(is_error=False))
    errors: Console = field(default_factory=lambda: make_console(is_error=True))

    @property
    def is_data(self) -> bool:
        """True when results are for a program."""
        return self.output is not Output.TABLE

    def client(self) -> RunEngineClient:
        """A client for the server that the options name.

        Raises:
            InvalidArgumentError: they name none, or would send the token unencrypted.
        """
        check_target(self.target)
        tls: bool | TlsOptions = self.tls
        if self.tls_ca is not None:
            tls = TlsOptions(root_certificates=self.tls_ca.read_bytes())
        return RunEngineClient(self.target, token=self.token, tls=tls, allow_insecure_token=self.insecure_token)

    def run(
        self,
        command: Callable[[RunEngineClient], Awaitable[int]],
        *,
        on_interrupt: Callable[[], str] | None = None,
        server: str = "",
    ) -> None:
        """Run a command with a connected client and end the process with the status it returns.

        Args:
            command: does the work and returns the exit status.
            on_interrupt: what to say after Ctrl-C; asked for when it happens.
            server: whom the command talks to, where that is not the target.

        Raises:
            typer.Exit: always.
        """

        async def connected() -> int:
            async with self.client() as client:
                return await command(client)

        try:
            code = anyio.run(connected)
        except RunEngineError as error:
            self.print_error(error, server)
            code = exit_codes.of_error(error)
        except KeyboardInterrupt:
            said = on_interrupt() if on_interrupt is not None else "interrupted"
            self.errors.print(Text(said, style="yellow"), soft_wrap=True)
            code = exit_codes.DETACHED
        raise typer.Exit(code)

    def print_error(self, error: RunEngineError, server: str = "") -> None:
        """Say on standard error what went wrong, field by field; the server is the target where none is named."""
        is_absent = isinstance(error, UnavailableError) and not error.is_from_server
        if is_absent and not server:
            error = explained(error, self.target)
        error = advised(error)
        if self.is_data:
            self.errors.file.write(dumps(error_body(error), self.output))
            return
        self.errors.print(Text.assemble(("error: ", "bold red"), f"{error.message} ({error.reason})"), soft_wrap=True)
        if is_absent and server:
            self.errors.print(Text(f"is the server running at {server}?"), soft_wrap=True)
        for each in error.violations:
            if each.field not in error.message:
                self.errors.print(Text.assemble("  ", (each.field, "bold"), f": {each.description}"), soft_wrap=True)

    def say(self, text: str | Text) -> None:
        """Print a line, exactly as it is, never wrapped."""
        self.console.print(text if isinstance(text, Text) else Text(text), soft_wrap=True)

    def say_each(self, lines: Iterable[str]) -> None:
        """Print lines for a script; none where there is nothing."""
        for line in lines:
            self.say(line)

    def note(self, text: str) -> None:
        """Print a remark for a person on standard error."""
        self.errors.print(Text(text, style="bright_black"), soft_wrap=True)

    def tell(self, sentences: Sequence[str]) -> None:
        """Print sentences, the first one in bold: broken between words on a terminal, each on one line elsewhere."""
        for place, sentence in enumerate(sentences):
            text = Text(sentence, style="" if place else "bold")
            self.console.print(text, soft_wrap=not self.console.is_terminal)

    def show(self, table: Table | Tree) -> None:
        """Print a table or tree."""
        self.console.print(table)

    def print_data(self, value: object, *, is_item: bool = False) -> None:
        """Print a value for a program, in JSON where no other form was asked for; an item is one of a stream."""
        form = self.output if self.is_data else Output.JSON
        self.console.file.write(dumps(value, form, is_item=is_item))
        self.console.file.flush()


def make_console(*, is_error: bool, has_colour: bool = True) -> Console:
    """A console on standard output or standard error, wide where nobody looks at it; NO_COLOR takes its colours."""
    stream = sys.stderr if is_error else sys.stdout
    return Console(
        file=stream,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if stream.isatty() else PLAIN_WIDTH,
        no_color=None if has_colour else True,
    )


def session_of(context: typer.Context) -> Session:
    """The session that the global options made."""
    session = context.find_object(Session)
    assert session is not None, "the callback makes it before every command"
    return session

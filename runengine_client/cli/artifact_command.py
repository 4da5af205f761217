"""`runengine artifact get`: the file that an artifact is, fetched over HTTP, where the other commands speak gRPC."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated
from urllib.parse import quote

import typer

from runengine_client.cli import exit_codes, wording
from runengine_client.cli.session import Session, session_of
from runengine_client.client import RunEngineClient
from runengine_client.content import copy_content
from runengine_client.errors import InvalidArgumentError

artifact_app = typer.Typer(
    no_args_is_help=True,
    help="Fetch what steps have published.\n\nExample:\n\n  runengine artifact get ARTIFACT --out music.mp3",
)


@artifact_app.command()
def get(
    context: typer.Context,
    artifact_id: Annotated[
        str, typer.Argument(metavar="ARTIFACT", help="Id of the artifact, as `artifacts` shows it.", show_default=False)
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="Write to this file; - is standard output.", show_default=False)
    ],
) -> None:
    """Fetch the file of an artifact. A file that is there is replaced once the whole has arrived.

    Example:

      runengine artifact get ARTIFACT --out music.mp3
    """
    session = session_of(context)

    async def command(client: RunEngineClient) -> int:
        count = await _fetch(session, artifact_id, out)
        if out != "-":
            if session.is_data:
                session.print_data({"artifactId": artifact_id, "file": out, "sizeBytes": count})
            else:
                session.say(f"{out}: {wording.size(count)}")
        return exit_codes.COMPLETED

    session.run(command, server=session.url)


async def _fetch(session: Session, artifact_id: str, out: str) -> int:
    url = f"{session.url.rstrip('/')}/api/v1/artifacts/{quote(artifact_id, safe='')}/content"
    try:
        with _destination(out) as file:
            return await copy_content(url, file, token=session.token, allow_insecure_token=session.insecure_token)
    except OSError as error:
        raise InvalidArgumentError("USAGE", f"cannot write {out}: {error.strerror}") from None


@contextmanager
def _destination(out: str) -> Iterator[IO[bytes]]:
    """Standard output, or a file that gets its name when all is written and leaves nothing behind when not."""
    if out == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(out)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        part = Path(file.name)
        try:
            yield file
            file.flush()
            _take_usual_mode(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _take_usual_mode(path: Path) -> None:
    """A temporary file is private; what it becomes is as any new file."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)

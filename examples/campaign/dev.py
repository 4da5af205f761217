"""Keeps the campaign's whole stack running until Ctrl-C: `python -m examples.campaign.dev`, or `make dev`.

Everything it keeps lies in one folder, `.dev`: the databases, the artifacts, and `env` with what a shell needs to know.
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

import anyio

from examples.campaign.child import REPOSITORY, ChildError
from examples.campaign.stack import CampaignStack, StackOptions, campaign_stack
from runengine_server.adapters.embedded import EmbeddedError
from runengine_server.adapters.embedded.account import choose_account

WORKFLOW = Path(__file__).with_name("campaign.build.v1.yaml")

EXIT_UNUSABLE = 2

# What embedded databases make where they cannot stay in the folder, or where its path is too long for a socket.
_TEMPORARY = re.compile(r".*?/runengine-\w{8}/")


def main(arguments: Sequence[str] | None = None) -> None:
    """The stack ran until SIGINT or SIGTERM, or until the engine ended by itself; the process ends with its status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    # A shell starts background jobs with SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = _run(options)
    except (ChildError, EmbeddedError) as error:
        sys.stderr.write(f"dev: {error}\n")
        if "cannot bind" in str(error):
            sys.stderr.write(
                "dev: choose other addresses: "
                "make dev GRPC_ADDRESS=127.0.0.1:0 HTTP_ADDRESS=127.0.0.1:0 OPS_ADDRESS=127.0.0.1:0\n"
            )
        status = EXIT_UNUSABLE
    except KeyboardInterrupt:
        _say("\nstopped")
        status = 0
    sys.exit(status)


def _run(arguments: argparse.Namespace) -> int:
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    data_dir = _data_dir(folder)
    options = StackOptions(
        artifact_dir=folder / "artifacts",
        data_dir=data_dir,
        urls=_urls(folder),
        grpc_address=arguments.grpc_address,
        http_address=arguments.http_address,
        ops_address=arguments.ops_address,
        engine_settings={name: value for name, value in os.environ.items() if name.startswith("RUNENGINE_")},
    )
    with campaign_stack(
        options,
        on_line=lambda name, line: _say(f"{name:6} | {line}"),
        on_started=lambda what, seconds: _say(f"{seconds:4.1f} s  {what}"),
    ) as stack:
        _say(anyio.run(_register, stack))
        lines = _exports(stack)
        env_file = arguments.folder / "env"
        with _written(env_file, lines):
            _say(f"\n{lines}\nThe same lines are in {env_file}. Ctrl-C stops everything.")
            _say(f"Console, signed in: {stack.url}/#token={stack.token}\n")
            status = stack.engine.wait_ended()
        _say(f"dev: the engine ended with status {status}")
        return status or 1


def _urls(folder: Path) -> dict[str, str]:
    """The databases that the environment names, but for those that a shell has from the `env` of another start."""
    urls = {}
    for name in ("DATABASE_URL", "REDIS_URL"):
        url = os.environ.get(name, "")
        if _is_of_another_start(_socket_of(url), folder):
            _say(f"{name} is of another start of `make dev`, and is not used")
        elif url:
            urls[name] = url
    return urls


def _is_of_another_start(socket: Path, folder: Path) -> bool:
    """Whether it lies in the folder, or in a temporary one that is gone."""
    temporary = _TEMPORARY.match(os.fspath(socket))
    return socket.is_relative_to(folder) or (temporary is not None and not Path(temporary[0]).exists())


def _socket_of(url: str) -> Path:
    """Where the Unix socket of a database's URL lies; an empty path where it names none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return Path()  # whoever is to use it explains
    if parts.scheme == "unix":
        return Path(unquote(parts.path))
    host = parse_qs(parts.query).get("host", [""])[0]
    return Path(host, ".s.PGSQL") if host else Path()


def _data_dir(folder: Path) -> Path | None:
    """Where the databases can stay: in the folder, unless root's database account cannot get there."""
    if choose_account(folder / "data").can_enter(folder):
        return folder / "data"
    _say(
        f"{folder} lies below a private folder, where root's database account cannot go: "
        f"the databases live in a temporary folder and are gone at the end"
    )
    return None


async def _register(stack: CampaignStack) -> str:
    """The workflow can be triggered, or the answer says why it is an older one that can."""
    # Only now, because they import grpc.
    from runengine_client import RunEngineClient
    from runengine_client.errors import RunEngineError
    from runengine_client.workflow import load_workflow

    workflow = load_workflow(WORKFLOW)
    async with RunEngineClient(stack.target, token=stack.token) as client:
        try:
            created = (await client.register_workflow(workflow)).created
        except RunEngineError as error:
            return f"{workflow.name} {workflow.version} is not registered: {error}"
    return f"{workflow.name} {workflow.version} is {'registered' if created else 'registered already'}"


def _exports(stack: CampaignStack) -> str:
    values = {
        "DATABASE_URL": stack.database_url,
        "REDIS_URL": stack.redis_url,
        "TOKEN": stack.token,
        "RUNENGINE_TARGET": stack.target,
        "RUNENGINE_URL": stack.url,
    }
    return "".join(f"export {name}={quote(value)}\n" for name, value in values.items())


@contextmanager
def _written(path: Path, text: str) -> Iterator[None]:
    """Only the owner can read the text there; it goes with the block, unless another start's has taken its place."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    try:
        yield
    finally:
        if path.is_file() and path.read_text() == text:
            path.unlink()


def _say(text: str) -> None:
    # One write a line, so that lines of different threads do not mix.
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.campaign.dev", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=REPOSITORY / ".dev", help="what is kept lies here")
    parser.add_argument("--grpc-address", default="127.0.0.1:50051", help="host:port; port 0 takes a free one")
    parser.add_argument("--http-address", default="127.0.0.1:3001", help="of HTTP and the console")
    parser.add_argument("--ops-address", default="127.0.0.1:3002", help="of health and metrics")
    return parser


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends like everything else: through the blocks that stop what was started."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()

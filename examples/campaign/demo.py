"""Builds a campaign, changes its music and shows what that cost: `python -m examples.campaign.demo`, or `make demo`.

Ends with status 0 only if 13 steps were executed by the build, 4 executed and 9 reused by the update, and none executed
by the same update again.
"""

import argparse
import shutil
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import NoReturn

import anyio
from rich.console import Console
from rich.rule import Rule

from examples.campaign.child import REPOSITORY, ChildError
from examples.campaign.gallery import GalleryError, open_gallery
from examples.campaign.stack import CampaignStack, StackOptions, campaign_stack
from runengine_server.adapters.embedded import EmbeddedError

PLAIN_WIDTH = 140
"""Columns where nobody looks at a terminal."""

EXIT_UNUSABLE = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """The demo has run; the process ends with its status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    # A shell starts background jobs with SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    try:
        status = _run(options.output, console)
    except (ChildError, EmbeddedError, GalleryError) as error:
        console.print(f"demo: {error}", style="red", markup=False, soft_wrap=True)
        status = EXIT_UNUSABLE
    except KeyboardInterrupt:
        console.print("\ninterrupted; everything that was started has been stopped")
        status = EXIT_INTERRUPTED
    sys.exit(status)


def _run(output: Path, console: Console) -> int:
    started = monotonic()
    console.print("[bold]RunEngine[/bold]: build a campaign in 13 steps, then change its music in 4")
    folder = open_gallery(output)
    store = folder / ".store"
    logs = folder / "logs"
    logs.mkdir()
    try:
        with (
            (logs / "engine.log").open("w", encoding="utf-8") as engine_log,
            (logs / "skills.log").open("w", encoding="utf-8") as skills_log,
            campaign_stack(
                StackOptions(artifact_dir=store),
                on_line=lambda name, line: print(line, file=engine_log if name == "engine" else skills_log, flush=True),
                on_started=lambda what, seconds: console.print(f"  {seconds:4.1f} s  {what}", markup=False),
            ) as stack,
        ):
            return _show(stack, folder, console, started)
    finally:
        shutil.rmtree(store, ignore_errors=True)


def _show(stack: CampaignStack, folder: Path, console: Console, started: float) -> int:
    # Only now, because it imports grpc.
    from examples.campaign.scenes import Stage, play
    from runengine_client.errors import RunEngineError

    def announce(title: str) -> None:
        console.print()
        console.print(Rule(title, align="left", style="bright_black"))

    stage = Stage(target=stack.target, token=stack.token, folder=folder, console=console, announce=announce)
    try:
        differences = anyio.run(partial(play, stage))
    except RunEngineError as error:
        console.print(f"demo: {error}; see {folder / 'logs'}", style="red", markup=False, soft_wrap=True)
        return 1
    announce("What next")
    console.print(_next_steps(folder), markup=False, soft_wrap=True)
    if differences:
        console.print(f"\nNot what was promised: {'; '.join(differences)}", style="bold red", markup=False)
        return 1
    console.print(f"\n13 executed, 4 executed + 9 reused, 0 executed: as promised, in {monotonic() - started:.0f} s")
    return 0


def _next_steps(folder: Path) -> str:
    shown = folder.relative_to(REPOSITORY) if folder.is_relative_to(REPOSITORY) else folder
    return f"""\
Look at the files:        {shown}/1-build and {shown}/2-epic-audio; what the processes said: {shown}/logs
Keep everything running:  make dev                    then, in another terminal:
                          source .dev/env
Start a build:            .venv/bin/runengine trigger campaign.build.v1 --payload @examples/campaign/brief.json --watch
See what a change costs:  .venv/bin/runengine update RUN intro.update --payload '{{"introText": "Winter Sale"}}' --plan
See why each step ran:    .venv/bin/runengine steps RUN
Speak gRPC yourself:      .venv/bin/grpcurl -plaintext -H "authorization: Bearer $TOKEN" $RUNENGINE_TARGET \\
                              runengine.v1.RunEngine/ListRuns      (grpcurl comes with make test)
Run every check:          make test"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.campaign.demo", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=REPOSITORY / "campaign-demo",
        help="folder for the files; emptied if a demo made it",
    )
    return parser


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends like everything else: through the blocks that stop what was started."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()

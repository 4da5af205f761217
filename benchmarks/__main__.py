"""Starts the databases, measures the chosen work and prints what came out: `python -m benchmarks --help`."""

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from runengine_server.adapters.embedded import start_embedded

WORKS: Final = ("one20", "w1", "w2", "w3", "w4", "remote", "two", "logs")

# What the peers were measured with; fsync and synchronous_commit are on anyway.
POSTGRES_SETTINGS: Final = {"shared_buffers": "1GB", "max_wal_size": "4GB", "checkpoint_timeout": "15min"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Everything chosen has been measured and printed."""
    options = _parser().parse_args(arguments)
    with ExitStack() as resources:
        stack = resources.enter_context(start_embedded(None, postgres_settings=POSTGRES_SETTINGS))
        folder = Path(resources.enter_context(TemporaryDirectory(prefix="runengine-bench-")))
        # Only now, because it imports grpc.
        from benchmarks.session import Plan, run

        plan = Plan(
            works=options.work, n=options.n, warm_ups=options.warm_ups, repeats=options.reps, artifact_dir=folder
        )
        result = run(stack, plan, _say)
    _say(f"\n{result.text()}")
    if options.json is not None:
        options.json.write_text(json.dumps(result.document(), indent=1) + "\n")


def _say(text: str) -> None:
    print(text, flush=True)


def _works(text: str) -> list[str]:
    works = text.split(",")
    if unknown := sorted(set(works) - set(WORKS)):
        raise argparse.ArgumentTypeError(f"no such work: {', '.join(unknown)}; choose from {','.join(WORKS)}")
    return works


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _sizes(text: str) -> list[int]:
    return [_positive(each) for each in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the engine; see docs.")
    parser.add_argument("--work", type=_works, default=list(WORKS), help=f"comma list of {','.join(WORKS)}")
    parser.add_argument("--n", type=_sizes, default=[200, 1000], help="sizes of w1; others use the largest or smallest")
    parser.add_argument("--reps", type=_positive, default=3, help="repeats that count")
    parser.add_argument("--warm-ups", type=int, default=1, help="repeats before them that do not")
    parser.add_argument("--json", type=Path, help="write conditions and every repeat to this file")
    return parser


if __name__ == "__main__":
    main()

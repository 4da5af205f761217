"""Measures one table and prints what came out: `python -m benchmarks TABLE`, or draws them all: `… report`."""

import argparse
import importlib
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Final

from benchmarks.databases import Databases
from benchmarks.report import RESULTS, write_report
from benchmarks.result import Result
from benchmarks.tables import TABLES
from runengine_server.adapters.embedded import start_embedded

# What the peers were measured with; fsync and synchronous_commit are on anyway.
POSTGRES_SETTINGS: Final = {
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_connections": "300",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The table has been measured and printed, or the report been written."""
    # SIGTERM ends like Ctrl-C: through the blocks that stop what was started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    if options.table == "report":
        write_report()
        return
    begun = monotonic()
    result = _measure(options)
    _say(f"\n{result.text}")
    file = RESULTS / f"{options.table}.json" if options.save else options.json
    if file is not None:
        document = {
            "table": options.table,
            "command": shlex.join(["python", "-m", "benchmarks", *given]),
            "seconds": round(monotonic() - begun),
            **result.document(),
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _measure(options: argparse.Namespace) -> Result:
    module = f"benchmarks.{options.table}_table"
    with ExitStack() as resources:
        databases = None
        if TABLES[options.table].has_databases:
            stack = resources.enter_context(start_embedded(None, postgres_settings=POSTGRES_SETTINGS))
            databases = Databases.of(stack)
        # Only now, because it imports grpc.
        found = importlib.import_module(module).measure(databases, options, _say)
    assert isinstance(found, Result)
    return found


def _say(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure RunEngine; see docs.")
    commands = parser.add_subparsers(dest="table", required=True, metavar="TABLE")
    for name, table in TABLES.items():
        command = commands.add_parser(name, help=table.about, description=table.about)
        for flag, option in table.options.items():
            command.add_argument(flag, **option)
        target = command.add_mutually_exclusive_group()
        target.add_argument("--json", type=Path, help="write conditions and every repeat to this file")
        target.add_argument("--save", action="store_true", help="keep them as the figures that the report shows")
    commands.add_parser("report", help="write docs/performance.md's tables anew from the figures that were kept")
    return parser


if __name__ == "__main__":
    main()

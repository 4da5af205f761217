"""RunEngine as one of the peers: its engine with the no-op skill inside, and with one behind gRPC for `remote`."""

import argparse
import json
from importlib.metadata import version
from typing import Final

from benchmarks.databases import Databases
from benchmarks.engine_table import engine_bench
from benchmarks.stage import run_async
from benchmarks.works import CALLERS, WORKS

_WARM_UP_RUNS: Final = 100


async def _measure(databases: Databases, works: list[str], n: list[int]) -> None:
    async with engine_bench(databases, works, n) as bench:
        await bench.burst("warm-up", "bench.campaign", _WARM_UP_RUNS, callers=CALLERS)
        for work in works:
            for each in await WORKS[work](bench):
                row = each.row()
                kept = {key: row[key] for key in ("n", "steps", "seconds", "p50_ms", "p99_ms")}
                print(json.dumps({"work": work, **kept, "version": f"RunEngine {version('runengine')}"}), flush=True)


def _main() -> None:
    parser = argparse.ArgumentParser()
    for option in ("--work", "--n", "--database-url", "--redis-url", "--postgres-pid", "--valkey-pid"):
        parser.add_argument(option, required=True)
    options = parser.parse_args()
    databases = Databases(
        database_url=options.database_url,
        redis_url=options.redis_url,
        postgres_pid=int(options.postgres_pid),
        valkey_pid=int(options.valkey_pid),
    )
    sizes = [int(each) for each in options.n.split(",")]
    run_async(_measure(databases, options.work.split(","), sizes))


if __name__ == "__main__":
    _main()

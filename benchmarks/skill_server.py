"""Serves skills over gRPC: `python -m benchmarks.skill_server FOLDER [LEDGER]`.

One does nothing, one takes its time. It says `ready PID ADDRESS` once it answers. LEDGER is a file that gets a line for
every call that starts or ends; without it there is none, as it costs time.
"""

import os
import sys

import anyio

from benchmarks.graphs import output
from benchmarks.workload import REMOTE_SKILL, SLOW_SKILL
from runengine_client.skills import AsyncSkillContext, SkillServer, SkillServerLimits, serve_skills, skill

CALLS_MAX = 20_000


@skill(REMOTE_SKILL, version="1", max_concurrency=0)
async def noop(given: dict[str, object], context: AsyncSkillContext) -> dict[str, object]:
    """Returns about 1 KB at once."""
    return output(context.step_id)


@skill(SLOW_SKILL, version="1", max_concurrency=0, default_timeout_s=3600)
async def slow(given: dict[str, float], context: AsyncSkillContext) -> dict[str, object]:
    """Returns about 1 KB after `seconds`."""
    await anyio.sleep(given["seconds"])
    return output(context.step_id)


def main() -> None:
    """They have been served until SIGTERM."""
    serve_skills(
        [noop, slow],
        address="127.0.0.1:0",
        artifact_dir=sys.argv[1],
        limits=SkillServerLimits(calls_max=CALLS_MAX, drain_s=1.0),
        ledger_path=sys.argv[2] if len(sys.argv) > 2 else None,
        on_ready=_announce,
    )


def _announce(server: SkillServer) -> None:
    print(f"ready {os.getpid()} {server.address}", flush=True)


if __name__ == "__main__":
    main()

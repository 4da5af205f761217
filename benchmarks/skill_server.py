"""Serves the no-op skill over gRPC: `python -m benchmarks.skill_server ARTIFACT_DIR`.

It says `ready PID ADDRESS` once it answers.
"""

import os
import sys

from benchmarks.workload import REMOTE_SKILL, output
from runengine_client.skills import AsyncSkillContext, SkillServer, serve_skills, skill


@skill(REMOTE_SKILL, version="1", max_concurrency=0)
async def noop(given: dict[str, object], context: AsyncSkillContext) -> dict[str, object]:
    """Returns about 1 KB at once."""
    return output(context.step_id)


def main() -> None:
    """It has been served until SIGTERM."""
    serve_skills([noop], address="127.0.0.1:0", artifact_dir=sys.argv[1], on_ready=_announce)


def _announce(server: SkillServer) -> None:
    print(f"ready {os.getpid()} {server.address}", flush=True)


if __name__ == "__main__":
    main()

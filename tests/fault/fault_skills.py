"""A skill server with slow skills and a ledger; a program for fault tests, run by `SlowSkills`."""

import argparse
import sys
from pathlib import Path
from typing import Any

import anyio

from runengine_client.skills import AsyncSkillContext, SkillServer, SkillServerLimits, serve_skills
from runengine_client.skills import skill as make_skill


@make_skill("f.sleep", version="1.0.0", max_concurrency=0)
async def sleep(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
    """Takes `ms` milliseconds, then returns its input."""
    await anyio.sleep(given["ms"] / 1000)
    return given


def main() -> None:
    """The skills have been served until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    folder: Path = parser.parse_args().folder
    serve_skills(
        [sleep],
        address="127.0.0.1:0",
        artifact_dir=folder / "artifacts",
        limits=SkillServerLimits(grace_s=30.0, drain_s=1.0),
        ledger_path=folder / "ledger.jsonl",
        on_ready=_announce,
    )


def _announce(server: SkillServer) -> None:
    sys.stdout.write(f"skills listening on {server.address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

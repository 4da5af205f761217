"""A skill server whose skills do what their input says; a program for tests, run by `SkillServerProcess`.

Gates are files in the gate folder: a gated skill waits until the test makes the file.
"""

import argparse
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import anyio

from runengine_client.skills import AsyncSkillContext, Skill, SkillError, SkillServer, SkillServerLimits, serve_skills
from runengine_client.skills import skill as make_skill

_POLL_S = 0.02


def main() -> None:
    """The skills have been served until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--address", default="127.0.0.1:0")
    parser.add_argument("--only", nargs="*", default=None, help="offer only these skills")
    parser.add_argument("--grace-s", type=float, default=30.0)
    options = parser.parse_args()
    gates: Path = options.folder / "gates"
    gates.mkdir(parents=True, exist_ok=True)
    skills = [offered for offered in _skills(gates) if options.only is None or offered.skill_id in options.only]
    serve_skills(
        skills,
        address=options.address,
        artifact_dir=options.folder / "artifacts",
        limits=SkillServerLimits(grace_s=options.grace_s, drain_s=2.0),
        ledger_path=options.folder / "ledger.jsonl",
        on_ready=_announce,
    )


def _announce(server: SkillServer) -> None:
    sys.stdout.write(f"skills listening on {server.address}\n")
    sys.stdout.flush()


def _skills(gates: Path) -> list[Skill]:
    @make_skill("t.echo", version="1.0.0", max_concurrency=0)
    async def echo(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        """Returns its input."""
        return given

    @make_skill("t.gated", version="1.0.0", max_concurrency=0)
    async def gated(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        """Returns its input once the gate file `gate` exists; says so halfway."""
        context.report_progress(0.5, f"waiting for {given['gate']}")
        while not (gates / given["gate"]).exists():  # noqa: ASYNC110 - it is another process that opens the gate
            await anyio.sleep(_POLL_S)
        return given

    @make_skill("t.flaky", version="1.0.0", max_concurrency=0)
    async def flaky(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        """Fails in its first `failures` attempts with `code`, retryable unless `permanent`."""
        if context.attempt <= given["failures"]:
            code = given.get("code", "FLAKY")
            raise SkillError(code, f"attempt {context.attempt} failed", retryable=not given.get("permanent"))
        return {"attempt": context.attempt}

    @make_skill("t.big", version="1.0.0", max_concurrency=0)
    async def big(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        """Returns `bytes` characters of output."""
        return {"text": "x" * int(given["bytes"])}

    @make_skill("t.publish", version="1.0.0", max_concurrency=0)
    async def publish(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        """Publishes the text, in base64 where `isBase64`, as a file of that name and `mediaType`, by default plain."""
        media_type = given.get("mediaType", "text/plain")
        data = b64decode(given["text"]) if given.get("isBase64") else given["text"].encode()
        stored = await context.publish(data, filename=given["filename"], media_type=media_type)
        return {"contentHash": stored.content_hash}

    @make_skill("t.traced", version="1.0.0", max_concurrency=0)
    async def traced(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        """Returns in which trace it is called."""
        return {"traceId": context.trace_id, "traceparent": context.traceparent}

    @make_skill(
        "t.typed",
        version="1.0.0",
        max_concurrency=0,
        input_schema={"type": "object", "properties": {"number": {"type": "number"}}},
        output_schema={"type": "object", "properties": {"number": {"type": "number"}}},
    )
    async def typed(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        """Takes and gives numbers, unless `lie` says what to give instead."""
        return {"number": given.get("lie", given.get("number"))}

    return [echo, gated, flaky, big, publish, traced, typed]


if __name__ == "__main__":
    main()

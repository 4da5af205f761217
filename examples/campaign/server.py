"""Serves the campaign's skills: `python -m examples.campaign.server --address 127.0.0.1:0 --artifact-dir DIR`."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from runengine_client.skills import SkillServer, SkillServerLimits, serve_skills


def main(arguments: Sequence[str] | None = None) -> None:
    """The skills have been served until SIGTERM or SIGINT.

    Prints one line, `campaign skills listening on HOST:PORT`, once they answer; logs go to stderr.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    # The generators pull in numpy, Pillow and PyAV; `--help` should not wait for them.
    from examples.campaign.skills import SKILLS

    serve_skills(
        SKILLS,
        address=options.address,
        artifact_dir=options.artifact_dir,
        token=os.environ.get("CAMPAIGN_SKILLS_TOKEN") or None,
        is_plaintext_allowed=options.insecure_plaintext,
        limits=SkillServerLimits(grace_s=options.grace_s, drain_s=options.drain_s),
        ledger_path=options.ledger,
        on_ready=_announce,
    )


def _announce(server: SkillServer) -> None:
    sys.stdout.write(f"campaign skills listening on {server.address}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    defaults = SkillServerLimits()
    parser = argparse.ArgumentParser(
        prog="python -m examples.campaign.server", description="Serve the campaign's skills"
    )
    parser.add_argument("--address", default="127.0.0.1:7001", help="host:port; port 0 takes a free one")
    parser.add_argument("--artifact-dir", type=Path, required=True, help="where artifacts go")
    parser.add_argument("--ledger", type=Path, help="append every start and end of a call to this file")
    parser.add_argument("--grace-s", type=float, default=defaults.grace_s, help="how long a call outlives its engine")
    parser.add_argument("--drain-s", type=float, default=defaults.drain_s, help="how long to wait for calls at the end")
    parser.add_argument("--insecure-plaintext", action="store_true", help="allow an address that is not loopback")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return parser


if __name__ == "__main__":
    main()

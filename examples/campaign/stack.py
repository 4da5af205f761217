"""Runs all that the campaign needs on this machine: PostgreSQL, Valkey, the skill server and the engine.

Each is a process of its own, as in production, and none outlives this one. Nothing in here imports grpc: the databases
are to be started before.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from examples.campaign.child import Child, clean_environment
from runengine_server.adapters.embedded import start_embedded

_SKILLS_READY = "campaign skills listening on "
_ENGINE_READY = "RunEngine is listening on "
_URL_LINE = "export RUNENGINE_URL="
_TOKEN_LINE = "export TOKEN="


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """How to run the stack."""

    artifact_dir: Path
    data_dir: Path | None = None
    """Where the databases live and stay; None is a temporary folder, gone however this process ends."""
    urls: dict[str, str] = field(default_factory=dict, repr=False)
    """DATABASE_URL and REDIS_URL of servers to use; what is not named is embedded."""
    grpc_address: str = "127.0.0.1:0"
    http_address: str = "127.0.0.1:0"
    ops_address: str = "127.0.0.1:0"
    engine_settings: dict[str, str] = field(default_factory=dict)
    """Environment variables of the engine, over all others; skill targets among them come before the campaign's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignStack:
    """Everything runs."""

    target: str
    url: str
    token: str = field(repr=False)
    database_url: str
    redis_url: str = field(repr=False)
    skills_address: str
    engine: Child
    skills: Child


@contextmanager
def campaign_stack(
    options: StackOptions,
    *,
    on_line: Callable[[str, str], None],
    on_started: Callable[[str, float], None] = lambda what, seconds: None,
) -> Iterator[CampaignStack]:
    """The campaign's whole stack runs inside the block; at the end it stops in the reverse order of its start.

    Args:
        options: how.
        on_line: called in other threads with the name and each line of a process.
        on_started: called with what has started and how many seconds it took.

    Raises:
        EmbeddedError: the databases do not start.
        ChildError: the skills or the engine do not start, with what they said.
    """
    with ExitStack() as stack:
        since = monotonic()
        urls, where = _databases(stack, options)
        on_started(f"PostgreSQL and Valkey {where}", monotonic() - since)

        since = monotonic()
        # Both start side by side: the engine does not need the skills before the first step.
        skills = stack.enter_context(_skills(options, on_line))
        skills_address = skills.wait_for(lambda line: line.startswith(_SKILLS_READY))[-1].removeprefix(_SKILLS_READY)
        on_started(f"campaign skills, a gRPC server on {skills_address}", monotonic() - since)

        since = monotonic()
        engine = stack.enter_context(_engine(options, urls, skills_address, on_line))
        told = engine.wait_for(lambda line: line.startswith(_ENGINE_READY))
        target = told[-1].removeprefix(_ENGINE_READY)
        token, url = (_told(told, start) for start in (_TOKEN_LINE, _URL_LINE))
        on_started(f"RunEngine, schema migrated, on {target}", monotonic() - since)
        yield CampaignStack(
            target=target,
            url=url,
            token=token,
            database_url=urls["DATABASE_URL"],
            redis_url=urls["REDIS_URL"],
            skills_address=skills_address,
            engine=engine,
            skills=skills,
        )


def _told(lines: list[str], start: str) -> str:
    return next(line.removeprefix(start) for line in lines if line.startswith(start))


def _databases(stack: ExitStack, options: StackOptions) -> tuple[dict[str, str], str]:
    """The URLs given, and of embedded servers where none is given; and where they are, in words."""
    if {"DATABASE_URL", "REDIS_URL"} <= options.urls.keys():
        return options.urls, "where DATABASE_URL and REDIS_URL say"
    embedded = stack.enter_context(start_embedded(options.data_dir))
    # Both by Unix socket: a path tells whose they are, long after they have stopped.
    urls = {"DATABASE_URL": embedded.database_url, "REDIS_URL": embedded.valkey.socket_url} | options.urls
    return urls, f"in {embedded.data_dir}"


def _skills(options: StackOptions, on_line: Callable[[str, str], None]) -> Child:
    return Child(
        "skills",
        ["examples.campaign.server", "--address", "127.0.0.1:0", "--artifact-dir", os.fspath(options.artifact_dir)],
        environment=clean_environment(),
        on_line=lambda line: on_line("skills", line),
    )


def _engine(
    options: StackOptions, urls: dict[str, str], skills_address: str, on_line: Callable[[str, str], None]
) -> Child:
    settings = {
        "RUNENGINE_GRPC_ADDRESS": options.grpc_address,
        "RUNENGINE_HTTP_ADDRESS": options.http_address,
        "RUNENGINE_OPS_ADDRESS": options.ops_address,
        "RUNENGINE_LOG_FORMAT": "console",
        "RUNENGINE_ARTIFACT_STORE": options.artifact_dir.resolve().as_uri(),
    }
    settings |= options.engine_settings
    targets = [settings.get("RUNENGINE_SKILLS", ""), f"*=grpc://{skills_address}"]
    settings["RUNENGINE_SKILLS"] = ",".join(filter(None, targets))
    return Child(
        "engine",
        ["runengine_server", "dev"],
        environment={**clean_environment(), **settings, **urls},
        # What it says to be pasted into a shell is for whoever runs the stack to say, and the token is in it.
        on_line=lambda line: None if line.startswith("export ") else on_line("engine", line),
    )

"""Serves until a signal says to stop: the event loop, the logs and what a person is told at the start."""

import asyncio
import logging
import signal
import sys

import uvloop

from runengine_server.adapters.clock import SystemClock
from runengine_server.adapters.telemetry.log_observer import LogObserver
from runengine_server.adapters.telemetry.logging_setup import LogFormat, logging_to
from runengine_server.adapters.tokens.static_tokens import StaticTokens, dev_token
from runengine_server.adapters.tokens.tokens_file import TokensFileError
from runengine_server.app import Engine, run_engine
from runengine_server.config import ConfigurationError, Settings
from runengine_server.domain.errors import RunEngineError
from runengine_server.garbage import collect_rarely
from runengine_server.rpc.bind import BindRefusedError

_log = logging.getLogger("runengine")


def serve_until_stopped(settings: Settings, *, is_development: bool) -> None:
    """Serve until SIGTERM or SIGINT, then drain; in development with a token of its own, which is printed.

    Raises:
        ConfigurationError: the configuration cannot be used.
    """
    with logging_to(log_format=LogFormat(settings.log_format), level=settings.log_level) as log:
        observer = LogObserver(log.writer.write, SystemClock(), is_json=log.is_json)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings, observer, is_development=is_development))
        except (TokensFileError, BindRefusedError) as error:
            raise ConfigurationError(str(error)) from None
        except RunEngineError as error:
            details = "".join(f"\n  {violation.field}: {violation.description}" for violation in error.violations)
            raise ConfigurationError(f"{error.message}{details}") from None


async def _serve(settings: Settings, observer: LogObserver, *, is_development: bool) -> None:
    collect_rarely()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    token = dev_token() if is_development and not settings.knows_callers else None
    authenticator = StaticTokens.for_development(token) if token else None
    async with run_engine(settings, log=observer, authenticator=authenticator) as engine:
        _announce(settings, engine, token)
        await stop.wait()
        _log.info("draining")
    if not stop.is_set():
        # Whatever waits inside was cancelled from within, which says nothing to anybody: a defect of ours, always.
        _log.critical("the engine ended without being told to")
        raise SystemExit(1)


def _announce(settings: Settings, engine: Engine, token: str | None) -> None:
    address = settings.grpc_address
    if not address.startswith("unix:"):
        address = f"{address.rpartition(':')[0]}:{engine.rpc.port}"
    if token is not None:
        # For people and scripts: lines to paste into a shell.
        print(f"export DATABASE_URL='{settings.database_url}'")  # noqa: T201
        print(f"export REDIS_URL='{settings.redis_url or ''}'")  # noqa: T201
        print(f"export RUNENGINE_TARGET={address}")  # noqa: T201
        print(f"export RUNENGINE_URL={engine.http.url}")  # noqa: T201
        print(f"export TOKEN={token}")  # noqa: T201
    print(f"HTTP and console on {engine.http.url}")  # noqa: T201
    print(f"Health and metrics on {engine.ops.url}")  # noqa: T201
    print(f"RunEngine is listening on {address}", flush=True)  # noqa: T201
    sys.stdout.flush()

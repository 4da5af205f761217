"""Sends all that this process logs to one stream in one format: the engine's lines and, by structlog, all others."""

import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, TextIO

import orjson
import structlog

from runengine_server.adapters.telemetry.line_writer import LineWriter

_SECRET_PARTS = ("token", "password", "secret", "authorization", "payload", "credential")


class LogFormat(Enum):
    """AUTO is CONSOLE on a terminal and JSON elsewhere."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSetup:
    """Where lines go and whether they are JSON: what a LogObserver needs."""

    writer: LineWriter
    is_json: bool


@contextmanager
def logging_to(
    stream: TextIO | None = None,
    *,
    log_format: LogFormat = LogFormat.AUTO,
    level: str = "info",
    levels: Mapping[str, str] | None = None,
) -> Iterator[LogSetup]:
    """Inside the block the root logger writes to `stream` (standard output by default); afterwards as before.

    Args:
        stream: a text stream with a `buffer`.
        log_format: how lines look.
        level: debug, info, warning, error or critical, for every logger.
        levels: by logger name, where it differs: {"runengine.step": "warning"} leaves out the lines of each step that
            works.

    Raises:
        ValueError: no such level.
    """
    stream = sys.stdout if stream is None else stream
    numbers = {"": _number(level), **{name: _number(text) for name, text in (levels or {}).items()}}
    is_json = log_format is LogFormat.JSON or (log_format is LogFormat.AUTO and not stream.isatty())
    writer = LineWriter(stream.buffer)
    handler = _WriterHandler(writer)
    handler.setFormatter(_formatter(is_json=is_json, is_terminal=stream.isatty()))
    root = logging.getLogger()
    handlers_before = root.handlers[:]
    levels_before = {name: logging.getLogger(name).level for name in numbers}
    root.handlers[:] = [handler]
    _set_levels(numbers)
    try:
        yield LogSetup(writer=writer, is_json=is_json)
    finally:
        root.handlers[:] = handlers_before
        _set_levels(levels_before)
        writer.close()


class _WriterHandler(logging.Handler):
    """Puts finished records among the other lines, in their order."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(f"{self.format(record)}\n".encode(errors="replace"))
        except Exception:  # as every handler of logging: a record that cannot be formatted stops nothing
            self.handleError(record)


def _formatter(*, is_json: bool, is_terminal: bool) -> logging.Formatter:
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _with_trace,
        _without_secrets,
    ]
    last: list[structlog.types.Processor]
    if is_json:
        last = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(serializer=_json),
        ]
    else:
        # A plain traceback: the pretty ones show local variables, and with them tokens and payloads.
        last = [structlog.dev.ConsoleRenderer(colors=is_terminal, exception_formatter=structlog.dev.plain_traceback)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _json(fields: Mapping[str, Any], **options: Any) -> str:
    return orjson.dumps(fields, default=options.get("default", str), option=orjson.OPT_NON_STR_KEYS).decode()


def _with_trace(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say in which trace the record was written, where traces are."""
    api = sys.modules.get("opentelemetry.trace")
    if api is not None and (context := api.get_current_span().get_span_context()).is_valid:
        fields["trace_id"] = f"{context.trace_id:032x}"
    return fields


def _without_secrets(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank out what a record's extra fields must not say, whoever logged it."""
    for name in fields:
        if any(part in name.lower() for part in _SECRET_PARTS):
            fields[name] = "[removed]"
    return fields


def _number(level: str) -> int:
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r}: choose debug, info, warning, error or critical")
    return number


def _set_levels(levels: Mapping[str, int]) -> None:
    for name, number in levels.items():
        logging.getLogger(name).setLevel(number)

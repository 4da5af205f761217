"""Timestamps, durations and enums."""

from datetime import UTC, datetime
from enum import IntEnum
from typing import TypeVar

from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.message import Message

from runengine_server.rpc.conversion.problems import Problems

_NANOS_PER_S = 1_000_000_000
_DURATION_S_MAX = 315_576_000_000

E = TypeVar("E", bound=IntEnum)


def read_enum(kind: type[E], number: int, field: str, problems: Problems) -> E | None:
    """The member with this number; None for unspecified, and with a problem noted for an unknown one."""
    if number == 0:
        return None
    try:
        return kind(number)
    except ValueError:
        problems.add(field, f"{number} is not a {kind.__name__} this server knows")
        return None


def read_duration_s(message: Message, name: str, field: str, problems: Problems) -> float | None:
    """The duration in seconds that a message has under this name; None when unset or, with a problem, malformed."""
    if not message.HasField(name):
        return None
    duration: duration_pb2.Duration = getattr(message, name)
    is_mixed = (duration.seconds > 0 > duration.nanos) or (duration.seconds < 0 < duration.nanos)
    if is_mixed or abs(duration.nanos) >= _NANOS_PER_S or abs(duration.seconds) > _DURATION_S_MAX:
        problems.add(field, "is not a valid Duration (sign or range of seconds and nanos)")
        return None
    return duration.seconds + duration.nanos / _NANOS_PER_S


def read_timestamp(message: Message, name: str, field: str, problems: Problems) -> datetime | None:
    """The time, aware UTC, that a message has under this name; None when unset or, with a problem, malformed."""
    if not message.HasField(name):
        return None
    timestamp: timestamp_pb2.Timestamp = getattr(message, name)
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        problems.add(field, "is not a time between the years 1 and 9999")
        return None


def duration_of(seconds: float | None) -> duration_pb2.Duration | None:
    """A Duration of so many seconds, to the nanosecond; None stays None."""
    if seconds is None:
        return None
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * _NANOS_PER_S))
    return duration


def timestamp_of(moment: datetime | None) -> timestamp_pb2.Timestamp | None:
    """A Timestamp of an aware time; None stays None."""
    if moment is None:
        return None
    timestamp = timestamp_pb2.Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp

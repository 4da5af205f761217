"""Typed client of RunEngine: starts, watches and rebuilds runs.

The names below load with their first use: a server that imports only `runengine_client.pb` must not pay for, or start
gRPC through, a client that it does not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runengine_client.client import RunEngineClient
    from runengine_client.connection import TlsOptions
    from runengine_client.errors import (
        AbortedError,
        AlreadyExistsError,
        DeadlineExceededError,
        FailedPreconditionError,
        FieldViolation,
        InternalError,
        InvalidArgumentError,
        NotFoundError,
        OutOfRangeError,
        PermissionDeniedError,
        ResourceExhaustedError,
        RunEngineError,
        UnauthenticatedError,
        UnavailableError,
        UnimplementedError,
        WatchBrokenError,
    )
    from runengine_client.handle import RunHandle, RunNotCompletedError
    from runengine_client.retry import Backoff
    from runengine_client.sync_client import SyncRunEngineClient, SyncRunHandle
    from runengine_client.watch import Interruption, WatchOptions
    from runengine_client.watch_items import RunEnded, RunEvent, RunSnapshot

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "Backoff",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "FieldViolation",
    "InternalError",
    "Interruption",
    "InvalidArgumentError",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "RunEnded",
    "RunEngineClient",
    "RunEngineError",
    "RunEvent",
    "RunHandle",
    "RunNotCompletedError",
    "RunSnapshot",
    "SyncRunEngineClient",
    "SyncRunHandle",
    "TlsOptions",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "WatchBrokenError",
    "WatchOptions",
]

_HOMES = {
    "runengine_client.client": ("RunEngineClient",),
    "runengine_client.connection": ("TlsOptions",),
    "runengine_client.errors": (
        "AbortedError",
        "AlreadyExistsError",
        "DeadlineExceededError",
        "FailedPreconditionError",
        "FieldViolation",
        "InternalError",
        "InvalidArgumentError",
        "NotFoundError",
        "OutOfRangeError",
        "PermissionDeniedError",
        "ResourceExhaustedError",
        "RunEngineError",
        "UnauthenticatedError",
        "UnavailableError",
        "UnimplementedError",
        "WatchBrokenError",
    ),
    "runengine_client.handle": (
        "RunHandle",
        "RunNotCompletedError",
    ),
    "runengine_client.retry": ("Backoff",),
    "runengine_client.sync_client": (
        "SyncRunEngineClient",
        "SyncRunHandle",
    ),
    "runengine_client.watch": (
        "Interruption",
        "WatchOptions",
    ),
    "runengine_client.watch_items": (
        "RunEnded",
        "RunEvent",
        "RunSnapshot",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load an exported name from its module."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)

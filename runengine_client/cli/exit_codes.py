"""What the command's exit status means; scripts rely on these numbers."""

from runengine_client.errors import InvalidArgumentError, NotFoundError, RunEngineError, UnavailableError
from runengine_client.states import RunStatus

COMPLETED = 0
FAILED = 1
USAGE = 2
CANCELLED = 3
NOT_FOUND = 4
UNAVAILABLE = 5
DETACHED = 130
"""Ctrl-C, as shells number it: the command ended, the run goes on."""


def of_error(error: RunEngineError) -> int:
    """The exit status of a command that an error ended."""
    match error:
        case NotFoundError():
            return NOT_FOUND
        case UnavailableError():
            return UNAVAILABLE
        case InvalidArgumentError():
            return USAGE
        case _:
            return FAILED


def of_run(status: RunStatus) -> int:
    """The exit status of a command that followed a run to its end."""
    match status:
        case RunStatus.COMPLETED:
            return COMPLETED
        case RunStatus.CANCELLED:
            return CANCELLED
        case _:
            return FAILED

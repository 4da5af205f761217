"""Carries the authenticated caller from the guard to the servicer of the same call."""

from contextvars import ContextVar

from runengine_server.domain.caller import Caller

_CALLER: ContextVar[Caller] = ContextVar("runengine_rpc_caller")


def set_caller(caller: Caller) -> None:
    """Make the caller known to what runs in this call's task; every call has a task, so a context, of its own."""
    _CALLER.set(caller)


def current_caller() -> Caller:
    """The caller of this call.

    Raises:
        LookupError: nothing authenticated the call, which is a defect: it then ends as INTERNAL.
    """
    return _CALLER.get()

"""What to do on the command line about a token that the server does not take; it cannot know that it talks to one."""

from collections.abc import Mapping

from runengine_client.errors import RunEngineError, UnauthenticatedError

_ADVICE: Mapping[str, str] = {
    "TOKEN_MISSING": "Pass it with --token or in TOKEN; with make dev, `source .dev/env` sets it",
    "TOKEN_INVALID": "Pass one of this server that has not expired with --token or, unless RUNENGINE_TOKEN is set, in "
    "TOKEN; with make dev, `source .dev/env` sets it",
}


def advised(error: RunEngineError) -> RunEngineError:
    """The error, of a token with a sentence more: where to put another one."""
    advice = _ADVICE.get(error.reason)
    if advice is None:
        return error
    return UnauthenticatedError(
        error.reason,
        f"{error.message.rstrip('.')}. {advice}",
        metadata=error.metadata,
        is_from_server=error.is_from_server,
    )

"""What a skill raises to say how it failed, and what it is told when nobody waits for it any more."""

import re
from collections.abc import Mapping
from typing import Any

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z")


class SkillError(Exception):
    """A failure the skill declares; everything in it travels to the engine and is shown to people."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Describe the failure.

        Args:
            code: stable, upper snake case, at most 64 characters.
            message: one sentence for a person; no secrets.
            retryable: whether another attempt with the same input can help.
            retry_after_s: least delay before that attempt, in seconds, above zero; None leaves it to the step's policy.
            details: a small JSON object with whatever else helps.

        Raises:
            ValueError: the code is not upper snake case, or the delay is not above zero.
        """
        if not _CODE.match(code):
            raise ValueError(f"a failure code is upper snake case, at most 64 characters: {code!r}")
        if retry_after_s is not None and not retry_after_s > 0:
            raise ValueError("retry_after_s must be above zero")
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.details = dict(details) if details is not None else None


class SkillCancelledError(BaseException):
    """The call was cancelled or its deadline passed; let it through.

    Not an `Exception`, for the reason `asyncio.CancelledError` is none: a skill's own `except Exception` must not
    swallow it.
    """

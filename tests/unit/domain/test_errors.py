"""Errors carry what a caller needs: a stable reason, a sentence, and facts that cannot change afterwards."""

import pytest

from runengine_server.domain import errors
from runengine_server.domain.errors import FieldViolation, RunEngineError, UnavailableError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, RunEngineError) and kind is not RunEngineError
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_one_tree(kind: type[RunEngineError]) -> None:
    """Each kind is a RunEngineError with reason, message and nothing else unless given."""
    error = kind("SOME_REASON", "what to do")
    assert (error.reason, error.message, str(error)) == ("SOME_REASON", "what to do", "what to do")
    assert (error.violations, error.metadata, error.retry_after_s) == ((), {}, None)


def test_facts_are_copied() -> None:
    """What the raiser changes afterwards does not change the error."""
    violations, metadata = [FieldViolation(field="a", description="b")], {"k": "v"}
    error = UnavailableError("R", "m", violations=violations, metadata=metadata, retry_after_s=1.0)
    violations.clear()
    metadata.clear()
    assert error.violations == (FieldViolation(field="a", description="b"),)
    assert error.metadata == {"k": "v"}
    assert error.retry_after_s == 1.0

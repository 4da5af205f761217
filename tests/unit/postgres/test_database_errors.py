"""Which of PostgreSQL's errors mean: try again."""

import asyncpg
import pytest

from runengine_server.adapters.postgres.database import database_errors
from runengine_server.domain.errors import UnavailableError


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DeadlockDetectedError,
        asyncpg.SerializationError,
        asyncpg.ConnectionDoesNotExistError,
        asyncpg.AdminShutdownError,
        asyncpg.QueryCanceledError,
        ConnectionResetError,
        TimeoutError,
    ],
)
def test_what_passes_is_unavailable(error: type[Exception]) -> None:
    """What a repetition may cure is UNAVAILABLE with a time to wait, and keeps its cause."""
    with pytest.raises(UnavailableError) as refused, database_errors():
        raise error("no")
    assert refused.value.reason == "DATABASE_UNAVAILABLE"
    assert refused.value.retry_after_s
    assert isinstance(refused.value.__cause__, error)


@pytest.mark.parametrize("error", [asyncpg.UniqueViolationError, asyncpg.DataError, KeyError])
def test_what_stays_wrong_is_passed_on(error: type[Exception]) -> None:
    """What no repetition cures is not hidden behind UNAVAILABLE."""
    with pytest.raises(error), database_errors():
        raise error("no")

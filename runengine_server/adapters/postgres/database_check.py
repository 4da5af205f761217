"""Says in one line, without its password, why a database cannot be used; asked before anything is started."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from runengine_server.adapters.postgres.migrate import pending_migrations

CONNECT_TIMEOUT_S: Final = 10.0
_SCHEMES: Final = ("postgresql", "postgres")


class DatabaseUrlError(Exception):
    """The URL is none that PostgreSQL is reached by; the message never shows it."""


class DatabaseUnusableError(Exception):
    """The database cannot be reached, or not be used as it is; the message says why."""


async def check_database(url: str, variable: str = "DATABASE_URL") -> None:
    """The database answers and has the schema of this build.

    Args:
        url: where it is.
        variable: where the URL was given, for messages.

    Raises:
        DatabaseUrlError: the URL cannot be used.
        DatabaseUnusableError: no connection, or migrations are missing.
    """
    with one_line_errors(url, variable):
        connection = await asyncpg.connect(
            url, timeout=CONNECT_TIMEOUT_S, command_timeout=CONNECT_TIMEOUT_S, statement_cache_size=0
        )
        try:
            missing = await pending_migrations(connection)
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)
    if missing:
        raise DatabaseUnusableError(
            f"the database of {variable} lacks {len(missing)} of this version's migrations; "
            "run `runengine-server migrate`, or `serve --migrate`"
        )


@contextmanager
def one_line_errors(url: str, variable: str = "DATABASE_URL") -> Iterator[None]:
    """Whatever goes wrong with the database inside is one of this module's errors.

    Raises:
        DatabaseUrlError: the URL cannot be used.
        DatabaseUnusableError: the database cannot be reached or refuses what is done.
    """
    if not url.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES)):
        raise _bad_url(variable)
    try:
        yield
    except ValueError:  # asyncpg's words may quote the URL, of which a part may be the password
        raise _bad_url(variable) from None
    except TimeoutError:
        raise DatabaseUnusableError(f"the database of {variable} cannot be reached: no answer in time") from None
    except OSError as error:
        raise _unusable("cannot be reached", error, url, variable) from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise _unusable("cannot be used", error, url, variable) from None


def _bad_url(variable: str) -> DatabaseUrlError:
    return DatabaseUrlError(
        f"{variable} is not the URL of a PostgreSQL database; write postgresql://user:password@host:5432/database, "
        "special characters in user and password percent-encoded"
    )


def _unusable(what: str, error: Exception, url: str, variable: str) -> DatabaseUnusableError:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    for secret in _secrets(url):
        reason = reason.replace(secret, "***")
    return DatabaseUnusableError(f"the database of {variable} {what}: {reason}")


def _secrets(url: str) -> Iterator[str]:
    """What of the URL must not be shown, as written and as meant."""
    parts = urlsplit(url)
    for password in (parts.password or "", *parse_qs(parts.query).get("password", [])):
        yield from {each for each in (password, unquote(password)) if each}

"""Whether PostgreSQL is there, and such that what it commits stays and every engine works on it."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from runengine_server.adapters.postgres.database_check import DatabaseUnusableError, DatabaseUrlError
from runengine_server.adapters.postgres.diagnosis import VERSIONS, DatabaseFacts, read_database_facts
from runengine_server.commands.findings import Finding, failed, ok, warning
from runengine_server.config import Settings

CLOCK_AHEAD_MAX: Final = timedelta(seconds=1)
"""Leases go by the database's clock alone; deadlines that callers compute and what people read do not."""
_NAMES_SHOWN: Final = 5
_CONNECTIONS_BESIDES: Final = 4
"""Of one engine: its ticks, its heartbeats, its LISTEN."""


async def examine_database(settings: Settings, variable: str = "DATABASE_URL") -> list[Finding]:
    """What there is to say about the database of a variable."""
    url = settings.database_url if variable == "DATABASE_URL" else settings.listen_database_url
    assert url is not None, "only what is set is examined"
    try:
        facts = await read_database_facts(url, variable)
    except DatabaseUrlError as error:
        found, _, advice = str(error).partition("; ")
        return [failed("PostgreSQL", found, advice)]
    except DatabaseUnusableError as error:
        advice = f"start it, or set {variable} to where it is; check host, port, database, user and password"
        return [failed("PostgreSQL", str(error), advice)]
    if variable != "DATABASE_URL":
        return [ok("PostgreSQL: LISTEN", f"{variable} answers")]
    return [*_server(facts), *_durability(facts), *_schema(facts), *_room(facts, settings)]


def _server(facts: DatabaseFacts) -> Iterator[Finding]:
    supported = f"{VERSIONS.start} to {VERSIONS.stop - 1}"
    if facts.major < VERSIONS.start:
        advice = f"upgrade it; PostgreSQL {supported} are supported"
        yield failed("PostgreSQL: version", f"{facts.version} is too old", advice)
    elif facts.major not in VERSIONS:
        yield warning("PostgreSQL: version", f"{facts.version} is not tested", f"tested are {supported}")
    else:
        yield ok("PostgreSQL: version", facts.version)
    if facts.is_replica:
        yield failed("PostgreSQL: role", "a standby, which takes no writes", "set DATABASE_URL to the primary")
    apart = abs(facts.clock_ahead) - facts.uncertain
    direction = "ahead" if facts.clock_ahead > timedelta() else "behind"
    if apart > CLOCK_AHEAD_MAX:
        found = f"{apart.total_seconds():.1f} s {direction} of this machine's"
        advice = "run NTP on both; leases are safe, but deadlines and times shown are off by so much"
        yield warning("PostgreSQL: clock", found, advice)
    else:
        yield ok("PostgreSQL: clock", f"within {CLOCK_AHEAD_MAX.total_seconds():g} s of this machine's")


def _durability(facts: DatabaseFacts) -> Iterator[Finding]:
    check = "PostgreSQL: durability"
    named = {"fsync": facts.has_fsync, "full_page_writes": facts.has_full_page_writes}
    off = [name for name, is_on in named.items() if not is_on]
    if off:
        found = f"{' and '.join(off)} off: a power cut can corrupt the whole database"
        yield warning(check, found, f"set {' and '.join(f'{name} = on' for name in off)} in postgresql.conf and reload")
    if facts.synchronous_commit == "off":
        found = "synchronous_commit is off: the last commits before a crash can be lost, answered ones among them"
        yield warning(check, found, "set synchronous_commit = on for this database")
    elif not off:
        yield ok(check, f"fsync on, synchronous_commit {facts.synchronous_commit}")


def _schema(facts: DatabaseFacts) -> Iterator[Finding]:
    check = "PostgreSQL: schema"
    if facts.migrations_changed:
        found = f"applied with other content than this version's: {_listed(facts.migrations_changed)}"
        yield failed(check, found, "this database belongs to another build; use that one, or another database")
    elif facts.migrations_missing:
        found = f"lacks {len(facts.migrations_missing)} migrations: {_listed(facts.migrations_missing)}"
        yield failed(check, found, "runengine-server migrate")
    elif facts.migrations_newer:
        found = f"newer than this version, by migration {facts.migrations_newer[-1]:04}"
        yield warning(check, found, "fine while engines are being replaced; then run the newer version everywhere")
    else:
        yield ok(check, "up to date")
    if facts.privileges_lacking:
        lacking = [f"{table} ({', '.join(names)})" for table, names in facts.privileges_lacking.items()]
        advice = "let the engine connect as the role that ran `runengine-server migrate`, or grant it these"
        yield failed("PostgreSQL: privileges", f"missing on {_listed(lacking)}", advice)
    elif not facts.migrations_missing:
        yield ok("PostgreSQL: privileges", "all that is needed")


def _room(facts: DatabaseFacts, settings: Settings) -> Iterator[Finding]:
    check = "PostgreSQL: connections"
    needed = settings.database_connections + _CONNECTIONS_BESIDES
    free = facts.connections_max - facts.connections
    found = f"{facts.connections} of {facts.connections_max} are in use; an engine takes up to {needed}"
    if free < needed:
        advice = "raise max_connections, lower RUNENGINE_DATABASE_CONNECTIONS, or put a pooler in front"
        yield warning(check, found, advice)
    else:
        yield ok(check, found)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{', '.join(names[:_NAMES_SHOWN])}{more}"

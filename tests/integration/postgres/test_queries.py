"""Every statement we ship, against a real server: it parses, its types fit, somebody uses it, every function runs."""

import ast
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

import runengine_server
from runengine_server.adapters.postgres.queries import all_queries

pytestmark = pytest.mark.anyio

PACKAGE = Path(runengine_server.__file__).parent


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_every_query_prepares(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """The server accepts each named statement: its tables, columns, functions and parameter types exist."""
    for name, statement in all_queries().items():
        try:
            await connection.prepare(statement)
        except asyncpg.PostgresError as error:
            pytest.fail(f"{name}: {error}")


def test_every_query_is_used() -> None:
    """Every named statement is named somewhere in Python, and no name is used that no file defines."""
    named: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
    called = {
        call.args[0].value
        for file in (PACKAGE / "adapters" / "postgres").rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "sql"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    assert set(all_queries()) - named == set()
    assert called - set(all_queries()) == set()


async def test_every_function_body_is_checked(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """PL/pgSQL looks at a body only when it runs: plpgsql_check reads all of it, else each function is called once."""
    if await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'plpgsql_check'"):
        await connection.execute("CREATE EXTENSION IF NOT EXISTS plpgsql_check")
        problems = await connection.fetch(
            "SELECT p.oid::regprocedure::text AS name, c.* FROM pg_proc AS p"
            " CROSS JOIN LATERAL plpgsql_check_function(p.oid, fatal_errors => false) AS c (message)"
            " WHERE p.pronamespace = 'public'::regnamespace AND p.prolang = (SELECT oid FROM pg_language"
            " WHERE lanname = 'plpgsql') AND c.message LIKE 'error%'"
        )
        assert problems == []
        return
    for function, arguments in await _functions(connection):
        transaction = connection.transaction()
        await transaction.start()
        try:
            values = ", ".join(_nothing(argument) for argument in arguments)
            await connection.fetch(f'SELECT * FROM "{function}"({values})')
        except asyncpg.PostgresError as error:
            pytest.fail(f"{function}: {error}")
        finally:
            await transaction.rollback()


async def test_what_is_indexed_is_named(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """CHECK constraints carry names a person gave them: an error message then says which invariant broke."""
    unnamed = await connection.fetch(
        "SELECT conrelid::regclass::text, conname FROM pg_constraint"
        " WHERE contype = 'c' AND connamespace = 'public'::regnamespace AND conname ~ '_check[0-9]*$'"
    )
    assert unnamed == []


async def _functions(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> list[tuple[str, list[str]]]:
    rows = await connection.fetch(
        "SELECT proname, coalesce(array_agg(format_type(t.type, NULL) ORDER BY t.n) FILTER (WHERE t.type IS NOT NULL),"
        " '{}') AS arguments"
        " FROM pg_proc LEFT JOIN LATERAL unnest(proargtypes) WITH ORDINALITY AS t (type, n) ON true"
        " WHERE pronamespace = 'public'::regnamespace"
        " AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql')"
        " GROUP BY pg_proc.oid, proname"
    )
    return [(row["proname"], list(row["arguments"])) for row in rows]


def _nothing(type_name: str) -> str:
    """An argument that makes a function do as little as possible: empty arrays, zero, false, now, nobody."""
    if type_name.endswith("[]"):
        return f"'{{}}'::{type_name}"
    if type_name in ("integer", "bigint", "smallint"):
        return f"0::{type_name}"
    plain = {
        "boolean": "false",
        "text": "''",
        "timestamp with time zone": "now()",
        "uuid": "gen_random_uuid()",
        "bytea": "NULL::bytea",
    }
    return plain[type_name]

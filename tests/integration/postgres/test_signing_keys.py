"""Keys of watch tokens: all engines have the same, however many ask at once, and two of them count."""

import asyncio

import asyncpg
import pytest

from runengine_server.adapters.postgres.database import open_database
from runengine_server.adapters.postgres.signing_keys import PERIOD_S, PostgresSigningKeys

pytestmark = pytest.mark.anyio


async def _age(url: str, seconds: float) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "UPDATE watch_keys SET created_at = created_at - $1 * interval '1 second'", float(seconds)
        )
    finally:
        await connection.close()


async def test_engines_that_start_together_agree_on_one_key(database_url: str) -> None:
    """The first key is made once, whoever asks."""
    async with open_database(database_url, connections_max=8) as database:
        answers = await asyncio.gather(*(PostgresSigningKeys(database).read() for _ in range(16)))
    assert len({tuple((key.number, key.secret) for key in answer) for answer in answers}) == 1
    assert [len(answer) for answer in answers] == [1] * 16


async def test_a_key_that_is_too_old_is_followed_by_one_new_one(database_url: str) -> None:
    """When the newest key's time is over, engines make one more together; the two newest count, older ones go."""
    async with open_database(database_url, connections_max=8) as database:
        keys = PostgresSigningKeys(database)
        [first] = await keys.read()
        await _age(database_url, PERIOD_S - 60)
        assert list(await keys.read()) == [first], "its time is not over"
        await _age(database_url, 61)
        answers = await asyncio.gather(*(keys.read() for _ in range(16)))
        assert len({tuple(key.number for key in answer) for answer in answers}) == 1
        second, kept = answers[0]
        assert kept == first
        assert second.secret != first.secret
        await _age(database_url, PERIOD_S + 1)
        third, kept = await keys.read()
        assert (kept, third.number > second.number) == (second, True)


async def test_deleting_the_keys_makes_a_new_one(database_url: str) -> None:
    """An operator ends all watch tokens by deleting the keys; the number of a key is never used again."""
    async with open_database(database_url, connections_max=2) as database:
        keys = PostgresSigningKeys(database)
        [first] = await keys.read()
        await database.fetch("DELETE FROM watch_keys")
        [second] = await keys.read()
    assert second.number > first.number
    assert second.secret != first.secret

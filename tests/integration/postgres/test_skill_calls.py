"""Which calls over HTTP the clean-up may forget."""

from uuid import uuid4

import pytest

from runengine_server.adapters.postgres.skill_calls import PostgresSkillCalls

from ...contract.queue_subject import postgres_subject

pytestmark = pytest.mark.anyio


async def test_a_call_of_an_unfinished_run_stays(database_url: str) -> None:
    """A result that nobody has fetched yet is kept while its run has something to do, however long that takes."""
    async with postgres_subject(database_url) as subject:
        assert subject.database is not None
        calls = PostgresSkillCalls(subject.database)
        run = await subject.create({0: []})
        call_id = uuid4()
        await calls.register(call_id, subject.ids[run], fencing_token=1, secret="s", kept_s=-1)
        assert await calls.sweep() == 0
        (lease,) = (await subject.tick()).leases
        assert await calls.sweep() == 0
        await subject.tick(subject.executed(lease))
        assert await calls.sweep() == 1
        assert await calls.read([call_id]) == []

"""What the table of skill calls must do, in memory and on PostgreSQL."""

from uuid import UUID, uuid4

import pytest

from runengine_server.adapters.memory.skill_calls import MemorySkillCalls
from runengine_server.adapters.postgres.skill_calls import PostgresSkillCalls
from runengine_server.domain.ids import RunId
from runengine_server.ports.skill_calls import OpenedCall, SkillCalls, Verdict

from .queue_subject import Subject

pytestmark = pytest.mark.anyio

RUN = RunId("550e8400-e29b-41d4-a716-446655440000")


@pytest.fixture
def calls(subject: Subject) -> SkillCalls:
    """An empty table."""
    return MemorySkillCalls() if subject.database is None else PostgresSkillCalls(subject.database)


async def register(calls: SkillCalls, call_id: UUID, token: int, *, kept_s: float = 60) -> OpenedCall | None:
    """An attempt with this token takes the call over."""
    return await calls.register(call_id, RUN, fencing_token=token, secret=f"secret-{token}", kept_s=kept_s)


async def answer(
    calls: SkillCalls, call_id: UUID, token: int, body: bytes = b"{}", *, secret: str = "secret-1", good: bool = True
) -> Verdict:
    """A runner ends the call."""
    return await calls.hear(call_id, secret, fencing_token=token, progress=None, answer=body, is_success=good)


async def test_the_first_answer_stays(calls: SkillCalls) -> None:
    """An answer is taken once: the same again is known, another one is refused, and so is any further sign of life."""
    call_id = uuid4()
    assert await register(calls, call_id, 1) == OpenedCall(secret="secret-1", answer=None)
    assert await answer(calls, call_id, 1, b"first") is Verdict.TAKEN
    assert await answer(calls, call_id, 1, b"first") is Verdict.REPEATED
    assert await answer(calls, call_id, 1, b"second") is Verdict.ENDED
    assert await calls.hear(call_id, "secret-1", fencing_token=1, progress=None, answer=None) is Verdict.ENDED
    assert [news.answer for news in await calls.read([call_id])] == [b"first"]


async def test_a_missed_success_meets_the_next_attempt(calls: SkillCalls) -> None:
    """Whoever takes the call over is given the success that nobody committed; a failure is forgotten."""
    won, lost = uuid4(), uuid4()
    for call_id, is_good in ((won, True), (lost, False)):
        await register(calls, call_id, 1)
        assert await answer(calls, call_id, 1, b"said", good=is_good) is Verdict.TAKEN
    assert await register(calls, won, 2) == OpenedCall(secret="secret-1", answer=b"said")
    assert await register(calls, lost, 2) == OpenedCall(secret="secret-1", answer=None)
    assert await answer(calls, lost, 2, b"better") is Verdict.TAKEN
    assert await register(calls, won, 3) == OpenedCall(secret="secret-1", answer=b"said")


async def test_late_answers_are_refused(calls: SkillCalls) -> None:
    """Only the token of the latest attempt counts, and no earlier attempt takes a call back."""
    call_id = uuid4()
    await register(calls, call_id, 2)
    assert await register(calls, call_id, 1) is None
    assert await answer(calls, call_id, 1, secret="secret-2") is Verdict.STALE
    assert await answer(calls, call_id, 3, secret="secret-2") is Verdict.STALE
    assert await answer(calls, call_id, 2, secret="secret-2") is Verdict.TAKEN


async def test_a_call_is_answered_with_its_own_secret(calls: SkillCalls) -> None:
    """Another secret, or a call that is not there, looks the same."""
    call_id, other = uuid4(), uuid4()
    await register(calls, call_id, 1)
    assert await answer(calls, call_id, 1, secret="guess") is Verdict.UNKNOWN
    assert await answer(calls, other, 1) is Verdict.UNKNOWN
    assert [news.answer for news in await calls.read([call_id, other])] == [None]


async def test_signs_of_life_are_kept(calls: SkillCalls) -> None:
    """A heartbeat says when it was heard and leaves the progress that was told before; a new attempt begins anew."""
    call_id = uuid4()
    await register(calls, call_id, 1)
    assert await calls.hear(call_id, "secret-1", fencing_token=1, progress=b"half", answer=None) is Verdict.TAKEN
    assert await calls.hear(call_id, "secret-1", fencing_token=1, progress=None, answer=None) is Verdict.TAKEN
    (news,) = await calls.read([call_id])
    assert (news.fencing_token, news.progress, news.answer) == (1, b"half", None)
    assert 0 <= news.silent_s < 5
    await register(calls, call_id, 2)
    (news,) = await calls.read([call_id])
    assert (news.fencing_token, news.progress) == (2, None)


async def test_released_calls_are_gone(calls: SkillCalls) -> None:
    """A call that ended otherwise goes, but not from under an attempt that has taken it over."""
    mine, taken_over = uuid4(), uuid4()
    await register(calls, mine, 1)
    await register(calls, taken_over, 2)
    await calls.release([(mine, 1), (taken_over, 1)])
    assert [news.call_id for news in await calls.read([mine, taken_over])] == [taken_over]
    assert await answer(calls, mine, 1) is Verdict.UNKNOWN


async def test_old_calls_are_swept(calls: SkillCalls) -> None:
    """What nobody can want any more goes; what is not old stays."""
    old, young = uuid4(), uuid4()
    await register(calls, old, 1, kept_s=-1)
    await register(calls, young, 1)
    assert await calls.sweep() == 1
    assert [news.call_id for news in await calls.read([old, young])] == [young]

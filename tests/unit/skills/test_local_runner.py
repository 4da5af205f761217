"""What is special about running skills in this process."""

import threading
from datetime import datetime
from typing import Any

import pytest

from runengine_client.skills import SkillContext
from runengine_server.adapters.skills.local_runner import LocalSkillRunner
from runengine_server.domain.ids import RunId, SkillId, StepId, Tenant
from runengine_server.ports.skill_runner import Failed, SkillCall, Succeeded

pytestmark = pytest.mark.anyio


def _call() -> SkillCall:
    return SkillCall(
        skill_id=SkillId("t.work"),
        idempotency_key="k",
        run_id=RunId("run"),
        step_id=StepId("step"),
        attempt=1,
        fencing_token=1,
        input_json=b"{}",
        input_hash="",
        workflow_name="w",
        tenant=Tenant("acme"),
        timeout_s=10.0,
    )


def _ignore(fraction: float, message: str, reported_at: datetime) -> None:
    return


@pytest.mark.parametrize("is_inline", [True, False])
async def test_plain_functions_run_where_they_were_told_to(is_inline: bool) -> None:
    """Inline functions run on the event loop's thread, others do not."""
    threads: list[int] = []

    def work(given: dict[str, Any], context: SkillContext) -> dict[str, Any]:
        threads.append(threading.get_ident())
        return {}

    runner = LocalSkillRunner({"t.work": work}, is_inline=is_inline)
    assert isinstance(await runner.execute(_call(), _ignore), Succeeded)
    assert (threads == [threading.get_ident()]) is is_inline
    runner.close()


async def test_publishing_without_a_folder_is_a_failure() -> None:
    """A runner without an artifact folder says so."""

    def work(given: dict[str, Any], context: SkillContext) -> dict[str, Any]:
        context.publish(b"", filename="a", media_type="text/plain")
        return {}

    outcome = await LocalSkillRunner({"t.work": work}, is_inline=True).execute(_call(), _ignore)
    assert isinstance(outcome, Failed) and outcome.failure.code == "ARTIFACTS_NOT_CONFIGURED"


async def test_skill_that_raises_a_timeout_of_its_own_has_failed() -> None:
    """A TimeoutError of the skill's own is SKILL_FAILED: the attempt's time is not over."""

    async def work(given: dict[str, Any], context: object) -> dict[str, Any]:
        raise TimeoutError

    outcome = await LocalSkillRunner({"t.work": work}).execute(_call(), _ignore)
    assert isinstance(outcome, Failed) and outcome.failure.code == "SKILL_FAILED"

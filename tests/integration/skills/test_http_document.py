"""The JSON of docs/http-skills.md is what engine and runners really say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse

from runengine_server.domain.ids import SkillId
from runengine_server.ports.skill_runner import Failed, Succeeded

from ...support.http_script import attempt_of, call_back, engine_for, run, says
from .conftest import CallFactory

pytestmark = pytest.mark.anyio

TEXT = (Path(__file__).parents[3] / "docs" / "http-skills.md").read_text()


def example(name: str) -> dict[str, Any]:
    """The block of JSON with this name."""
    (found,) = re.findall(rf"^```json {name}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    document: dict[str, Any] = json.loads(found)
    return document


def shape(value: object) -> object:
    """Names and types."""
    return {key: shape(member) for key, member in value.items()} if isinstance(value, dict) else type(value)


async def test_the_request(make_call: CallFactory) -> None:
    """A request has exactly the documented members, with their types."""
    documented = example("request")
    script = says(200, example("answer"))
    async with engine_for(script) as runner:
        assert isinstance(await run(runner, make_call(documented["input"])), Succeeded)
    assert shape(script.orders[0]) == shape(documented)


async def test_answers(make_call: CallFactory) -> None:
    """The documented answers and the list are understood to the last member."""
    script = says(200, example("answer"))
    script.listed = JSONResponse(example("list"))
    async with engine_for(script) as runner:
        success = await run(runner, make_call())
        info = runner.availability(SkillId("image.resize")).info
    assert isinstance(success, Succeeded)
    assert (success.skill_version, success.cache_version, success.worker_id) == ("2.1.0", "2", "gpu-3")
    assert [artifact.filename for artifact in success.artifacts] == ["thumbnail.png"]
    assert info is not None
    assert (info.version, info.cache_version, info.max_concurrency, info.default_timeout_s) == ("2.1.0", "2", 8, 60.0)
    assert (info.input_schema, info.output_schema) == ({"type": "object", "required": ["width"]}, {"type": "object"})
    async with engine_for(says(503, example("failure"))) as runner:
        failed = await run(runner, make_call())
    assert isinstance(failed, Failed)
    assert (failed.failure.code, failed.failure.retryable, failed.retry_after_s) == ("QUOTA_EXCEEDED", True, 30.0)
    assert failed.failure.details == {"left": 0}


@pytest.mark.parametrize("end", ["complete", "fail"])
async def test_callbacks(make_call: CallFactory, end: str) -> None:
    """The documented callbacks are taken, as documented."""
    script = says(202, example("accepted"))
    async with engine_for(script) as runner, attempt_of(runner, make_call(), script) as attempt:
        for kind in ("heartbeat", "progress", end):
            answer = await call_back(script.orders[0], kind, **example(kind))
            assert (answer.status_code, answer.json()) == (200, {"status": "taken"})
        outcome = await attempt.result()
    assert isinstance(outcome, Succeeded if end == "complete" else Failed)
    assert attempt.progress == [(0.5, "half of the frames")]
    assert outcome.worker_id == "gpu-3"

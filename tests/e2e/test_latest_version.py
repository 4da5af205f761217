"""What a name means is what was registered last, also for a server that has just started runs of it."""

import uuid

import pytest

from runengine_client import RunEngineClient
from runengine_client.errors import InvalidArgumentError, NotFoundError
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import WorkflowBuilder, expression

pytestmark = pytest.mark.anyio


def workflow(name: str, version: str, wanted: str) -> workflow_pb2.Workflow:
    """One step, started by a payload that must have the member `wanted`."""
    return (
        WorkflowBuilder(name, version=version, trigger_schema={"type": "object", "required": [wanted]})
        .step("only", skill="t.echo", input={"text": expression(f"trigger.{wanted}")})
        .build()
    )


async def test_a_version_counts_from_when_it_is_registered(client: RunEngineClient) -> None:
    """A run started after a registration is of that version; what the last one would have refused is judged by it."""
    name = f"latest-{uuid.uuid4().hex[:8]}"
    await client.register_workflow(workflow(name, "1.0.0", "old"))
    for _ in range(2):
        run = await (await client.start(name, {"old": "a"})).get()
        assert run.workflow_version == "1.0.0"
    await client.register_workflow(workflow(name, "1.1.0", "new"))
    assert (await (await client.start(name, {"new": "b"})).get()).workflow_version == "1.1.0"
    assert (await (await client.start(name, {"old": "c", "new": "d"})).get()).workflow_version == "1.1.0"
    await client.register_workflow(workflow(name, "1.2.0", "newest"))
    both = {"new": "e", "newest": "f"}
    assert (await (await client.start(name, both)).get()).workflow_version == "1.2.0"
    with pytest.raises(InvalidArgumentError, match="newest"):
        await client.start(name, {"new": "g"})
    assert (await (await client.start(name, {"old": "h"}, workflow_version="1.0.0")).get()).workflow_version == "1.0.0"


async def test_a_name_that_is_unknown_may_become_known(client: RunEngineClient) -> None:
    """A refusal is not remembered."""
    name = f"later-{uuid.uuid4().hex[:8]}"
    with pytest.raises(NotFoundError):
        await client.start(name, {})
    await client.register_workflow(workflow(name, "1.0.0", "x"))
    assert (await (await client.start(name, {"x": 1})).get()).workflow_version == "1.0.0"


async def test_a_repetition_is_answered_whatever_was_registered_since(client: RunEngineClient) -> None:
    """The same request id gets the first run, of the version of then."""
    name, request = f"again-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    await client.register_workflow(workflow(name, "1.0.0", "x"))
    first = await client.start(name, {"x": 1}, request_id=request)
    await client.register_workflow(workflow(name, "2.0.0", "y"))
    again = await client.start(name, {"x": 1}, request_id=request)
    assert again.id == first.id
    assert (await again.get()).workflow_version == "1.0.0"

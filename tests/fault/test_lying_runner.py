"""A runner that says absurd things harms its own step, never the engine."""

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import grpc.aio
import pytest

from runengine_client import RunEngineClient
from runengine_client.pb.runengine.v1 import skill_runner_pb2, skill_runner_pb2_grpc
from runengine_client.workflow import WorkflowBuilder, expression
from runengine_server.domain.states import RunStatus

from ..support.invariants import Acknowledged
from .fleet import Fleet

pytestmark = pytest.mark.anyio

_ACCEPTED = skill_runner_pb2.ExecuteAccepted(worker_id="liar", skill_version="1", cache_version="1")
_RESULT = skill_runner_pb2.ExecuteResult(output_json=b'{"ok":true}')
_ARTIFACT = skill_runner_pb2.ProducedArtifact(
    type="text/plain", uri="file:///x", content_hash="ab" * 32, size_bytes=1, filename="x"
)


def _changed(message, **fields):  # type: ignore[no-untyped-def]
    copy = type(message)()
    copy.CopyFrom(message)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


def _said(*parts: object) -> list[skill_runner_pb2.ExecuteResponse]:
    kinds = {
        skill_runner_pb2.ExecuteAccepted: "accepted",
        skill_runner_pb2.ExecuteResult: "result",
        skill_runner_pb2.ExecuteFailure: "failure",
        skill_runner_pb2.ProducedArtifact: "artifact",
    }
    return [skill_runner_pb2.ExecuteResponse(**{kinds[type(part)]: part}) for part in parts]  # type: ignore[index]


LIES = {
    "nothing at all": [],
    "NUL in a file name": _said(_ACCEPTED, _changed(_ARTIFACT, filename="a\0b"), _RESULT),
    "NUL in a media type": _said(_ACCEPTED, _changed(_ARTIFACT, type="text/\0"), _RESULT),
    "NUL in a uri": _said(_ACCEPTED, _changed(_ARTIFACT, uri="file:///\0"), _RESULT),
    "NUL in its cache version": _said(_changed(_ACCEPTED, cache_version="\0"), _RESULT),
    "NUL in its version": _said(_changed(_ACCEPTED, skill_version="1\0"), _ARTIFACT, _RESULT),
    "NUL in its name": _said(
        _changed(_ACCEPTED, worker_id="w\0"), skill_runner_pb2.ExecuteFailure(code="X", message="no")
    ),
    "NUL in an error": _said(_ACCEPTED, skill_runner_pb2.ExecuteFailure(code="BAD", message="a\0b")),
    "no JSON": _said(_ACCEPTED, _changed(_RESULT, output_json=b"\xff\xfe{")),
    "a number beyond JSON": _said(_ACCEPTED, _changed(_RESULT, output_json=b'{"n":1e999}')),
    "depth": _said(_ACCEPTED, _changed(_RESULT, output_json=b'{"a":' * 5000 + b"1" + b"}" * 5000)),
    "too much": _said(_ACCEPTED, _changed(_RESULT, output_json=b'{"a":"' + b"x" * (2 << 20) + b'"}')),
    "an impossible size": _said(_ACCEPTED, _changed(_ARTIFACT, size_bytes=2**63 - 1), _RESULT),
    "an endless retry": _said(
        _ACCEPTED,
        skill_runner_pb2.ExecuteFailure(code="X", message="later", retryable=False, retry_after={"seconds": 2**62}),
    ),
    "two results": _said(_ACCEPTED, _RESULT, _RESULT),
    "a long code": _said(_ACCEPTED, skill_runner_pb2.ExecuteFailure(code="X" * 100_000, message="y" * 1_000_000)),
}
HARMLESS = {"an impossible size"}


class _Liar(skill_runner_pb2_grpc.SkillRunnerServiceServicer):
    """Says what the step's input names; its catalogue is absurd too."""

    async def Execute(  # noqa: N802
        self, request: skill_runner_pb2.ExecuteRequest, context: object
    ) -> AsyncIterator[skill_runner_pb2.ExecuteResponse]:
        for message in LIES[json.loads(request.input_json)["lie"]]:
            yield message

    async def ListSkills(  # noqa: N802
        self, request: object, context: object
    ) -> skill_runner_pb2.ListSkillsResponse:
        absurd = skill_runner_pb2.Skill(
            skill_id="liar.speak", version="1", cache_version="1", default_timeout={"seconds": 10**11}
        )
        other = skill_runner_pb2.Skill(skill_id="liar.\0", version="\0", default_timeout={"seconds": 2**62})
        return skill_runner_pb2.ListSkillsResponse(skills=[absurd, other])


@pytest.fixture
async def liar() -> AsyncIterator[str]:
    """The address of a lying runner."""
    server = grpc.aio.server()
    skill_runner_pb2_grpc.add_SkillRunnerServiceServicer_to_server(_Liar(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_a_lying_runner_harms_only_its_step(fleet: Fleet, liar: str) -> None:
    """Every lie ends its own run, failed with a code; the engine goes on and completes others between them."""
    fleet.settings = replace(fleet.settings, skills=f"{fleet.settings.skills},liar.*=grpc://{liar}")
    engine = fleet.start()
    lies = WorkflowBuilder("lies", version="1.0.0").step(
        "s0", skill="liar.speak", input={"lie": expression("trigger.lie")}, max_attempts=2, backoff_ms=1
    )
    honest = WorkflowBuilder("honest", version="1.0.0").step("s0", skill="f.sleep", input={"ms": 1})
    async with engine.process.client() as client:
        for builder in (lies, honest):
            await client.register_workflow(builder.build())
        outcomes = await _run_all(fleet, client, LIES)
        assert engine.process.is_running
        handle = await client.start("honest", {})
        assert await fleet.watch(handle) is RunStatus.COMPLETED
    unexpected = {
        lie: outcome for lie, outcome in outcomes.items() if outcome[0] is not RunStatus.FAILED and lie not in HARMLESS
    }
    assert not unexpected
    internal = {lie for lie, (_, code) in outcomes.items() if code == "INTERNAL"}
    assert not internal, "the engine itself stumbled over these"
    assert "Traceback" not in engine.process.log
    await fleet.check(has_ledger=False)


async def _run_all(fleet: Fleet, client: RunEngineClient, lies: Iterable[str]) -> dict[str, tuple[RunStatus, str]]:
    outcomes = {}
    for lie in lies:
        handle = await client.start("lies", {"lie": lie})
        fleet.acknowledged.append(Acknowledged(run_id=handle.id))
        status = await fleet.watch(handle)
        error = (await handle.get()).error
        outcomes[lie] = (status, error.code if error else "")
    return outcomes

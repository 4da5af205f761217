"""Connect and gRPC-Web calls that answer once: admission, errors, limits and encodings are those of gRPC."""

import asyncio
import base64
import json

import pytest

from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_server.domain import errors
from runengine_server.rpc.access import METHOD_ACCESS, Public

from ...support.connect_calls import CONTENT_TYPES, CallEnd, connect_end, envelope, read_stream
from .conftest import RUN_ID
from .connect import ENGINE, ORIGIN, ConnectCaller, connect_caller

pytestmark = pytest.mark.anyio

GRPC_WEB = ["grpc-web", "grpc-web-text"]


@pytest.fixture
async def caller(served) -> ConnectCaller:
    return await connect_caller(served)


async def test_every_method_is_served(caller):
    """Each method of the access table answers here, too, and lets nobody in without a token."""
    methods = [name for name, access in METHOD_ACCESS.items() if not isinstance(access, Public)]
    for method in methods:
        if method != f"{ENGINE}/WatchRun":
            refused = await caller.refusal(method, token=None)
            assert (method, refused.code, refused.reason) == (method, "unauthenticated", "TOKEN_MISSING")


async def test_an_answer_in_json_and_in_protobuf(caller):
    """The answer comes in the encoding of the request."""
    assert (await caller.unary(f"{ENGINE}/GetRun", {"runId": RUN_ID}))[1]["run"]["workflowName"] == "campaign.build.v1"
    answer = await caller.http.post(
        f"{ENGINE}/GetRun",
        headers={"authorization": "Bearer all", "content-type": "application/proto"},
        content=pb.GetRunRequest(run_id=RUN_ID).SerializeToString(),
    )
    assert answer.headers["content-type"] == "application/proto"
    assert pb.GetRunResponse.FromString(answer.content).run.id == RUN_ID


@pytest.mark.parametrize("protocol", GRPC_WEB)
async def test_grpc_web(caller, served, protocol):
    """A gRPC-Web call is answered with a message and trailers, a refused one with trailers."""
    headers = {"authorization": "Bearer all", "content-type": CONTENT_TYPES[protocol]}
    body = envelope(protocol, pb.GetRunRequest(run_id=RUN_ID).SerializeToString())
    async with caller.http.stream("POST", f"{ENGINE}/GetRun", headers=headers, content=body) as answer:
        assert answer.headers["content-type"] == CONTENT_TYPES[protocol]
        message, end = [each async for each in read_stream(protocol, answer)]
    assert pb.GetRunResponse.FromString(message).run.id == RUN_ID
    assert end == CallEnd(code="ok")
    served.services.error = errors.NotFoundError("RUN_NOT_FOUND", "there is no run 'ü'", metadata={"runId": "ü"})
    async with caller.http.stream("POST", f"{ENGINE}/GetRun", headers=headers, content=body) as answer:
        (end,) = [each async for each in read_stream(protocol, answer)]
    assert end == CallEnd(
        code="not_found", message="there is no run 'ü'", reason="RUN_NOT_FOUND", metadata={"runId": "ü"}
    )


async def test_methods_without_side_effects_take_get(caller, served):
    """A page may read by GET, which caches and retries know to be harmless; nothing else may be done so."""
    query = {"encoding": "json", "message": json.dumps({"runId": RUN_ID})}
    answer = await caller.http.get(f"{ENGINE}/GetRun", params=query, headers={"authorization": "Bearer all"})
    assert answer.json()["run"]["id"] == RUN_ID
    refused = await caller.http.get(f"{ENGINE}/Trigger", params=query, headers={"authorization": "Bearer all"})
    assert refused.status_code == 405
    assert [name for name, _, _ in served.services.calls] == ["get_run"]


async def test_a_refusal_has_code_reason_and_details(caller, served):
    """What a use case refuses arrives as gRPC tells it: code, message, ErrorInfo and what applies."""
    served.services.error = errors.ExhaustedError("QUEUE_FULL", "come back", retry_after_s=2.5)
    status, body = await caller.unary(f"{ENGINE}/Trigger", {"workflowName": "a"})
    assert (status, body["code"], body["message"]) == (429, "resource_exhausted", "come back")
    kinds = {each["type"] for each in body["details"]}
    assert kinds == {"google.rpc.ErrorInfo", "google.rpc.QuotaFailure", "google.rpc.RetryInfo"}
    assert connect_end(body).reason == "QUEUE_FULL"


async def test_a_defect_is_told_by_its_id(caller, served, caplog):
    """What nobody foresaw is INTERNAL with an id that the log knows, and says nothing of what happened."""
    served.services.error = KeyError("secret")
    refused = await caller.refusal(f"{ENGINE}/GetRun", {"runId": RUN_ID})
    assert (refused.code, refused.reason) == ("internal", "INTERNAL")
    assert "secret" not in refused.message
    assert any(refused.metadata["errorId"] in record.getMessage() for record in caplog.records)


async def test_scopes(caller, served):
    """A token without the scope is refused before the use case hears of it."""
    refused = await caller.refusal(f"{ENGINE}/Trigger", {"workflowName": "a"}, token="read")
    assert (refused.code, refused.reason, refused.metadata) == (
        "permission_denied", "SCOPE_REQUIRED", {"scope": "run:write"}
    )  # fmt: skip
    assert served.services.calls == []


async def test_several_credentials(caller):
    """A call with two authorization headers is refused: there is no telling which one counts."""
    headers = [("authorization", "Bearer all"), ("authorization", "Bearer read"), ("content-type", "application/json")]
    answer = await caller.http.post(f"{ENGINE}/GetRun", headers=headers, content=b"{}")
    assert connect_end(answer.json()).reason == "TOKEN_INVALID"


@pytest.mark.parametrize("body", [b"{", b"zz", b"[]", b'{"runId":{}}', b"[" * 100_000])
async def test_nothing_of_a_stranger_is_parsed(caller, body):
    """A body that cannot be read is refused for the missing token, and for itself only to those who may call."""
    assert (await caller.refusal(f"{ENGINE}/GetRun", body, token=None)).reason == "TOKEN_MISSING"
    refused = await caller.refusal(f"{ENGINE}/GetRun", body)
    assert refused.reason in ("VALIDATION_FAILED", "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"runId":"a","runId":"b"}', "more than once"),
        (b'{"runId":7}', "runId"),
        (b'{"runId":"a\\u0000"}', "U+0000"),
        (b'{"runId":"\\ud800"}', "surrogate"),
    ],
)
async def test_json_that_cannot_be_meant(caller, body, words):
    """JSON that two readers could understand differently, or that is not the request's, is told by what is wrong."""
    refused = await caller.refusal(f"{ENGINE}/GetRun", body)
    assert (refused.code, refused.reason) == ("invalid_argument", "VALIDATION_FAILED")
    assert words in refused.message


async def test_fields_of_a_later_version(caller):
    """A client that knows more fields than the server is answered, as with protobuf."""
    assert (await caller.unary(f"{ENGINE}/GetRun", {"runId": RUN_ID, "notYetKnown": 1}))[0] == 200


async def test_length_of_a_request(caller):
    """A body longer than the limit is refused, whether its length was declared or not."""
    refused = await caller.refusal(f"{ENGINE}/GetRun", b" " * (3 * 1024 * 1024 + 1))
    assert (refused.code, refused.reason) == ("resource_exhausted", "PAYLOAD_TOO_LARGE")
    headers = {"authorization": "Bearer all", "content-type": CONTENT_TYPES["grpc-web-text"]}
    body = base64.b64encode(b" " * (4 * 1024 * 1024))
    async with caller.http.stream("POST", f"{ENGINE}/GetRun", headers=headers, content=body) as answer:
        (end,) = [each async for each in read_stream("grpc-web-text", answer)]
    assert end.reason == "PAYLOAD_TOO_LARGE"


async def test_a_deadline_ends_the_call(caller, served):
    """A call that takes longer than its client waits ends by itself, and so does what it was doing."""
    ended = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    served.services.before_answer = forever
    status, body = await caller.unary(f"{ENGINE}/GetRun", {"runId": RUN_ID}, connect_timeout_ms="50")
    assert (status, body["code"]) == (504, "deadline_exceeded")
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_server_that_stops_takes_no_calls(caller, served):
    """While the server drains calls are refused with DRAINING, and those being answered are answered."""
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def gate() -> None:
        entered.set()
        await go_on.wait()

    served.services.before_answer = gate
    async with asyncio.TaskGroup() as tasks:
        answered = tasks.create_task(caller.unary(f"{ENGINE}/GetRun", {"runId": RUN_ID}))
        await entered.wait()
        drained = tasks.create_task(served.server.drain(5))
        await asyncio.sleep(0)
        refused = await caller.refusal(f"{ENGINE}/GetRun", {"runId": RUN_ID})
        assert (refused.code, refused.reason) == ("unavailable", "DRAINING")
        assert not drained.done()
        go_on.set()
    assert answered.result()[0] == 200


async def test_warnings_travel_as_trailers(caller, served):
    """What registered but deserves a look is told in trailing metadata, as over gRPC."""
    served.services.warnings = ("look at ü",)
    workflow = {"name": "a", "version": "1", "steps": [{"stepId": "s", "skillId": "k"}]}
    answer = await caller.http.post(
        "/runengine.v1.WorkflowRegistryService/RegisterWorkflow",
        headers={"authorization": "Bearer all", "origin": ORIGIN},
        json={"workflow": workflow},
    )
    assert answer.status_code == 200, answer.text
    assert "trailer-runengine-warning-bin" in answer.headers["access-control-expose-headers"]
    value = answer.headers["trailer-runengine-warning-bin"]
    assert base64.b64decode(value + "=" * (-len(value) % 4)).decode() == "look at ü"


@pytest.mark.parametrize("origin", [ORIGIN, "https://elsewhere.example"])
async def test_pages_of_which_origins_may_call(caller, origin):
    """A browser is told that a page of a known origin may call with its headers, and one of another may not."""
    asked = "authorization,connect-protocol-version,connect-timeout-ms,content-type,x-grpc-web,x-user-agent"
    headers = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": asked}
    answer = await caller.http.options(f"{ENGINE}/Trigger", headers=headers)
    if origin == ORIGIN:
        assert answer.headers["access-control-allow-origin"] == origin
        assert set(asked.split(",")) <= set(answer.headers["access-control-allow-headers"].replace(" ", "").split(","))
    else:
        assert "access-control-allow-origin" not in answer.headers


async def test_what_is_no_call_of_a_browser(caller):
    """gRPC itself, media types nobody knows and headers that are no text are refused without a word in the log."""
    headers = {"authorization": "Bearer all"}
    grpc = await caller.http.post(f"{ENGINE}/GetRun", headers={**headers, "content-type": "application/grpc"})
    assert (grpc.status_code, grpc.json()["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    xml = await caller.http.post(f"{ENGINE}/GetRun", headers={**headers, "content-type": "application/xml"})
    assert xml.status_code == 415
    odd = await caller.http.post(f"{ENGINE}/GetRun", headers={**headers, "x-odd": b"\xff"}, json={})
    assert odd.status_code == 400

"""Who may call what."""

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_server.domain.caller import Scope
from runengine_server.rpc import access
from runengine_server.rpc.access import METHOD_ACCESS, Public, UnlistedMethodError

from .refusals import refused

pytestmark = pytest.mark.anyio


async def test_the_caller_reaches_the_use_case(served):
    """The use case gets the caller of the token, and nothing of another call's."""
    await (await served.engine("all")).GetRun(pb.GetRunRequest(run_id="x"))
    await (await served.engine("other")).GetRun(pb.GetRunRequest(run_id="x"))
    assert [caller.principal for _, caller, _ in served.services.calls] == ["ann", "eve"]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "TOKEN_MISSING"),
        ((("authorization", "Basic YWxsOmFsbA=="),), "TOKEN_MISSING"),
        ((("authorization", "Bearer "),), "TOKEN_MISSING"),
        ((("authorization", "Bearer nobody"),), "TOKEN_INVALID"),
        ((("authorization", "Bearer all"), ("authorization", "Bearer all")), "TOKEN_INVALID"),
    ],
)
async def test_no_or_wrong_tokens_are_refused(served, metadata, reason):
    """A call without exactly one valid bearer token is UNAUTHENTICATED and reaches no use case."""
    error, details = await refused((await served.engine(None)).GetRun(pb.GetRunRequest(run_id="x"), metadata=metadata))
    assert error.code() is StatusCode.UNAUTHENTICATED
    assert details["ErrorInfo"].reason == reason
    assert served.services.calls == []


async def test_the_scheme_ignores_case(served):
    """`bearer` is `Bearer` (RFC 7235)."""
    engine = await served.engine(None)
    answer = await engine.GetRun(pb.GetRunRequest(run_id="x"), metadata=(("authorization", "bearer all"),))
    assert answer.run.workflow_name == "campaign.build.v1"


async def test_every_method_of_the_contract_needs_its_scope(served):
    """A token without the method's scope is PERMISSION_DENIED with the scope named, for every method."""
    channel = await served.channel("read")
    for method, needed in METHOD_ACCESS.items():
        if needed in (Public.PUBLIC, Scope.RUN_READ):
            continue
        error, details = await refused(channel.unary_unary(method)(b""))
        assert error.code() is StatusCode.PERMISSION_DENIED, method
        assert details["ErrorInfo"].metadata["scope"] == needed.value


async def test_a_strangers_request_is_not_parsed(served):
    """Authentication comes before parsing: garbage without a token is UNAUTHENTICATED, with one it is invalid."""
    for token, code in ((None, StatusCode.UNAUTHENTICATED), ("all", StatusCode.INVALID_ARGUMENT)):
        call = (await served.channel(token)).unary_unary("/runengine.v1.RunEngine/GetRun")
        error, _ = await refused(call(b"\xff\xff\xff"))
        assert error.code() is code


async def test_an_unlisted_method_stops_the_start(serve, monkeypatch):
    """A registered method without declared access keeps the server from starting."""
    table = {method: needed for method, needed in METHOD_ACCESS.items() if not method.endswith("/Cancel")}
    monkeypatch.setattr(access, "METHOD_ACCESS", table)
    with pytest.raises(UnlistedMethodError, match=r"/runengine\.v1\.RunEngine/Cancel"):
        await serve()


async def test_the_table_lists_what_is_served_and_nothing_else(serve):
    """Every registered method is in the table and every table row is registered."""
    served = await serve(has_reflection=True)
    assert served.server.methods == METHOD_ACCESS.keys()


async def test_health_is_public_and_follows_the_server(served):
    """Health answers without a token: NOT_SERVING, SERVING when told, NOT_SERVING for good once draining."""
    health = health_pb2_grpc.HealthStub(await served.channel())
    request = health_pb2.HealthCheckRequest(service="runengine.v1.RunEngine")
    assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    await served.server.set_serving(is_serving=True)
    assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_is_served_only_when_set(serve):
    """With the setting reflection lists the services without a token; without it there is no such method."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    served = await serve(has_reflection=True)
    stub = reflection_pb2_grpc.ServerReflectionStub(await served.channel())
    call = stub.ServerReflectionInfo()
    await call.write(request)
    answer = await call.read()
    await call.done_writing()
    assert {service.name for service in answer.list_services_response.service} >= {
        "runengine.v1.RunEngine",
        "runengine.v1.WorkflowRegistryService",
        "runengine.v1.CacheAdminService",
    }
    stub = reflection_pb2_grpc.ServerReflectionStub(await (await serve()).channel())
    call = stub.ServerReflectionInfo()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
        await call
    assert caught.value.code() is StatusCode.UNIMPLEMENTED

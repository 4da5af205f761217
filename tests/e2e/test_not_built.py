"""What the contract names and this server does not do yet is refused by name, never ignored."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from grpc import StatusCode

from runengine_client.pb.runengine.v1 import cache_pb2, run_engine_pb2, workflow_pb2
from runengine_server.rpc.not_built import UNBUILT_FIELDS, UNBUILT_RPCS

from ..support.engine_process import TOKENS, EngineProcess
from ..support.refusals import refusal

_FILES = (run_engine_pb2, workflow_pb2, cache_pb2)
_METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
_FIELDS = [(method, field.path) for method, fields in UNBUILT_FIELDS.items() for field in fields]


@pytest.mark.parametrize("method", sorted(UNBUILT_RPCS))
def test_rpcs(engine: EngineProcess, method: str) -> None:
    """An RPC that is not built is NOT_YET_IMPLEMENTED by name, and needs a token like any other."""
    name = method.removeprefix("/runengine.v1.").replace("/", ".")
    request = message_factory.GetMessageClass(_METHODS[method].input_type)()
    refused = _refused(engine, method, request, TOKENS.admin)
    refused.expect(StatusCode.UNIMPLEMENTED, "NOT_YET_IMPLEMENTED", name, "not implemented yet")
    _refused(engine, method, request, None).expect(StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")


@pytest.mark.parametrize(("method", "path"), _FIELDS, ids=[f"{method}-{path}" for method, path in _FIELDS])
def test_fields(engine: EngineProcess, method: str, path: str) -> None:
    """A set field that is not built is NOT_YET_IMPLEMENTED by name, before anything else is looked at."""
    request = message_factory.GetMessageClass(_METHODS[method].input_type)()
    _set(request, path)
    refused = _refused(engine, method, request, TOKENS.admin)
    refused.expect(StatusCode.UNIMPLEMENTED, "NOT_YET_IMPLEMENTED", f"{request.DESCRIPTOR.name}.{path}")


def _refused(engine: EngineProcess, method: str, request: Message, token: str | None) -> Any:
    with grpc.insecure_channel(engine.target) as channel:
        call: Callable[..., Any] = channel.unary_unary(method, request_serializer=type(request).SerializeToString)
        return refusal(call, request, token)


def _set(message: Message, path: str) -> None:
    """Set the field at the path, through new elements of lists, to anything that is not the default."""
    head, _, rest = path.partition(".")
    field = message.DESCRIPTOR.fields_by_name[head]
    current = getattr(message, head)
    if rest:
        _set(current.add() if field.is_repeated else current, rest)
        return
    samples = {FieldDescriptor.CPPTYPE_STRING: "x", FieldDescriptor.CPPTYPE_BOOL: True}
    sample = samples.get(field.cpp_type, 1)
    if field.is_repeated:
        current.append(sample)
    else:
        setattr(message, head, sample)

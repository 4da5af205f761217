"""The list of what is not built and the servicers agree."""

import inspect

from runengine_client.pb.runengine.v1 import (
    cache_pb2,
    cache_pb2_grpc,
    run_engine_pb2,
    run_engine_pb2_grpc,
    workflow_pb2,
    workflow_pb2_grpc,
)
from runengine_server.rpc.access import METHOD_ACCESS
from runengine_server.rpc.not_built import UNBUILT_FIELDS, UNBUILT_RPCS
from runengine_server.rpc.servicers.cache_admin import CacheAdminServicer
from runengine_server.rpc.servicers.run_engine import RunEngineServicer
from runengine_server.rpc.servicers.workflow_registry import WorkflowRegistryServicer

SERVICES = [
    (run_engine_pb2, "RunEngine", RunEngineServicer, run_engine_pb2_grpc.RunEngineServicer),
    (
        workflow_pb2,
        "WorkflowRegistryService",
        WorkflowRegistryServicer,
        workflow_pb2_grpc.WorkflowRegistryServiceServicer,
    ),
    (cache_pb2, "CacheAdminService", CacheAdminServicer, cache_pb2_grpc.CacheAdminServiceServicer),
]


def test_an_rpc_is_either_built_or_listed() -> None:
    """Each RPC of the contract has a servicer method or stands in the list, never both and never neither."""
    for module, name, servicer, base in SERVICES:
        for method in module.DESCRIPTOR.services_by_name[name].methods:
            is_built = getattr(servicer, method.name) is not getattr(base, method.name)
            assert is_built != (f"/{method.containing_service.full_name}/{method.name}" in UNBUILT_RPCS), method.name


def test_built_methods_are_what_the_guard_can_call() -> None:
    """Unary methods are coroutine functions, streaming ones asynchronous generators."""
    for module, name, servicer, base in SERVICES:
        for method in module.DESCRIPTOR.services_by_name[name].methods:
            function = getattr(servicer, method.name)
            if function is not getattr(base, method.name):
                check = inspect.isasyncgenfunction if method.server_streaming else inspect.iscoroutinefunction
                assert check(function), method.name


def test_the_list_names_what_exists() -> None:
    """Every RPC and field path of the list exists in the contract, so that a renamed one cannot go unnoticed."""
    assert METHOD_ACCESS.keys() >= UNBUILT_RPCS
    requests = {
        f"/{method.containing_service.full_name}/{method.name}": method.input_type
        for module, name, _, _ in SERVICES
        for method in module.DESCRIPTOR.services_by_name[name].methods
    }
    for method, fields in UNBUILT_FIELDS.items():
        for field in fields:
            descriptor = requests[method]
            for part in field.path.split("."):
                found = descriptor.fields_by_name[part]
                descriptor = found.message_type
            assert field.values is None or set(found.enum_type.values_by_number) >= field.values

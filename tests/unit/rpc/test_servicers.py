"""The servicers serve the whole contract."""

import inspect

from runengine_client.pb.runengine.v1 import (
    cache_pb2,
    cache_pb2_grpc,
    run_engine_pb2,
    run_engine_pb2_grpc,
    workflow_pb2,
    workflow_pb2_grpc,
)
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


def test_every_rpc_is_built() -> None:
    """Each RPC has a method of its own: a coroutine function, or for a stream one that returns an iterator."""
    for module, name, servicer, base in SERVICES:
        for method in module.DESCRIPTOR.services_by_name[name].methods:
            function = getattr(servicer, method.name)
            assert function is not getattr(base, method.name), method.name
            assert inspect.iscoroutinefunction(function) is not method.server_streaming, method.name

"""The WorkflowRegistryService."""

# ruff: noqa: N802 - the contract names the methods

from typing import Any

import anyio.to_thread
import grpc

from runengine_client.pb.runengine.v1 import workflow_pb2 as pb
from runengine_client.pb.runengine.v1 import workflow_pb2_grpc
from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.rpc.caller import current_caller
from runengine_server.rpc.conversion.workflow import read_workflow, workflow_to_proto
from runengine_server.rpc.off_loop import read_off_loop
from runengine_server.service.messages import WorkflowPage
from runengine_server.service.services import Services

Context = grpc.aio.ServicerContext[Any, Any]

WARNING_KEY = "runengine-warning-bin"
"""Trailing metadata: one UTF-8 sentence each for what registered but deserves a look."""

_WARNINGS_MAX = 10
_WARNING_BYTES_MAX = 300  # together well below the 8 KiB at which clients refuse headers


class WorkflowRegistryServicer(workflow_pb2_grpc.WorkflowRegistryServiceServicer):
    """Workflow definitions over gRPC."""

    def __init__(self, services: Services) -> None:
        """Serve these use cases."""
        self._services = services

    async def RegisterWorkflow(
        self, request: pb.RegisterWorkflowRequest, context: Context
    ) -> pb.RegisterWorkflowResponse:
        """Register a workflow version, or check it; warnings travel as trailing metadata."""
        if not request.HasField("workflow"):
            missing = FieldViolation(field="workflow", description="is required: send the definition to register")
            raise InvalidError("VALIDATION_FAILED", "the request carries no workflow", violations=[missing])
        workflow = await read_off_loop(read_workflow, request.workflow)
        answer = await self._services.register_workflow(current_caller(), workflow, validate_only=request.validate_only)
        context.set_trailing_metadata(
            tuple((WARNING_KEY, warning.encode()[:_WARNING_BYTES_MAX]) for warning in answer.warnings[:_WARNINGS_MAX])
        )
        registered = await anyio.to_thread.run_sync(workflow_to_proto, answer.workflow)
        return pb.RegisterWorkflowResponse(workflow=registered, created=answer.is_created)

    async def GetWorkflow(self, request: pb.GetWorkflowRequest, context: Context) -> pb.GetWorkflowResponse:
        """Read one workflow version."""
        workflow = await self._services.get_workflow(current_caller(), request.name, request.version)
        return pb.GetWorkflowResponse(workflow=await anyio.to_thread.run_sync(workflow_to_proto, workflow))

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, context: Context) -> pb.ListWorkflowsResponse:
        """List workflows by name."""
        page = await self._services.list_workflows(
            current_caller(),
            page_size=request.page_size,
            page_token=request.page_token,
            all_versions=request.all_versions,
        )
        return await anyio.to_thread.run_sync(_workflows_response, page)


def _workflows_response(page: WorkflowPage) -> pb.ListWorkflowsResponse:
    return pb.ListWorkflowsResponse(
        workflows=[workflow_to_proto(workflow) for workflow in page.workflows], next_page_token=page.next_page_token
    )

"""Registers a workflow from the document that workflow files hold, JSON or YAML."""

from collections.abc import Mapping
from typing import cast

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Endpoint

from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import WorkflowDocumentError, read_workflow
from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.http.endpoint import endpoint
from runengine_server.http.requests import MediaTypeError, bearer_token, check_query, read_body
from runengine_server.http.routes import BASE_PATH, workflow_document
from runengine_server.rpc.admission import Admission
from runengine_server.rpc.methods import Method

METHOD = "/runengine.v1.WorkflowRegistryService/RegisterWorkflow"
PATH = "/workflows"
MEDIA_TYPES = ("application/json", "application/yaml")
VALIDATE_ONLY = "validateOnly"

_CREATED, _OK = 201, 200


def workflow_endpoints(methods: Mapping[str, Method], admission: Admission, body_bytes_max: int) -> list[Endpoint]:
    """`POST /workflows`."""
    method = methods[METHOD]

    async def behave(request: Request) -> Response:
        await admission.admit(METHOD, bearer_token(request))
        check_query(request, flags=(VALIDATE_ONLY,))
        is_dry = request.query_params.get(VALIDATE_ONLY) == "true"
        body = await read_body(request, body_bytes_max)
        workflow = await anyio.to_thread.run_sync(_read, body, _is_json(request))
        answer = await method.answer(workflow_pb2.RegisterWorkflowRequest(workflow=workflow, validate_only=is_dry))
        return await anyio.to_thread.run_sync(
            _response, cast("workflow_pb2.RegisterWorkflowResponse", answer.message), list(answer.warnings)
        )

    return [Endpoint(BASE_PATH + PATH, endpoint(admission, behave), methods=["POST"])]


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", MEDIA_TYPES[0]).partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise MediaTypeError(f"the body is {media_type}; send a workflow as {' or '.join(MEDIA_TYPES)}")
    return media_type == MEDIA_TYPES[0]


def _read(body: bytes, is_json: bool) -> workflow_pb2.Workflow:
    try:
        return read_workflow(body.decode(), is_json=is_json)
    except UnicodeDecodeError as error:
        raise InvalidError("WORKFLOW_INVALID", f"the workflow is not UTF-8 text: {error}") from None
    except WorkflowDocumentError as error:
        violations = [FieldViolation(field=each.field, description=each.description) for each in error.violations]
        raise InvalidError("WORKFLOW_INVALID", error.message, violations=violations) from None


def _response(response: workflow_pb2.RegisterWorkflowResponse, warnings: list[str]) -> Response:
    answer = {"workflow": workflow_document(response.workflow), "created": response.created}
    content = orjson.dumps(answer | ({"warnings": warnings} if warnings else {}))
    return Response(content, status_code=_CREATED if response.created else _OK, media_type="application/json")

"""The OpenAPI document of the REST surface, made of the table of routes, the messages and the contract's comments."""

import json
from collections.abc import Mapping
from functools import cache
from importlib import metadata, resources
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Endpoint

from runengine_client.pb.runengine.v1 import run_pb2
from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.http import artifact_content, events, workflow_upload
from runengine_server.http.errors import HTTP_STATUS
from runengine_server.http.json_reading import enum_words
from runengine_server.http.json_writing import json_name
from runengine_server.http.rest import INCLUDE_PLAN, PATH_PARAMETER
from runengine_server.http.routes import BASE_PATH, ROUTES, Route, cancelled, run_alone, started
from runengine_server.rpc.methods import Method

PATH: Final = f"{BASE_PATH}/openapi.json"

_STRINGS: Final[Mapping[str, JsonObject]] = {
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "integer", "format": "int64"},
}
_SCALARS: Final[Mapping[int, JsonObject]] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: {"type": "integer", "format": "int64"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_RUN_ANSWER: Final[JsonObject] = {
    "type": "object",
    "required": ["message"],
    "properties": {
        "runId": {"type": "string", "format": "uuid"},
        "status": {"type": "string"},
        "message": {"type": "string", "description": "What happened, in a sentence."},
        "plan": {"$ref": "#/components/schemas/RebuildPlan"},
    },
    "additionalProperties": False,
}
_ERROR: Final[JsonObject] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "status"],
            "properties": {
                "code": {
                    "type": "string",
                    "description": "The reason, as over gRPC: VALIDATION_FAILED, …",
                },
                "message": {"type": "string"},
                "status": {"type": "integer"},
                "details": {"type": "object", "additionalProperties": True},
            },
        }
    },
}
_WATCHED: Final = " A watch token of the run opens it, too: `?access_token=`."

_WORKFLOW: Final[JsonObject] = {
    "type": "object",
    "required": ["workflowName", "version", "steps"],
    "properties": {
        "workflowName": {"type": "string"},
        "version": {"type": "string", "description": "SemVer."},
        "description": {"type": "string"},
        "steps": {"type": "array", "items": {"type": "object", "additionalProperties": True}},
        "changeRequests": {"type": "object", "additionalProperties": True},
    },
    "additionalProperties": True,
    "description": "The document of a workflow file; answers also have `digest` and `createdAt`.",
}


def openapi_endpoint(methods: Mapping[str, Method]) -> Endpoint:
    """`GET /api/v1/openapi.json`; public, as the contract is."""
    document = json.dumps(openapi_document(methods)).encode()

    async def answer(request: Request) -> Response:
        return Response(document, media_type="application/json")

    return Endpoint(PATH, answer, methods=["GET"])


def openapi_document(methods: Mapping[str, Method]) -> JsonObject:
    """The document, OpenAPI 3.1."""
    schemas: JsonObject = {"Error": _ERROR, "RunAnswer": _RUN_ANSWER, "WorkflowDocument": _WORKFLOW}
    paths: dict[str, JsonObject] = {}
    for route in ROUTES:
        operation = _operation(route, methods[route.method], schemas)
        paths.setdefault(BASE_PATH + route.path, {})[route.verb.lower()] = operation
    _add_schema(methods["/runengine.v1.RunEngine/TriggerUpdate"].response_class.DESCRIPTOR, schemas)
    paths[BASE_PATH + events.PATH] = {"get": _events_operation()}
    paths[BASE_PATH + workflow_upload.PATH]["post"] = _upload_operation()
    artifact = _add_schema(run_pb2.Artifact.DESCRIPTOR, schemas)
    paths[BASE_PATH + artifact_content.PATH] = {"get": _artifact_operation(artifact)}
    paths[BASE_PATH + artifact_content.CONTENT_PATH] = {"get": _content_operation()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "RunEngine",
            "version": metadata.version("runengine"),
            "description": "Runs workflows of slow, costly steps and rebuilds only what a change request affects.",
        },
        "paths": dict(paths),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


def _operation(route: Route, method: Method, schemas: JsonObject) -> JsonObject:
    request: Any = method.request_class.DESCRIPTOR
    in_path = PATH_PARAMETER.findall(route.path)
    by_name = {field.json_name: field for field in request.fields}
    parameters: list[JsonValue] = [_parameter(by_name[name], name, "path", schemas) for name in in_path]
    operation: JsonObject = {
        "operationId": method.name.rpartition("/")[2],
        "summary": route.summary,
        "description": _comment(method.name.strip("/").replace("/", ".")) + (_WATCHED if route.is_for_watchers else ""),
        "parameters": parameters,
        "responses": _responses(_answer_schema(route, method, schemas), str(route.status)),
    }
    hidden = {*in_path, *route.parameters.values()}
    if route.verb == "GET":
        parameters += [
            _parameter(by_name[member], name, "query", schemas) | {"required": True}
            for name, member in route.parameters.items()
        ]
        parameters += [
            _parameter(field, json_name(field), "query", schemas)
            for field in request.fields
            if field.json_name not in hidden
        ]
    else:
        operation["requestBody"] = _body(route, request, hidden, schemas)
        if route.is_starting:
            operation["responses"] |= {"200": _answer("#/components/schemas/RunAnswer")}  # type: ignore[operator]
    return operation


def _body(route: Route, request: Any, hidden: set[str], schemas: JsonObject) -> JsonObject:
    properties: JsonObject = {
        json_name(field): _field_schema(field, schemas) for field in request.fields if field.json_name not in hidden
    }
    if route.is_starting:
        properties[INCLUDE_PLAN] = {"type": "boolean", "description": "Answer with the plan, too."}
    schema: JsonObject = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"required": False, "content": {"application/json": {"schema": schema}}}


def _answer_schema(route: Route, method: Method, schemas: JsonObject) -> str:
    response: Any = method.response_class.DESCRIPTOR
    if route.shape in (started, cancelled):
        return "#/components/schemas/RunAnswer"
    if route.shape is run_alone:
        return _add_schema(response.fields_by_name["run"].message_type, schemas)
    if route.method.startswith("/runengine.v1.WorkflowRegistryService"):
        if "workflow" in response.fields_by_name:
            return "#/components/schemas/WorkflowDocument"
        schemas["WorkflowDocuments"] = {
            "type": "object",
            "required": ["workflows"],
            "properties": {
                "workflows": {"type": "array", "items": {"$ref": "#/components/schemas/WorkflowDocument"}},
                "nextPageToken": {"type": "string"},
            },
        }
        return "#/components/schemas/WorkflowDocuments"
    return _add_schema(response, schemas)


def _events_operation() -> JsonObject:
    return {
        "operationId": "WatchRun",
        "summary": "Follow a run as server-sent events",
        "description": (
            "`id` is the event's sequence; reconnecting with `Last-Event-ID` goes on behind it. Without it the first "
            "event is a `snapshot`. `bookmark` says that all is well, `end` that the run has ended, `error` why the "
            "stream does."
        )
        + _WATCHED,
        "parameters": [
            _text_parameter("runId", "path"),
            _text_parameter("Last-Event-ID", "header"),
            {"name": "afterSequence", "in": "query", "schema": {"type": "integer", "minimum": 0}},
            {"name": "includeProgress", "in": "query", "schema": {"type": "boolean"}},
            {"name": "heartbeatIntervalMs", "in": "query", "schema": {"type": "integer"}},
            {"name": "stepIds", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
        ],
        "responses": _failures()
        | {
            "200": {"description": "The stream.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            "204": {"description": "The reader has seen the end."},
        },
    }


def _artifact_operation(schema: str) -> JsonObject:
    return {
        "operationId": "GetArtifact",
        "summary": "Read one artifact, as the run that made it lists it",
        "description": _WATCHED.strip(),
        "parameters": [_text_parameter("artifactId", "path")],
        "responses": _responses(schema, "200"),
    }


def _content_operation() -> JsonObject:
    content: JsonObject = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "operationId": "GetArtifactContent",
        "summary": "Open an artifact's bytes; HEAD, too",
        "description": "In a sandbox without scripts; one range at a time." + _WATCHED,
        "parameters": [
            _text_parameter("artifactId", "path"),
            *(_text_parameter(name, "header") for name in ("Range", "If-Range", "If-None-Match")),
        ],
        "responses": _failures()
        | {
            "200": {"description": "All of them; the ETag is their SHA-256.", "content": content},
            "206": {"description": "Those asked for.", "content": content},
            "302": {"description": "They are on another server."},
            "304": {"description": "The reader has them."},
        },
    }


def _upload_operation() -> JsonObject:
    schema: JsonObject = {"$ref": "#/components/schemas/WorkflowDocument"}
    answer: JsonObject = {
        "type": "object",
        "required": ["workflow", "created"],
        "properties": {
            "workflow": schema,
            "created": {"type": "boolean"},
            "warnings": {"type": "array", "items": {"type": "string"}},
        },
    }
    content: JsonObject = {"application/json": {"schema": answer}}
    return {
        "operationId": "RegisterWorkflow",
        "summary": "Check a workflow and make it available",
        "parameters": [{"name": workflow_upload.VALIDATE_ONLY, "in": "query", "schema": {"type": "boolean"}}],
        "requestBody": {
            "required": True,
            "content": {media_type: {"schema": schema} for media_type in workflow_upload.MEDIA_TYPES},
        },
        "responses": _failures()
        | {
            "200": {"description": "Known already, or only checked.", "content": content},
            "201": {"description": "Registered.", "content": content},
        },
    }


def _parameter(field: Any, name: str, place: str, schemas: JsonObject) -> JsonObject:
    schema = _field_schema(field, schemas)
    description = schema.pop("description", "")
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        schema = {"type": "array", "items": {"type": "string", "pattern": "^[^=]+=.*$"}}
        description = f"{description} Written key=value, once for each."
    parameter: JsonObject = {"name": name, "in": place, "description": description, "schema": schema}
    return parameter | ({"required": True} if place == "path" else {})


def _text_parameter(name: str, place: str) -> JsonObject:
    parameter: JsonObject = {"name": name, "in": place, "schema": {"type": "string"}}
    return parameter | ({"required": True} if place == "path" else {})


def _add_schema(descriptor: Any, schemas: JsonObject) -> str:
    """Where the message's schema is, which is in `schemas` afterwards."""
    name = str(descriptor.name)
    if name not in schemas:
        schema: JsonObject = {"type": "object", "description": _comment(descriptor.full_name)}
        schemas[name] = schema  # now, as messages may hold themselves
        schema["properties"] = {json_name(field): _field_schema(field, schemas) for field in descriptor.fields}
    return f"#/components/schemas/{name}"


def _field_schema(field: Any, schemas: JsonObject) -> JsonObject:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        schema: JsonObject = {"type": "object", "additionalProperties": {"type": "string"}}
    else:
        schema = _single_schema(field, schemas)
        if field.is_repeated:
            schema = {"type": "array", "items": schema}
    return schema | {"description": _comment(field.full_name)}


def _single_schema(field: Any, schemas: JsonObject) -> JsonObject:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return {"type": "string", "enum": list(enum_words(field))}
    if field.message_type is None:
        return dict(_SCALARS[field.type])
    known = _STRINGS.get(field.message_type.full_name)
    return dict(known) if known is not None else {"$ref": _add_schema(field.message_type, schemas)}


def _responses(schema: str, status: str) -> JsonObject:
    return _failures() | {status: _answer(schema)}


def _answer(schema: str) -> JsonObject:
    return {"description": "Done.", "content": {"application/json": {"schema": {"$ref": schema}}}}


def _failures() -> JsonObject:
    refused: JsonObject = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    statuses = sorted({*HTTP_STATUS.values(), 415})
    return {str(status): {"description": _MEANING[status], "content": refused} for status in statuses}


_MEANING: Final = {
    400: "The request cannot work as it is.",
    401: "The token is missing or not known.",
    403: "The token lacks the scope.",
    404: "There is no such thing for this tenant, or not any more.",
    409: "It conflicts with what is there.",
    415: "The body is of another media type.",
    416: "The sequence lies in the future, or the range behind the end.",
    429: "Too much, or too large.",
    500: "The server failed; its log knows the error's id.",
    501: "This server cannot do it.",
    503: "Not now: the server stops, or its database is away.",
}


@cache
def _comments() -> Mapping[str, str]:
    found: Mapping[str, str] = json.loads(resources.files("runengine_client.pb").joinpath("comments.json").read_text())
    return found


def _comment(full_name: str) -> str:
    return _comments().get(full_name, "")

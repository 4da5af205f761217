"""Serves the table of routes: request to message, the method, message to answer."""

import re
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import orjson
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Endpoint

from runengine_server.domain.errors import InvalidError
from runengine_server.domain.json_value import JsonObject
from runengine_server.http.endpoint import Behaviour, endpoint
from runengine_server.http.field_names import named_as_written, written_names
from runengine_server.http.json_reading import read_message, read_query
from runengine_server.http.requests import bearer_token, check_query, read_body, read_json_object
from runengine_server.http.routes import BASE_PATH, ROUTES, Route
from runengine_server.http.watch_tokens import RunReaders, parameters_of
from runengine_server.rpc.admission import Admission
from runengine_server.rpc.conversion.problems import Problems
from runengine_server.rpc.methods import Method

PATH_PARAMETER = re.compile(r"{(\w+)}")
INCLUDE_PLAN = "includePlan"

_ON_LOOP_BYTES_MAX = 32 * 1024


def rest_endpoints(
    methods: Mapping[str, Method], admission: Admission, readers: RunReaders, body_bytes_max: int
) -> list[Endpoint]:
    """The endpoints of every route of the table."""
    return [
        Endpoint(
            BASE_PATH + route.path,
            endpoint(admission, _behaviour(route, methods[route.method], admission, readers, body_bytes_max)),
            methods=[route.verb],
        )
        for route in ROUTES
    ]


def _behaviour(
    route: Route, method: Method, admission: Admission, readers: RunReaders, body_bytes_max: int
) -> Behaviour:
    in_path = frozenset(PATH_PARAMETER.findall(route.path))
    names = written_names(method.descriptor.input_type, route.parameters)

    async def behave(request: Request) -> Response:
        if route.is_for_watchers:
            await readers.admit(request, method.name)
        else:
            await admission.admit(method.name, bearer_token(request))
        message = method.request_class()
        problems = Problems()
        wants_plan = False
        if route.verb == "GET":
            _read_query(route, request, message, problems, in_path)
        else:
            check_query(request, flags=(INCLUDE_PLAN,) if route.is_starting else ())
            document, length = await _read_document(request, body_bytes_max)
            wants_plan = route.is_starting and _wants_plan(document, request, problems)
            if length <= _ON_LOOP_BYTES_MAX:
                read_message(document, message, problems, without=in_path)
            else:
                await anyio.to_thread.run_sync(lambda: read_message(document, message, problems, without=in_path))
        problems.raise_if_any()
        _set_path(message, request.path_params)
        with named_as_written(names):
            answer = await method.answer(message)
        return await _response(route, answer.message, wants_plan=wants_plan)

    return behave


def _read_query(route: Route, request: Request, message: Message, problems: Problems, in_path: frozenset[str]) -> None:
    hidden = in_path | frozenset(route.parameters.values())
    sent = parameters_of(request) if route.is_for_watchers else request.query_params.multi_items()
    own = [(key, value) for key, value in sent if key not in route.parameters]
    read_query(own, message, problems, without=hidden)
    for name, member in route.parameters.items():
        value = request.query_params.get(name, "")
        if not value:
            problems.add_json_path(name, "is required")
        _set_path(message, {member: value})


async def _read_document(request: Request, bytes_max: int) -> tuple[JsonObject, int]:
    body = await read_body(request, bytes_max)
    if len(body) <= _ON_LOOP_BYTES_MAX:
        return read_json_object(body, request.headers), len(body)
    return await anyio.to_thread.run_sync(read_json_object, body, request.headers), len(body)


def _wants_plan(document: JsonObject, request: Request, problems: Problems) -> bool:
    """Whether the answer is to carry the plan: asked for in the body or in the query."""
    wanted: Any = document.pop(INCLUDE_PLAN, request.query_params.get(INCLUDE_PLAN) == "true")
    if not isinstance(wanted, bool):
        problems.add_json_path(INCLUDE_PLAN, "must be true or false")
    return wanted is True or document.get("validateOnly") is True


def _set_path(message: Message, parameters: Mapping[str, str]) -> None:
    by_json_name = {field.json_name: field.name for field in message.DESCRIPTOR.fields}
    for name, value in parameters.items():
        try:
            setattr(message, by_json_name[name], value)
        except ValueError:  # a lone surrogate: no text that protobuf, or anybody, knows
            raise InvalidError("VALIDATION_FAILED", f"{name} is not UTF-8 text") from None


async def _response(route: Route, message: Any, *, wants_plan: bool) -> Response:
    if route.is_starting and not wants_plan:
        message.ClearField("plan")
    is_dry = route.is_starting and not message.run_id
    if message.ByteSize() <= _ON_LOOP_BYTES_MAX:
        content = orjson.dumps(route.shape(message))
    else:
        content = await anyio.to_thread.run_sync(lambda: orjson.dumps(route.shape(message)))
    return Response(content, status_code=200 if is_dry else route.status, media_type="application/json")

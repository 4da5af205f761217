"""`GET /runs/{id}/events`: a watch as server-sent events, resumed by `Last-Event-ID`."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import anyio
import anyio.to_thread
import orjson
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Endpoint
from starlette.types import Message, Receive, Scope, Send

from runengine_client.pb.runengine.v1 import event_pb2, run_engine_pb2
from runengine_server.domain.caller import Caller
from runengine_server.domain.errors import RunEngineError
from runengine_server.domain.json_value import JsonObject
from runengine_server.http.disconnect import cancel_when_gone
from runengine_server.http.errors import error_body, error_response
from runengine_server.http.json_reading import read_query
from runengine_server.http.json_writing import write_message
from runengine_server.http.routes import BASE_PATH
from runengine_server.http.watch_tokens import RunReaders, parameters_of
from runengine_server.rpc.admission import Admission
from runengine_server.rpc.conversion.event import encode_watch_message, event_to_proto
from runengine_server.rpc.conversion.problems import Problems
from runengine_server.rpc.conversion.request import read_watch
from runengine_server.rpc.errors import internal_error
from runengine_server.rpc.watches import WatchRegistry
from runengine_server.service.messages import (
    ToldEvent,
    WatchEnd,
    WatchEvents,
    WatchMessage,
    WatchRequest,
    WatchSnapshot,
)
from runengine_server.service.services import Services

METHOD = "/runengine.v1.RunEngine/WatchRun"
PATH = "/runs/{runId}/events"
LAST_EVENT_ID = "last-event-id"

_SEEN_END = "-end"
"""What the id of the last event ends with: a page that asks again after it is told to stop asking."""

_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}


class RunEvents:
    """ASGI application of the event stream."""

    def __init__(self, services: Services, watches: WatchRegistry, admission: Admission, readers: RunReaders) -> None:
        """Follow runs with these use cases, among these watches."""
        self._services = services
        self._watches = watches
        self._admission = admission
        self._readers = readers

    def endpoint(self) -> Endpoint:
        """Where it is served."""
        return Endpoint(BASE_PATH + PATH, self, methods=["GET"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: with a stream, or with why there is none."""
        request = Request(scope, receive)
        is_begun = False

        async def note(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            with self._admission.call():
                caller = await self._readers.admit(request, METHOD)
                if request.headers.get(LAST_EVENT_ID, "").endswith(_SEEN_END):
                    await Response(status_code=204)(scope, receive, note)  # EventSource asks no more after this
                    return
                await self._stream(caller, _read_request(request), receive, note)
        except Exception as error:
            refusal = _told(error)
            if not is_begun:  # else the connection closes, and the reader resumes
                await error_response(refusal)(scope, receive, send)

    async def _stream(self, caller: Caller, wanted: WatchRequest, receive: Receive, send: Send) -> None:
        """Send what happens until the run ended, the watch must end, or nobody reads.

        Raises:
            RunEngineError: before anything was sent.
        """
        with anyio.CancelScope() as scope_of_stream:

            async def abort(error: RunEngineError) -> None:
                scope_of_stream.cancel()  # the connection closes without an end; the reader resumes

            source = self._services.watch_run(caller, wanted)
            watch = self._watches.follow(
                caller, wanted.after_sequence, source, abort=abort, told=lambda message: message
            )
            async with aclosing(watch):
                first = await anext(watch)  # what is refused is refused before anything was sent
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(cancel_when_gone, receive, scope_of_stream)
                    await send(_start())
                    await _send_all(first, watch, send)
                    await send(_body(b"", more=False))
                    tasks.cancel_scope.cancel()


async def _send_all(first: WatchMessage, others: AsyncIterator[WatchMessage], send: Send) -> None:
    message: WatchMessage | None = first
    try:
        while message is not None:
            await send(_body(await _encoded(message)))
            message = await anext(others, None)
    except Exception as error:  # without an id, so that the reader goes on behind the last event
        await send(_body(_event("error", error_body(_told(error)))))


def _told(error: Exception) -> RunEngineError:
    """What the reader is told of an error; a defect is logged."""
    return error if isinstance(error, RunEngineError) else internal_error(error, METHOD)


def _start() -> Message:
    headers = Headers(_HEADERS).raw
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _body(content: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


def _read_request(request: Request) -> WatchRequest:
    message = run_engine_pb2.WatchRunRequest(run_id=request.path_params["runId"])
    problems = Problems()
    read_query(parameters_of(request), message, problems, without=["runId"])
    last = request.headers.get(LAST_EVENT_ID, "").strip()
    if last.isdecimal() and len(last) < len(str(2**63)):
        message.after_sequence = int(last)
    elif last:
        problems.add_json_path("Last-Event-ID", "must be the id of an event of this stream, a whole number")
    problems.raise_if_any()
    return read_watch(message)


async def _encoded(message: WatchMessage) -> bytes:
    """The message's server-sent events, made once for all who watch the run."""
    if isinstance(message.kind, WatchSnapshot):  # thousands of steps
        return await anyio.to_thread.run_sync(message.encoded, _encode)
    return message.encoded(_encode)


def _encode(message: WatchMessage) -> bytes:
    if isinstance(message.kind, WatchEvents):
        return b"".join([told.encoded(_encode_told) for told in message.kind.told])
    response = run_engine_pb2.WatchRunResponse.FromString(message.encoded(encode_watch_message))
    name = response.WhichOneof("kind") or ""
    is_partial = isinstance(message.kind, WatchSnapshot) and message.kind.more
    suffix = _SEEN_END if isinstance(message.kind, WatchEnd) else ""
    return _event(
        name, write_message(getattr(response, name)), event_id="" if is_partial else f"{message.sequence}{suffix}"
    )


def _encode_told(told: ToldEvent) -> bytes:
    event: event_pb2.RunEvent = event_to_proto(told.event)
    document = write_message(event)
    return _event(str(document["type"]), document, event_id=str(event.sequence) if event.sequence else "")


def _event(name: str, document: JsonObject, *, event_id: str = "") -> bytes:
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {name}\ndata: ".encode() + orjson.dumps(document) + b"\n\n"

"""Messages as Connect and gRPC-Web carry them: two encodings, and large ones read and written beside the event loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
from connectrpc.codec import Codec
from google.protobuf.json_format import MessageToJson, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message

from runengine_client.pb.runengine.v1 import run_engine_pb2
from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.http.requests import read_json_object
from runengine_server.rpc.conversion.event import encode_watch_message
from runengine_server.rpc.guard import unreadable_error
from runengine_server.service.messages import WatchMessage, WatchSnapshot

PROTO = "proto"
JSON = "json"

_ON_LOOP_BYTES_MAX = 32 * 1024
_JSON_TYPE = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A request nobody has looked into yet."""

    encoding: str
    data: bytes


class AsItIs(Codec[bytes, Encoded]):
    """Keeps connectrpc from parsing and serialising, which take long for large messages and would hold up everybody."""

    def __init__(self, encoding: str) -> None:
        """Stand for the encoding."""
        self._encoding = encoding

    def name(self) -> str:
        """What follows `application/` and its like in a content type."""
        return self._encoding

    def encode(self, message: bytes) -> bytes:
        """The response, which is bytes already."""
        return message

    def decode(self, data: bytes | bytearray, message_class: type[Encoded]) -> Encoded:
        """The request, for `read_request`."""
        return message_class(self._encoding, bytes(data))


async def read_request(request: Encoded, request_class: type[Message]) -> Any:
    """The message of a request.

    Raises:
        InvalidError: VALIDATION_FAILED.
        ExhaustedError: PAYLOAD_TOO_LARGE: JSON that is too deep or has too many values.
    """
    if len(request.data) <= _ON_LOOP_BYTES_MAX:
        return _read(request, request_class)
    return await anyio.to_thread.run_sync(_read, request, request_class)


async def write_response(encoding: str, response: Message) -> bytes:
    """The response in the encoding of its request."""
    if encoding == JSON and response.ByteSize() > _ON_LOOP_BYTES_MAX:
        return await anyio.to_thread.run_sync(_to_json, response)
    return _to_json(response) if encoding == JSON else response.SerializeToString()


async def write_watch_message(encoding: str, message: WatchMessage) -> bytes:
    """A message of a watch, encoded once for all who watch the run."""
    encode: Callable[[WatchMessage], bytes] = _watch_json if encoding == JSON else encode_watch_message
    if isinstance(message.kind, WatchSnapshot):  # thousands of steps
        return await anyio.to_thread.run_sync(message.encoded, encode)
    return message.encoded(encode)


def _read(request: Encoded, request_class: type[Message]) -> Message:
    message = request_class()
    if request.encoding == JSON:
        document = read_json_object(request.data, _JSON_TYPE)
        try:
            ParseDict(document, message, ignore_unknown_fields=True)
        except (ParseError, ValueError) as error:
            violation = FieldViolation(field="body", description=str(error))
            raise InvalidError(
                "VALIDATION_FAILED", f"the body is not a {message.DESCRIPTOR.name}: {error}", violations=[violation]
            ) from None
    else:
        try:
            message.ParseFromString(request.data)
        except DecodeError:
            raise unreadable_error() from None
    return message


def _to_json(message: Message) -> bytes:
    return MessageToJson(message, indent=None, ensure_ascii=False).encode()


def _watch_json(message: WatchMessage) -> bytes:
    return _to_json(run_engine_pb2.WatchRunResponse.FromString(message.encoded(encode_watch_message)))

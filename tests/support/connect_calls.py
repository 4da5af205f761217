"""Connect and gRPC-Web by hand: what goes over the wire, for tests that look at it."""

import base64
import json
import re
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx
from google.rpc import error_details_pb2, status_pb2

CONTENT_TYPES = {
    "connect": "application/connect+proto",
    "connect-json": "application/connect+json",
    "grpc-web": "application/grpc-web+proto",
    "grpc-web-text": "application/grpc-web-text+proto",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnd:
    """How a call ended: `ok`, or a code such as `not_found` with the reason and the metadata of its ErrorInfo."""

    code: str
    message: str = ""
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


def envelope(protocol: str, message: bytes) -> bytes:
    """The body of a request for a stream, or of any gRPC-Web request."""
    framed = struct.pack(">BI", 0, len(message)) + message
    return base64.b64encode(framed) if protocol == "grpc-web-text" else framed


async def read_stream(protocol: str, response: httpx.Response) -> AsyncIterator[bytes | CallEnd]:
    """The messages of an answer, each when it is there, then how it ended; nothing then for one that was cut off."""
    buffer = text = b""
    async for chunk in response.aiter_raw():
        if protocol == "grpc-web-text":
            text += chunk
            whole = len(text) - len(text) % 4
            # Each chunk of the server is padded for itself; what lies between two paddings decodes by itself.
            chunk = b"".join(base64.b64decode(part) for part in re.findall(rb"[^=]+=*", text[:whole]))
            text = text[whole:]
        buffer += chunk
        while len(buffer) >= 5:
            flags, length = struct.unpack(">BI", buffer[:5])
            if len(buffer) < 5 + length:
                break
            data, buffer = buffer[5 : 5 + length], buffer[5 + length :]
            if protocol.startswith("connect") and flags & 0b10:
                yield connect_end(json.loads(data).get("error"))
            elif flags & 0x80:
                yield trailers_end(dict(_lines(data.decode())))
            else:
                yield data


def connect_end(error: dict[str, Any] | None) -> CallEnd:
    """What a Connect error says; None is success."""
    if error is None:
        return CallEnd(code="ok")
    details = [(each["type"], _unpadded(each["value"])) for each in error.get("details", ())]
    return _end(error["code"], error.get("message", ""), details)


def trailers_end(trailers: dict[str, str]) -> CallEnd:
    """What the trailers of gRPC-Web say."""
    code, message = int(trailers["grpc-status"]), unquote(trailers.get("grpc-message", ""))
    if code == 0:
        return CallEnd(code="ok")
    status = status_pb2.Status.FromString(_unpadded(trailers.get("grpc-status-details-bin", "")))
    details = [(each.TypeName(), each.value) for each in status.details]
    return _end(_CODES[code], message, details)


def _end(code: str, message: str, details: list[tuple[str, bytes]]) -> CallEnd:
    for name, value in details:
        if name == "google.rpc.ErrorInfo":
            info = error_details_pb2.ErrorInfo.FromString(value)
            assert info.domain == "runengine.v1"
            return CallEnd(code=code, message=message, reason=info.reason, metadata=dict(info.metadata))
    return CallEnd(code=code, message=message)


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\r\n"):
        if line:
            name, _, value = line.partition(":")
            yield name.strip(), value.strip()


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


_CODES = [
    *("ok", "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists"),
    *("permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented"),
    *("internal", "unavailable", "data_loss", "unauthenticated"),
]

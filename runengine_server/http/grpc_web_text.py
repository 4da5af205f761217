"""gRPC-Web's text form, in which browsers without streams of bytes read: the binary form in base64."""

import binascii
from base64 import b64decode, b64encode

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runengine_server.domain.errors import ExhaustedError, InvalidError

_TEXT = "application/grpc-web-text"
_BINARY = "application/grpc-web"


class GrpcWebText:
    """Turns calls in the text form into calls in the binary one, and their answers back; hands on all others."""

    def __init__(self, app: ASGIApp, body_bytes_max: int) -> None:
        """Stand before the application, which takes bodies up to this length."""
        self._app = app
        self._text_bytes_max = body_bytes_max * 4 // 3 + 4

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = MutableHeaders(scope=scope)
        content_type = headers.get("content-type", "")
        if not content_type.startswith(_TEXT):
            await self._app(scope, receive, send)
            return
        headers["content-type"] = content_type.replace(_TEXT, _BINARY, 1)
        is_read = False

        async def receive_binary() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return await self._body(receive)

        async def send_text(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(raw=message["headers"])
                answered["content-type"] = answered.get("content-type", "").replace(_BINARY, _TEXT, 1)
            elif message["type"] == "http.response.body":
                message = {**message, "body": b64encode(message.get("body", b""))}
            await send(message)

        await self._app({**scope, "headers": headers.raw}, receive_binary, send_text)

    async def _body(self, receive: Receive) -> Message:
        """The whole body, decoded, or that the client is gone.

        Raises:
            ExhaustedError: PAYLOAD_TOO_LARGE.
            InvalidError: VALIDATION_FAILED: not base64.
        """
        text = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            text += message.get("body", b"")
            if len(text) > self._text_bytes_max:
                raise ExhaustedError("PAYLOAD_TOO_LARGE", f"the body is longer than {self._text_bytes_max} bytes")
            if not message.get("more_body", False):
                break
        try:
            return {"type": "http.request", "body": b64decode(text, validate=True), "more_body": False}
        except binascii.Error as error:
            raise InvalidError("VALIDATION_FAILED", f"the body is not base64: {error}") from None

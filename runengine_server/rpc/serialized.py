"""Replies that are bytes already, so that one can be sent to many."""

from collections.abc import Callable

from google.protobuf.message import Message


class Serialized:
    """A reply of a stream; it gives its bytes away, as gRPC keeps the last reply until the next, perhaps for hours."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        """Hold the message until it is taken."""
        self._data = data

    def take(self) -> bytes:
        """The message, once."""
        data, self._data = self._data, b""
        return data


def serializer_of(serialize: Callable[[Message], bytes]) -> Callable[[Message | Serialized], bytes]:
    """Serialises replies of either kind."""

    def serialize_reply(reply: Message | Serialized) -> bytes:
        return reply.take() if isinstance(reply, Serialized) else serialize(reply)

    return serialize_reply

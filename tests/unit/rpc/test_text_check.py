"""U+0000 is found in every text field of a request, and nowhere else."""

from collections.abc import Iterator

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import Message

from runengine_client.pb.runengine.v1 import cache_pb2, run_engine_pb2, workflow_pb2
from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_server.domain.errors import InvalidError
from runengine_server.rpc.text_check import may_hold_nul, refuse_nul

FILES: list[FileDescriptor] = [run_engine_pb2.DESCRIPTOR, workflow_pb2.DESCRIPTOR, cache_pb2.DESCRIPTOR]
REQUESTS: list[Descriptor] = [
    method.input_type for file in FILES for service in file.services_by_name.values() for method in service.methods
]


def text_fields(message: Descriptor) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The way to each text field of a message, map values included, a Struct's not."""
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (field,)
        elif field.message_type is not None and field.message_type.full_name != "google.protobuf.Struct":
            if field.message_type.GetOptions().map_entry:
                yield (field,)
            else:
                yield from ((field, *rest) for rest in text_fields(field.message_type))


FIELDS = [(request, way) for request in REQUESTS for way in text_fields(request)]


def with_text(message: Message, way: tuple[FieldDescriptor, ...], text: str) -> str:
    """Put the text at the end of the way, in a second element of lists; returns its JSON path."""
    field, *rest = way
    value = getattr(message, field.name)
    if rest:
        if not field.is_repeated:
            return f"{field.json_name}.{with_text(value, tuple(rest), text)}"
        value.add()
        return f"{field.json_name}[1].{with_text(value.add(), tuple(rest), text)}"
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        value["some_key"] = text
        return f'{field.json_name}["some_key"]'
    if field.is_repeated:
        value.extend(["fine", text])
        return f"{field.json_name}[1]"
    setattr(message, field.name, text)
    return field.json_name


@pytest.mark.parametrize(("request_type", "way"), FIELDS, ids=[f"{r.name}-{w[-1].full_name}" for r, w in FIELDS])
def test_every_text_field_is_looked_at(request_type: Descriptor, way: tuple[FieldDescriptor, ...]) -> None:
    """U+0000 in any text field of any request is VALIDATION_FAILED with the field's JSON path; other text passes."""
    request = message_factory.GetMessageClass(request_type)()
    with_text(request, way, "tab\t, ü and 😀")
    refuse_nul(request)
    request.Clear()
    path = with_text(request, way, "a\0b")
    assert may_hold_nul(request.SerializeToString())
    with pytest.raises(InvalidError) as caught:
        refuse_nul(request)
    assert caught.value.reason == "VALIDATION_FAILED"
    assert [violation.field for violation in caught.value.violations] == [path]
    assert caught.value.message.startswith(f"the request is not valid: {path}: contains U+0000")


def test_several_at_once_and_keys() -> None:
    """Every place is named, a key's as an escape."""
    request = pb.TriggerRequest(workflow_name="\0", labels={"k\0": "v", "k/a_b": "\0"})
    with pytest.raises(InvalidError) as caught:
        refuse_nul(request)
    fields = [violation.field for violation in caught.value.violations]
    assert sorted(fields) == ['labels["k/a_b"]', r'labels["k\u0000"]', "workflowName"]


def test_payloads_may_have_it() -> None:
    """JSON allows U+0000 in a text, so a Struct may have it, as key and as value."""
    request = pb.TriggerRequest(workflow_name="w")
    request.trigger_payload.update({"a\0": "b\0", "c": [{"d": "\0"}]})
    refuse_nul(request)


def test_a_message_without_a_zero_byte_needs_no_look() -> None:
    """Most requests have none, and are not walked through."""
    request = pb.TriggerRequest(workflow_name="w", request_id="q", labels={"a": "b"}, priority=3)
    request.trigger_payload.update({"a": "b"})
    assert not may_hold_nul(request.SerializeToString())

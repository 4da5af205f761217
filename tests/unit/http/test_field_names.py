"""A refusal's fields have the names that were written, and whatever else it says stays."""

from collections.abc import Iterator
from typing import Any

import pytest

from runengine_client.pb.runengine.v1 import cache_pb2, run_engine_pb2, workflow_pb2
from runengine_server.domain.errors import FieldViolation, InvalidError, NotFoundError
from runengine_server.http.field_names import named_as_written, written_names
from runengine_server.http.json_writing import json_name
from runengine_server.http.routes import ROUTES

SERVICES = {
    service.full_name: service
    for module in (run_engine_pb2, cache_pb2, workflow_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
}
NAMES = written_names(run_engine_pb2.TriggerRequest.DESCRIPTOR, {})


def test_only_what_was_refused_is_renamed() -> None:
    """A caller's own text that has a field's name in it stays as it is."""
    label = FieldViolation(field='labels["my deadline"]', description="too long")
    deadline = FieldViolation(field="deadline", description="too late; the deadline counts")
    said = 'the request is not valid: labels["my deadline"]: too long; deadline: too late; the deadline counts'
    with pytest.raises(InvalidError) as caught, named_as_written(NAMES):
        raise InvalidError("VALIDATION_FAILED", said, violations=[label, deadline], metadata={"a": "b"})
    error = caught.value
    assert error.message == said.replace("; deadline:", "; deadlineMs:")
    assert [each.field for each in error.violations] == ['labels["my deadline"]', "deadlineMs"]
    assert (error.reason, error.metadata) == ("VALIDATION_FAILED", {"a": "b"})


@pytest.mark.parametrize(
    "error", [InvalidError("WORKFLOW_INVALID", "deadline: no"), NotFoundError("RUN_NOT_FOUND", "")]
)
def test_other_refusals_pass(error: Exception) -> None:
    """What names no such field is raised as it is."""
    with pytest.raises(type(error)) as caught, named_as_written(NAMES):
        raise error
    assert caught.value is error


def test_durations_are_members_of_requests_alone() -> None:
    """No route's request has a part with a field of another name: only its own fields are renamed."""
    for route in ROUTES:
        service, _, method = route.method[1:].partition("/")
        request = SERVICES[service].methods_by_name[method].input_type
        for part in _parts(request):
            assert [each.json_name for each in part.fields if json_name(each) != each.json_name] == [], route.path


def _parts(message: Any) -> Iterator[Any]:
    for field in message.fields:
        if field.message_type is not None and not field.message_type.full_name.startswith("google."):
            yield field.message_type
            yield from _parts(field.message_type)

"""The one list of what the contract names and this server does not do yet; it is refused, never ignored."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from google.protobuf.message import Message

from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_server.domain.errors import NotYetImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbuiltField:
    """A request field that is refused when set; the path goes through lists."""

    path: str


_WORKFLOW_FIELDS: Final = (UnbuiltField(path="steps.verify_artifacts"),)
"""Of a definition, however it reaches the server: in a request, or in a file of the workflow directory."""

UNBUILT_RPCS: Final[frozenset[str]] = frozenset()

UNBUILT_FIELDS: Final[Mapping[str, tuple[UnbuiltField, ...]]] = {
    "/runengine.v1.WorkflowRegistryService/RegisterWorkflow": tuple(
        replace(field, path=f"workflow.{field.path}") for field in _WORKFLOW_FIELDS
    ),
}


def refuse_unbuilt_rpc(method: str) -> None:
    """Return when the RPC is built.

    Raises:
        NotYetImplementedError: it is not.
    """
    if method in UNBUILT_RPCS:
        raise NotYetImplementedError(method.removeprefix("/runengine.v1.").replace("/", "."))


def refuse_unbuilt_fields(method: str, request: Message) -> None:
    """Return when the request sets nothing that is not built.

    Raises:
        NotYetImplementedError: names the field.
    """
    _refuse(UNBUILT_FIELDS.get(method, ()), request)


def refuse_unbuilt_workflow(workflow: workflow_pb2.Workflow) -> None:
    """Return when the definition, which may come from a file, sets nothing that is not built.

    Raises:
        NotYetImplementedError: as `refuse_unbuilt_fields`.
    """
    _refuse(_WORKFLOW_FIELDS, workflow)


def _refuse(fields: Iterable[UnbuiltField], message: Message) -> None:
    for field in fields:
        if _is_set(message, field.path):
            raise NotYetImplementedError(f"{message.DESCRIPTOR.name}.{field.path}")


def _is_set(message: Message, path: str) -> bool:
    head, _, rest = path.partition(".")
    field = message.DESCRIPTOR.fields_by_name[head]
    value = getattr(message, head)
    if not rest:
        return bool(value)  # none of the listed fields tracks presence: set means not the zero value
    if not field.is_repeated and not message.HasField(head):
        return False
    return any(_is_set(child, rest) for child in (value if field.is_repeated else (value,)))

"""The one list of what the contract names and this server does not do yet; it is refused, never ignored."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from google.protobuf.message import Message

from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_server.domain.errors import NotYetImplementedError

_ENGINE = "/runengine.v1.RunEngine"
_CACHE = "/runengine.v1.CacheAdminService"

_READ_ONLY_AND_BYPASS = frozenset({workflow_pb2.CACHE_MODE_READ_ONLY, workflow_pb2.CACHE_MODE_BYPASS})


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbuiltField:
    """A request field that is refused when set, or only with one of `values`; the path goes through lists."""

    path: str
    values: frozenset[int] | None = None


_WORKFLOW_FIELDS: Final = (
    UnbuiltField(path="steps.verify_artifacts"),
    UnbuiltField(path="change_requests.cache_mode", values=_READ_ONLY_AND_BYPASS),
)
"""Of a definition, however it reaches the server: in a request, or in a file of the workflow directory."""

UNBUILT_RPCS: Final = frozenset(
    {
        f"{_ENGINE}/RetryRun",
        f"{_ENGINE}/GetLineage",
        f"{_ENGINE}/ExplainStep",
        f"{_ENGINE}/CompareRuns",
        f"{_CACHE}/GetCacheEntry",
        f"{_CACHE}/ListCacheEntries",
        f"{_CACHE}/InvalidateCache",
        f"{_CACHE}/GetCacheStats",
    }
)

UNBUILT_FIELDS: Final[Mapping[str, tuple[UnbuiltField, ...]]] = {
    f"{_ENGINE}/Trigger": (
        UnbuiltField(path="cache_mode", values=_READ_ONLY_AND_BYPASS),
        UnbuiltField(path="force_step_ids"),
        UnbuiltField(path="expected_plan_digest"),
    ),
    f"{_ENGINE}/TriggerUpdate": (
        UnbuiltField(path="cache_mode", values=_READ_ONLY_AND_BYPASS),
        UnbuiltField(path="force_step_ids"),
        UnbuiltField(path="expected_plan_digest"),
        UnbuiltField(path="strict_impact"),
        UnbuiltField(path="workflow_version"),
    ),
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
        NotYetImplementedError: names the field and, for an enum, the value.
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
        for name, number in _set_values(message, field.path):
            if field.values is None:
                raise NotYetImplementedError(f"{message.DESCRIPTOR.name}.{field.path}")
            if number in field.values:
                raise NotYetImplementedError(f"{message.DESCRIPTOR.name}.{field.path} = {name}")


def _set_values(message: Message, path: str) -> Iterator[tuple[str, object]]:
    """What is set at the path: an enum's value name and the value; an empty name for other kinds."""
    head, _, rest = path.partition(".")
    field = message.DESCRIPTOR.fields_by_name[head]
    value = getattr(message, head)
    if rest:
        if not field.is_repeated and not message.HasField(head):
            return
        for child in value if field.is_repeated else (value,):
            yield from _set_values(child, rest)
    elif value:  # none of the listed fields tracks presence: set means not the zero value
        named = field.enum_type.values_by_number.get(value) if field.enum_type is not None else None
        yield (named.name if named is not None else ""), value

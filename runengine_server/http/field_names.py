"""Refusals of the use cases name fields as this surface spells them: `deadlineMs`, not `deadline`."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from runengine_server.domain.errors import FieldViolation, InvalidError
from runengine_server.http.json_writing import json_name


def written_names(request: Any, parameters: Mapping[str, str]) -> Mapping[str, str]:
    """What callers write for fields of a request that are spelt otherwise here, by the fields' JSON names.

    Args:
        request: the request's descriptor; its own durations have a unit here, and no part of a request has any.
        parameters: fields that a query has under other names, by those names.
    """
    with_unit = {field.json_name: name for field in request.fields if (name := json_name(field)) != field.json_name}
    return with_unit | {field: name for name, field in parameters.items()}


@contextmanager
def named_as_written(names: Mapping[str, str]) -> Iterator[None]:
    """What the block is refused with names the fields, in its message too, as the caller wrote them.

    Raises:
        InvalidError: as raised in the block, with these names.
    """
    try:
        yield
    except InvalidError as error:
        if not any(violation.field in names for violation in error.violations):
            raise
        raise InvalidError(
            error.reason,
            _renamed(error.message, error.violations, names),
            violations=[replace(each, field=names.get(each.field, each.field)) for each in error.violations],
            metadata=error.metadata,
        ) from None


def _renamed(message: str, violations: tuple[FieldViolation, ...], names: Mapping[str, str]) -> str:
    """The message, in which a field's name begins what is said of it."""
    for each in violations:
        if each.field in names:
            message = re.sub(rf"(^|[:;] ){each.field}\b", rf"\1{names[each.field]}", message, count=1)
    return message

"""Collects what is wrong with a request, so that one answer names everything."""

import re
from collections.abc import Sequence

from runengine_server.domain.errors import FieldViolation, InvalidError

VIOLATIONS_MAX = 200
"""More than a status can carry; a broken generator would otherwise fill memory."""


class Problems:
    """The violations found so far, in the order of the request."""

    def __init__(self) -> None:
        """Start with none."""
        self._violations: list[FieldViolation] = []

    @property
    def violations(self) -> Sequence[FieldViolation]:
        """What was found."""
        return tuple(self._violations)

    def add(self, field: str, description: str) -> None:
        """Note that a field, by its proto path, is wrong and what to do about it; callers see its JSON path."""
        self.add_json_path(json_path(field), description)

    def add_json_path(self, path: str, description: str) -> None:
        """Note that a field, by its JSON path, is wrong and what to do about it."""
        if len(self._violations) < VIOLATIONS_MAX:
            self._violations.append(FieldViolation(field=path, description=description))

    def raise_if_any(self, reason: str = "VALIDATION_FAILED", what: str = "the request") -> None:
        """Return when nothing is wrong.

        Raises:
            InvalidError: with every violation.
        """
        if not self._violations:
            return
        first = self._violations[0]
        more = f" (and {len(self._violations) - 1} more)" if len(self._violations) > 1 else ""
        raise InvalidError(
            reason, f"{what} is not valid: {first.field}: {first.description}{more}", violations=self._violations
        )


def json_path(field: str) -> str:
    """The path as proto JSON, files and every other surface spell it; what follows a slash is the caller's own JSON."""
    path, slash, pointer = field.partition("/")
    return re.sub("_([a-z])", lambda match: match[1].upper(), path) + slash + pointer

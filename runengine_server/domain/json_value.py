"""What a JSON value is in this code base, and the errors that name a place inside one."""

from typing import Final, TypeAlias

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None
JsonObject: TypeAlias = dict[str, JsonValue]

# Every JSON implementation represents these integers exactly (RFC 7493 §2.2); beyond them equal texts
# could mean different numbers, so that equal hashes would no longer mean equal inputs.
INTEGER_MAX: Final = 2**53 - 1


class JsonProblem(ValueError):  # noqa: N818 - what it says is a problem with a document
    """A JSON value or text is refused; says where (an RFC 6901 pointer) and why, never with the value itself."""

    def __init__(self, pointer: str, problem: str) -> None:
        """Remember the place and the problem.

        Args:
            pointer: RFC 6901 pointer to the offending value; empty for the whole document.
            problem: a phrase a person reads, without the value.
        """
        super().__init__(f"{pointer or 'document'}: {problem}")
        self.pointer = pointer
        self.problem = problem


class NotCanonical(JsonProblem):
    """The value has no RFC 8785 form that every implementation would agree on."""


class JsonLimitExceeded(JsonProblem):
    """The value is too deep, too wide or too long."""


class JsonMalformed(JsonProblem):
    """The text is not strict JSON (syntax, encoding, duplicate key)."""

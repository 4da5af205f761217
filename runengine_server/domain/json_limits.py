"""Bound JSON values (size, depth, nodes, number range) and bring their numbers into one form."""

from dataclasses import dataclass
from typing import TypeGuard

from runengine_server.domain.json_pointer import escape
from runengine_server.domain.json_value import INTEGER_MAX, JsonLimitExceeded, JsonProblem, JsonValue, NotCanonical

# orjson itself stops at 254; nothing within JsonLimits comes near.
_ENCODABLE_DEPTH_MAX = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLimits:
    """How large a payload, an output or a resolved input may be.

    Attributes:
        bytes_max: longest text (or compact form of a parsed value) in bytes.
        depth_max: most containers inside one another (protobuf's own limit for Struct is 33).
        nodes_max: most values, containers included.
    """

    bytes_max: int = 1024 * 1024
    depth_max: int = 32
    nodes_max: int = 100_000


DEFAULT_LIMITS = JsonLimits()


def check_encoded(value: JsonValue, encoded: bytes, limits: JsonLimits) -> None:
    """Return when a value is within the limits, given its compact encoding (any member order).

    The encoding bounds both depth and nodes from above without a walk over the value: every container needs an
    opening bracket and every further member a comma.

    Raises:
        JsonLimitExceeded: too deep, too many nodes or too long.
    """
    if len(encoded) > limits.bytes_max:
        raise JsonLimitExceeded("", f"longer than {limits.bytes_max} bytes")
    containers = encoded.count(b"{") + encoded.count(b"[")
    if containers > limits.depth_max or containers + encoded.count(b",") >= limits.nodes_max:
        check_shape(value, limits)


def check_shape(value: JsonValue, limits: JsonLimits) -> None:
    """Return when the value is neither too deep nor too wide; stops at the first excess, also for cyclic values.

    Raises:
        JsonLimitExceeded: with the pointer of the first container that is too deep, in breadth-first order.
    """
    nodes = 1
    depth = 0
    level: list[tuple[str, JsonValue]] = [("", value)]
    while level:
        depth += 1
        deeper: list[tuple[str, JsonValue]] = []
        for pointer, container in level:
            if not isinstance(container, dict | list):
                continue
            if depth > limits.depth_max:
                raise JsonLimitExceeded(pointer, f"nested deeper than {limits.depth_max} levels")
            nodes += len(container)
            if nodes > limits.nodes_max:
                raise JsonLimitExceeded(pointer, f"more than {limits.nodes_max} values in the document")
            deeper.extend(_containers(pointer, container))
        level = deeper


def normalize_numbers(value: JsonValue) -> JsonValue:
    """Return the value with every integral double as int, so that 1.0 and 1 are the same value.

    For values whose numbers all arrive as doubles (protobuf Struct, JavaScript). Depth must have been checked.

    Raises:
        NotCanonical: NaN, an infinity, or a number whose magnitude is beyond 2^53−1 (such a double is integral,
            and may be the rounding of an integer that somebody meant).
    """
    try:
        return _normalized(value)
    except JsonProblem:
        raise_problem(value)
        raise


def raise_problem(value: JsonValue) -> None:
    """Return when every part of the value has an RFC 8785 form.

    Raises:
        NotCanonical: with the pointer of the first part that has none.
    """
    pending: list[tuple[str, int, object]] = [("", 0, value)]
    while pending:
        pointer, depth, part = pending.pop()
        if isinstance(part, dict):
            members = [(f"{pointer}/{escape(key)}" if isinstance(key, str) else pointer, key) for key in part]
            for place, key in members:
                if not isinstance(key, str):
                    raise NotCanonical(place, "a member name is not a string")
                if not _is_unicode(key):
                    raise NotCanonical(pointer, "a member name contains a lone surrogate")
            children = [(place, depth + 1, part[key]) for place, key in members]
        elif isinstance(part, list):
            children = [(f"{pointer}/{index}", depth + 1, item) for index, item in enumerate(part)]
        else:
            _check_scalar(pointer, part)
            continue
        if depth >= _ENCODABLE_DEPTH_MAX:
            raise NotCanonical(pointer, f"nested deeper than {_ENCODABLE_DEPTH_MAX} levels")
        pending.extend(reversed(children))


def is_representable(number: int | float) -> bool:
    """Tell whether a number is within ±(2^53−1): finite, and exact wherever it is integral."""
    return -INTEGER_MAX <= number <= INTEGER_MAX


def _containers(pointer: str, container: JsonValue) -> list[tuple[str, JsonValue]]:
    if isinstance(container, dict):
        return [(f"{pointer}/{escape(str(k))}", v) for k, v in container.items() if isinstance(v, dict | list)]
    if isinstance(container, list):
        return [(f"{pointer}/{i}", v) for i, v in enumerate(container) if isinstance(v, dict | list)]
    return []


def _normalized(value: JsonValue) -> JsonValue:
    kind = type(value)
    if kind is dict:
        return {k: _normalized(v) if type(v) in _NUMERIC else v for k, v in value.items()}  # type: ignore[union-attr]
    if kind is list:
        return [_normalized(v) if type(v) in _NUMERIC else v for v in value]  # type: ignore[union-attr]
    if kind is float or kind is int:
        if not is_representable(value):  # type: ignore[arg-type]
            raise NotCanonical("", "number out of range")
        if kind is float and value.is_integer():  # type: ignore[union-attr]
            return int(value)  # type: ignore[arg-type]
    return value


_NUMERIC = frozenset({dict, list, float, int})


def _check_scalar(pointer: str, part: object) -> None:
    if part is None or isinstance(part, bool):
        return
    if isinstance(part, str):
        if not _is_unicode(part):
            raise NotCanonical(pointer, "the string contains a lone surrogate")
    elif isinstance(part, int | float):
        if part != part:
            raise NotCanonical(pointer, "NaN is not a JSON number")
        if part in (float("inf"), float("-inf")):
            raise NotCanonical(pointer, "an infinite or too large number is not a JSON number")
        if not is_representable(part):
            raise NotCanonical(pointer, "the integer is beyond ±(2^53−1)")
    else:
        raise NotCanonical(pointer, f"{type(part).__name__} is not a JSON type")


def _is_unicode(text: str) -> TypeGuard[str]:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

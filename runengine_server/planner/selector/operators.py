"""The operators of the language on JSON values, with CEL's results and errors.

Two departures from CEL, both documented in docs/selectors.md: arithmetic on an int and a double is carried out in
double, because a JSON number does not say which it is; and a result beyond ±(2^53−1) is an error, because JSON
readers would not agree on it.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from runengine_server.domain.json_limits import is_representable
from runengine_server.domain.json_value import JsonValue
from runengine_server.planner.selector.errors import EvaluationFailed

Operator = Callable[[JsonValue, JsonValue], JsonValue]

_TYPE_NAMES: Final[Mapping[type, str]] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "double",
    str: "string",
    list: "list",
    dict: "map",
}
_STRING_CHARS_MAX: Final = 1024 * 1024


def type_name(value: JsonValue) -> str:
    """Return what the language calls the type of this value."""
    return _TYPE_NAMES[type(value)]


def is_equal(left: JsonValue, right: JsonValue) -> bool:
    """Tell whether two values are equal: numbers by value, other types only within their type, containers deeply."""
    if type(left) is not type(right):
        return _is_number(left) and _is_number(right) and left == right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_equal, left, right))
    return left == right


def size(value: JsonValue) -> int:
    """Return the number of code points, items or members.

    Raises:
        EvaluationFailed: the value is neither a string, a list nor a map.
    """
    if isinstance(value, str | list | dict):
        return len(value)
    raise EvaluationFailed(f"size() of {type_name(value)} (it takes a string, list or map)")


def negate(value: JsonValue) -> JsonValue:
    """Return the number with the other sign.

    Raises:
        EvaluationFailed: not a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EvaluationFailed(f"'-' before {type_name(value)} (it takes a number)")
    return -value


def _is_number(value: JsonValue) -> bool:
    return type(value) is int or type(value) is float


def _mismatch(symbol: str, left: JsonValue, right: JsonValue) -> NoReturn:
    raise EvaluationFailed(f"'{symbol}' between {type_name(left)} and {type_name(right)}")


def _ordering(symbol: str, accept: Callable[[int], bool]) -> Operator:
    """Return a comparison that accepts by the sign of left − right."""

    def ordered(left: JsonValue, right: JsonValue) -> JsonValue:
        if isinstance(left, str) and isinstance(right, str):
            return accept((left > right) - (left < right))
        is_alike = isinstance(left, bool) is isinstance(right, bool)  # bool is an int to Python
        if is_alike and isinstance(left, int | float) and isinstance(right, int | float):
            return accept((left > right) - (left < right))
        _mismatch(symbol, left, right)

    return ordered


def _arithmetic(symbol: str, compute: Callable[[float, float], float]) -> Operator:
    def computed(left: JsonValue, right: JsonValue) -> JsonValue:
        if (type(left) is int or type(left) is float) and (type(right) is int or type(right) is float):
            result = compute(left, right)
            if is_representable(result):
                return result
            raise EvaluationFailed(f"the result of '{symbol}' is beyond ±(2^53−1)")
        _mismatch(symbol, left, right)

    return computed


def _add(left: JsonValue, right: JsonValue) -> JsonValue:
    if isinstance(left, str) and isinstance(right, str):
        if len(left) + len(right) > _STRING_CHARS_MAX:
            raise EvaluationFailed(f"the result of '+' is longer than {_STRING_CHARS_MAX} characters")
        return left + right
    return _add_numbers(left, right)


def _quotient(left: float, right: float) -> float:
    if right == 0:
        raise EvaluationFailed("division by zero")
    if isinstance(left, int) and isinstance(right, int):
        whole = abs(left) // abs(right)  # CEL truncates towards zero, Python rounds down.
        return whole if (left < 0) is (right < 0) else -whole
    return left / right


def _remainder(left: JsonValue, right: JsonValue) -> JsonValue:
    if type(left) is not int or type(right) is not int:
        _mismatch("%", left, right)
    if right == 0:
        raise EvaluationFailed("modulo by zero")
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


_add_numbers = _arithmetic("+", operator.add)

BINARY: Final[Mapping[str, Operator]] = {
    "==": is_equal,
    "!=": lambda left, right: not is_equal(left, right),
    "<": _ordering("<", lambda sign: sign < 0),
    "<=": _ordering("<=", lambda sign: sign <= 0),
    ">": _ordering(">", lambda sign: sign > 0),
    ">=": _ordering(">=", lambda sign: sign >= 0),
    "+": _add,
    "-": _arithmetic("-", operator.sub),
    "*": _arithmetic("*", operator.mul),
    "/": _arithmetic("/", _quotient),
    "%": _remainder,
}

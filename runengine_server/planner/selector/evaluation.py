"""Turn a checked syntax tree into one Python closure, so that no interpreter runs at execution time."""

from collections.abc import Callable
from typing import TypeAlias, assert_never

from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.planner.selector import operators
from runengine_server.planner.selector.errors import EvaluationFailed
from runengine_server.planner.selector.paths import compile_path
from runengine_server.planner.selector.scope import SelectorScope
from runengine_server.planner.selector.syntax_tree import (
    Binary,
    Conditional,
    Expression,
    Has,
    ListOf,
    Literal,
    MapOf,
    Name,
    Path,
    Size,
    Unary,
)

Evaluator: TypeAlias = Callable[[SelectorScope], JsonValue]


def compile_expression(tree: Expression) -> Evaluator:
    """Return a function from scope to value; it raises EvaluationFailed where the expression has none.

    The tree must have passed analysis. Values are shared with the scope, never copied: treat them as immutable.
    """
    match tree:
        case Literal():
            value = tree.value
            return lambda scope: value
        case Name() | Path():
            return compile_path(tree, compile_expression)
        case Has():
            return _has(tree)
        case Size():
            operand = compile_expression(tree.operand)
            return lambda scope: operators.size(operand(scope))
        case ListOf():
            items = tuple(compile_expression(item) for item in tree.items)
            return lambda scope: [item(scope) for item in items]
        case MapOf():
            return _map(tree)
        case Unary():
            return _unary(tree)
        case Binary():
            return _binary(tree)
        case Conditional():
            return _conditional(tree)
        case _:
            assert_never(tree)


def _has(tree: Has) -> Evaluator:
    owner, name = compile_expression(tree.owner), tree.field.name

    def has(scope: SelectorScope) -> JsonValue:
        value = owner(scope)
        if isinstance(value, dict):
            return name in value
        raise EvaluationFailed(f"has() asks {operators.type_name(value)} for the field '{name}' (it takes a map)")

    return has


def _map(tree: MapOf) -> Evaluator:
    entries = tuple((compile_expression(key), compile_expression(value)) for key, value in tree.entries)

    def build(scope: SelectorScope) -> JsonValue:
        result: JsonObject = {}
        for key_of, value_of in entries:
            key = key_of(scope)
            if not isinstance(key, str):
                raise EvaluationFailed(f"a map key is {operators.type_name(key)}, not string")
            if key in result:
                raise EvaluationFailed("a map key occurs twice")
            result[key] = value_of(scope)
        return result

    return build


def _unary(tree: Unary) -> Evaluator:
    operand = compile_expression(tree.operand)
    if tree.operator == "-":
        return lambda scope: operators.negate(operand(scope))
    return lambda scope: not _truth("!", operand(scope))


def _binary(tree: Binary) -> Evaluator:
    left, right = compile_expression(tree.left), compile_expression(tree.right)
    if tree.operator in ("&&", "||"):
        return _logical(tree.operator, left, right)
    apply = operators.BINARY[tree.operator]
    return lambda scope: apply(left(scope), right(scope))


def _logical(symbol: str, left: Evaluator, right: Evaluator) -> Evaluator:
    """Return CEL's `&&` or `||`: whichever side decides, decides, even when the other side is an error."""
    deciding = symbol == "||"

    def decide(scope: SelectorScope) -> JsonValue:
        failure: EvaluationFailed | None = None
        try:
            if _truth(symbol, left(scope)) is deciding:
                return deciding
        except EvaluationFailed as error:
            failure = error
        if _truth(symbol, right(scope)) is deciding:
            return deciding
        if failure is not None:
            raise failure
        return not deciding

    return decide


def _conditional(tree: Conditional) -> Evaluator:
    test = compile_expression(tree.test)
    chosen, otherwise = compile_expression(tree.chosen), compile_expression(tree.otherwise)
    return lambda scope: chosen(scope) if _truth("?", test(scope)) else otherwise(scope)


def _truth(symbol: str, value: JsonValue) -> bool:
    if isinstance(value, bool):
        return value
    raise EvaluationFailed(f"'{symbol}' takes bool, not {operators.type_name(value)}")

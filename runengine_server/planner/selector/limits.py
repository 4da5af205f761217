"""Bounds of a selector: what registration accepts and how much an evaluation may produce."""

from dataclasses import dataclass

from runengine_server.domain.json_limits import DEFAULT_LIMITS as DEFAULT_JSON_LIMITS
from runengine_server.domain.json_limits import JsonLimits

_TEMPLATE = JsonLimits(bytes_max=64 * 1024, depth_max=30, nodes_max=5_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorLimits:
    """How large a template, an expression and a resolved input may be.

    Without loops or functions an evaluation takes time linear in the expression and the values compared, so these
    bounds are all the budget there needs to be.

    Attributes:
        template: the template itself, as JSON.
        expression_chars_max: longest text between `${{` and `}}`.
        expression_nodes_max: most operators, literals, paths and indexes in one expression.
        expression_depth_max: deepest nesting, counting `a + b + c` as two; keeps evaluation off the recursion limit.
        output: the resolved input.
    """

    template: JsonLimits = _TEMPLATE
    expression_chars_max: int = 4_096
    expression_nodes_max: int = 250
    expression_depth_max: int = 64
    output: JsonLimits = DEFAULT_JSON_LIMITS


DEFAULT_LIMITS = SelectorLimits()

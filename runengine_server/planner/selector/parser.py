"""Parse an expression into its syntax tree; refuses what CEL has and this language does not, by name."""

from typing import Final, NoReturn

from runengine_server.planner.selector.errors import ExpressionInvalid
from runengine_server.planner.selector.lexer import Token, tokenize
from runengine_server.planner.selector.limits import DEFAULT_LIMITS, SelectorLimits
from runengine_server.planner.selector.syntax_tree import (
    Binary,
    Conditional,
    Expression,
    Field,
    Has,
    Item,
    ListOf,
    Literal,
    MapOf,
    Name,
    Path,
    Segment,
    Size,
    Unary,
    children,
)

# All left-associative; a higher number binds tighter. Source: CEL language definition, "Syntax".
_PRECEDENCE: Final[dict[str, int]] = {
    "||": 1,
    "&&": 2,
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%"), 5),
}
_CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
# Source: CEL language definition, "Syntax": may not be used as a variable.
_RESERVED = frozenset(
    {
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    }
)
_MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})


def parse(expression: str, limits: SelectorLimits = DEFAULT_LIMITS) -> Expression:
    """Return the syntax tree of an expression.

    Raises:
        ExpressionInvalid: not an expression of the language, or beyond the limits; says where.
    """
    if len(expression) > limits.expression_chars_max:
        raise ExpressionInvalid(f"the expression is longer than {limits.expression_chars_max} characters", 0)
    tokens = tokenize(expression)
    if len(tokens) == 1:
        raise ExpressionInvalid("the expression is empty", 0)
    tree = _Parser(tokens, limits).parse_all()
    _check_size(tree, limits)
    return tree


def _check_size(tree: Expression, limits: SelectorLimits) -> None:
    nodes, depth, level = 0, 0, [tree]
    while level:
        depth += 1
        nodes += len(level)
        if depth > limits.expression_depth_max:
            raise ExpressionInvalid(
                f"the expression nests deeper than {limits.expression_depth_max} levels", level[0].at
            )
        if nodes > limits.expression_nodes_max:
            raise ExpressionInvalid(f"the expression has more than {limits.expression_nodes_max} parts", level[0].at)
        level = [child for node in level for child in children(node)]


class _Parser:
    """Recursive descent over the tokens; one method for each rule of the grammar."""

    def __init__(self, tokens: list[Token], limits: SelectorLimits) -> None:
        self._tokens = tokens
        self._position = 0
        self._limits = limits
        self._depth = 0

    def parse_all(self) -> Expression:
        tree = self._conditional()
        if self._next.kind != "end":
            self._refuse()
        return tree

    @property
    def _next(self) -> Token:
        return self._tokens[self._position]

    def _take(self) -> Token:
        token = self._tokens[self._position]
        self._position += 1
        return token

    def _skip(self, text: str) -> bool:
        if self._next.kind == "symbol" and self._next.text == text:
            self._position += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._skip(text):
            self._refuse(f"expected '{text}'")

    def _refuse(self, expected: str = "") -> NoReturn:
        token = self._next
        found = "the expression ends too early" if token.kind == "end" else f"unexpected '{token.text}'"
        if token.kind == "name" and token.text == "in":
            found = "the operator 'in' is not part of the language"
        raise ExpressionInvalid(f"{found}, {expected}" if expected else found, token.at)

    def _conditional(self) -> Expression:
        self._depth += 1
        if self._depth > self._limits.expression_depth_max:
            raise ExpressionInvalid(
                f"the expression nests deeper than {self._limits.expression_depth_max} levels", self._next.at
            )
        node = self._binary()
        if self._next.text == "?" and self._next.kind == "symbol":
            at = self._take().at
            chosen = self._binary()
            self._expect(":")
            node = Conditional(at=at, test=node, chosen=chosen, otherwise=self._conditional())
        self._depth -= 1
        return node

    def _binary(self, binding: int = 1) -> Expression:
        """Return an expression of operators that bind at least this tightly (precedence climbing)."""
        node = self._unary()
        while self._next.kind == "symbol" and _PRECEDENCE.get(self._next.text, 0) >= binding:
            operator = self._take()
            right = self._binary(_PRECEDENCE[operator.text] + 1)
            node = Binary(at=operator.at, operator=operator.text, left=node, right=right)
        return node

    def _unary(self) -> Expression:
        operators: list[Token] = []
        while self._next.kind == "symbol" and self._next.text in ("!", "-"):
            operators.append(self._take())
        if len({operator.text for operator in operators}) > 1:
            raise ExpressionInvalid("'!' and '-' cannot be mixed", operators[0].at)
        node = self._member()
        for operator in reversed(operators):
            node = Unary(at=operator.at, operator=operator.text, operand=node)
        return node

    def _member(self) -> Expression:
        node = self._primary()
        segments: list[Segment] = []
        while self._next.kind == "symbol" and self._next.text in (".", ".?", "[", "[?"):
            opening = self._take()
            if opening.text in ("[", "[?"):
                index = self._conditional()
                self._expect("]")
                segments.append(Item(at=opening.at, index=index, is_optional=opening.text == "[?"))
                continue
            name = self._field_name()
            if self._next.kind == "symbol" and self._next.text == "(":
                node = self._method(node, segments, name)
                segments = []
            else:
                segments.append(Field(at=name.at, name=name.text, is_optional=opening.text == ".?"))
        return self._path(node, segments)

    def _field_name(self) -> Token:
        token = self._next
        if token.kind != "name" or token.text in _CONSTANTS or token.text == "in":
            self._refuse('expected a field name (other names are written ["name"])')
        return self._take()

    def _method(self, node: Expression, segments: list[Segment], name: Token) -> Expression:
        """Return what `.size()` or `.orValue(…)` makes of the path so far."""
        is_optional = any(segment.is_optional for segment in segments)
        self._expect("(")
        if name.text == "orValue":
            if not is_optional:
                raise ExpressionInvalid(".orValue needs an optional path before it, such as a.?b", name.at)
            default = self._conditional()
            self._expect(")")
            return Path(at=node.at, base=node, segments=tuple(segments), default=default)
        if name.text != "size":
            self._refuse_function(name)
        self._expect(")")
        return Size(at=name.at, operand=self._path(node, segments))

    def _path(self, node: Expression, segments: list[Segment]) -> Expression:
        if not segments:
            return node
        optional = next((segment for segment in segments if segment.is_optional), None)
        if optional is not None:
            raise ExpressionInvalid("an optional path must be closed by .orValue(…)", optional.at)
        return Path(at=node.at, base=node, segments=tuple(segments))

    def _primary(self) -> Expression:
        token = self._next
        if token.kind in ("int", "double", "string"):
            self._take()
            return Literal(at=token.at, value=token.value)
        if token.kind == "name":
            return self._named(token)
        if self._skip("("):
            node = self._conditional()
            self._expect(")")
            return node
        if self._skip("["):
            return ListOf(at=token.at, items=tuple(self._list_items()))
        if self._skip("{"):
            return MapOf(at=token.at, entries=tuple(self._map_entries()))
        return self._refuse()

    def _named(self, token: Token) -> Expression:
        if token.text == "in":
            self._refuse()
        self._take()
        if token.text in _CONSTANTS:
            return Literal(at=token.at, value=_CONSTANTS[token.text])
        if token.text in _RESERVED:
            raise ExpressionInvalid(f"'{token.text}' is a reserved word", token.at)
        if not self._skip("("):
            return Name(at=token.at, name=token.text)
        if token.text not in ("has", "size"):
            self._refuse_function(token)
        argument = self._conditional()
        self._expect(")")
        if token.text == "size":
            return Size(at=token.at, operand=argument)
        return self._presence(token, argument)

    def _presence(self, token: Token, argument: Expression) -> Has:
        if not isinstance(argument, Path) or argument.default is not None:
            raise ExpressionInvalid("has() takes a path that ends in a field, such as has(trigger.style)", token.at)
        *before, last = argument.segments
        if not isinstance(last, Field):
            raise ExpressionInvalid("has() takes a path that ends in a field, such as has(trigger.style)", token.at)
        return Has(at=token.at, owner=self._path(argument.base, before), field=last)

    def _list_items(self) -> list[Expression]:
        items: list[Expression] = []
        while not self._skip("]"):
            items.append(self._conditional())
            if not self._skip(","):
                self._expect("]")
                break
        return items

    def _map_entries(self) -> list[tuple[Expression, Expression]]:
        entries: list[tuple[Expression, Expression]] = []
        while not self._skip("}"):
            key = self._conditional()
            self._expect(":")
            entries.append((key, self._conditional()))
            if not self._skip(","):
                self._expect("}")
                break
        return entries

    def _refuse_function(self, token: Token) -> NoReturn:
        if token.text in _MACROS:
            raise ExpressionInvalid(f"the macro '{token.text}' is not part of the language", token.at)
        raise ExpressionInvalid(
            f"the function '{token.text}' is not part of the language (only has, size and orValue are)", token.at
        )

"""Compile a whole template: find its leaves, check them all, and resolve it against a scope."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from runengine_server.domain.canonical_json import canonical_bytes, check_encoded, check_limits, normalize_numbers
from runengine_server.domain.json_pointer import escape
from runengine_server.domain.json_value import JsonObject, JsonProblem, JsonValue
from runengine_server.planner.selector.analysis import analyse
from runengine_server.planner.selector.errors import (
    EvaluationFailed,
    ExpressionInvalid,
    SelectorFailed,
    SelectorInvalid,
    SelectorProblem,
)
from runengine_server.planner.selector.evaluation import compile_expression
from runengine_server.planner.selector.limits import DEFAULT_LIMITS, SelectorLimits
from runengine_server.planner.selector.markers import Expression as MarkedExpression
from runengine_server.planner.selector.markers import MarkerInvalid, read_key, read_string
from runengine_server.planner.selector.output_budget import check_budget
from runengine_server.planner.selector.parser import parse
from runengine_server.planner.selector.reads import Reads, union
from runengine_server.planner.selector.scope import SelectorScope
from runengine_server.planner.selector.syntax_tree import Binary, Expression, Literal, Name, children

_Evaluator: TypeAlias = Callable[[SelectorScope], JsonValue]

# Up to so many reads, each bounded by what a payload or output may be, a result can be encoded first and measured
# then (a few milliseconds at worst); with more of them the size is added up leaf by leaf before anything is built.
_READS_UNMEASURED_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorLeaf:
    """One expression of a template.

    Attributes:
        pointer: RFC 6901 pointer into the step's input.
        expression: the text between `${{` and `}}`, trimmed.
        reads: what it may read.
    """

    pointer: str
    expression: str
    reads: Reads
    _run: _Evaluator = field(repr=False, compare=False)

    def evaluate(self, scope: SelectorScope) -> JsonValue:
        """Return the leaf's value, shared with the scope.

        Raises:
            SelectorFailed: the expression has no value in this scope.
        """
        try:
            return self._run(scope)
        except EvaluationFailed as error:
            raise SelectorFailed(self.pointer, self.expression, str(error)) from None
        except JsonProblem as error:
            pointer = f"{self.pointer}{error.pointer}"
            raise SelectorFailed(pointer, self.expression, f"the value is refused: {error.problem}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledSelector:
    """A template that has been checked and can be resolved any number of times, from any thread.

    Attributes:
        template: the template with its numbers normalised.
        leaves: the expressions in template order.
        reads: the union of what the leaves read.
        limits: the bounds it was compiled with.
    """

    template: JsonObject
    leaves: tuple[SelectorLeaf, ...]
    reads: Reads
    limits: SelectorLimits
    _build: _Evaluator = field(repr=False, compare=False)
    _is_measured: bool = field(repr=False, compare=False)

    @property
    def step_ids(self) -> tuple[str, ...]:
        """Ids of the steps that are read, sorted."""
        return self.reads.step_ids

    def canonical(self) -> bytes:
        """Return the RFC 8785 form of the template, for comparing two definitions."""
        return canonical_bytes(self.template)

    def resolve(self, scope: SelectorScope) -> JsonValue:
        """Return the step's input; parts of it are shared with the scope: treat it as immutable.

        Raises:
            SelectorFailed: a leaf has no value, or the input would exceed the limits.
        """
        return self.resolve_canonical(scope)[0]

    def resolve_canonical(self, scope: SelectorScope) -> tuple[JsonValue, bytes]:
        """Return the step's input and its RFC 8785 form, at the price of `resolve` alone.

        Raises:
            SelectorFailed: a leaf has no value, or the input would exceed the limits.
        """
        try:
            if self._is_measured:
                check_budget((leaf.evaluate(scope) for leaf in self.leaves), self.limits.output)
            value = self._build(scope)
            encoded = canonical_bytes(value)
            check_encoded(value, encoded, self.limits.output)
        except JsonProblem as error:
            leaf = next((leaf for leaf in self.leaves if f"{error.pointer}/".startswith(f"{leaf.pointer}/")), None)
            expression = leaf.expression if leaf else ""
            raise SelectorFailed(error.pointer, expression, f"the resolved input is {error.problem}") from None
        return value, encoded


def compile_selector(template: JsonObject, limits: SelectorLimits = DEFAULT_LIMITS) -> CompiledSelector:
    """Return the compiled template.

    Args:
        template: a JSON object whose strings may be `${{ expression }}`.
        limits: what is accepted.

    Raises:
        SelectorInvalid: carries every problem of every leaf.
    """
    try:
        check_limits(template, limits.template)
    except JsonProblem as error:
        raise SelectorInvalid([SelectorProblem(pointer=error.pointer, expression="", message=error.problem)]) from None
    compiler = _TemplateCompiler(limits)
    build = compiler.compile_node(template, "")
    if compiler.problems:
        raise SelectorInvalid(compiler.problems)
    normalized = normalize_numbers(template)
    return CompiledSelector(
        template=normalized if isinstance(normalized, dict) else {},
        leaves=tuple(compiler.leaves),
        reads=union(leaf.reads for leaf in compiler.leaves),
        limits=limits,
        _build=build,
        _is_measured=compiler.read_count > _READS_UNMEASURED_MAX,
    )


class _TemplateCompiler:
    """One pass over a template that collects leaves and problems."""

    def __init__(self, limits: SelectorLimits) -> None:
        self.leaves: list[SelectorLeaf] = []
        self.problems: list[SelectorProblem] = []
        self.read_count = 0
        self._limits = limits

    def compile_node(self, node: JsonValue, pointer: str) -> _Evaluator:
        """Return a builder for this part of the template; constants are built once and shared."""
        if isinstance(node, str):
            return self._string(node, pointer)
        leaves_before = len(self.leaves)
        if isinstance(node, dict):
            build = self._object(node, pointer)
        elif isinstance(node, list):
            build = self._array([self.compile_node(item, f"{pointer}/{i}") for i, item in enumerate(node)])
        else:
            return _constant(normalize_numbers(node))
        if len(self.leaves) == leaves_before and not self.problems:
            return _constant(build(_NO_SCOPE))
        return build

    def _object(self, node: JsonObject, pointer: str) -> _Evaluator:
        members: list[tuple[str, _Evaluator]] = []
        for key, child in node.items():
            place = f"{pointer}/{escape(key)}"
            build = self.compile_node(child, place)
            try:
                members.append((read_key(key), build))
            except MarkerInvalid as error:
                self._refuse(place, "", str(error))
        return lambda scope: {key: build(scope) for key, build in members}

    def _array(self, items: list[_Evaluator]) -> _Evaluator:
        return lambda scope: [build(scope) for build in items]

    def _string(self, text: str, pointer: str) -> _Evaluator:
        try:
            content = read_string(text)
        except MarkerInvalid as error:
            self._refuse(pointer, "", str(error))
            return _constant(None)
        if not isinstance(content, MarkedExpression):
            return _constant(content)
        return self._leaf(content.text, pointer)

    def _leaf(self, expression: str, pointer: str) -> _Evaluator:
        try:
            tree = parse(expression, self._limits)
        except ExpressionInvalid as error:
            self._refuse(pointer, expression, str(error))
            return _constant(None)
        analysis = analyse(tree)
        for message in analysis.problems:
            self._refuse(pointer, expression, message)
        if analysis.problems:
            return _constant(None)
        run = compile_expression(tree)
        if any(_makes_number(node) for node in _nodes(tree)):
            run = _normalizing(run)
        self.read_count += sum(isinstance(node, Name) for node in _nodes(tree))
        leaf = SelectorLeaf(pointer=pointer, expression=expression, reads=analysis.reads, _run=run)
        self.leaves.append(leaf)
        return leaf.evaluate

    def _refuse(self, pointer: str, expression: str, message: str) -> None:
        self.problems.append(SelectorProblem(pointer=pointer, expression=expression, message=message))


class _NoScope:
    """The scope of a part without expressions."""

    trigger: JsonObject = {}  # noqa: RUF012 - never read, let alone written
    change: JsonValue = None
    run: JsonObject = {}  # noqa: RUF012 - as above

    def step_output(self, step_id: str) -> JsonValue:
        raise LookupError(step_id)

    def step_artifacts(self, step_id: str) -> list[JsonObject]:
        raise LookupError(step_id)


_NO_SCOPE = _NoScope()


def _constant(value: JsonValue) -> _Evaluator:
    return lambda scope: value


def _nodes(tree: Expression) -> Iterator[Expression]:
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(children(node))


def _makes_number(node: Expression) -> bool:
    """Tell whether this node can yield an integral double, which the result must hold as int."""
    if isinstance(node, Literal):
        return isinstance(node.value, float)
    return isinstance(node, Binary) and node.operator in "+-*/"


def _normalizing(run: _Evaluator) -> _Evaluator:
    return lambda scope: normalize_numbers(run(scope))

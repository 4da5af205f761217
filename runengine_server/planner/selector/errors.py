"""How a selector can be wrong: at registration (all problems at once) or at execution (one leaf)."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorProblem:
    """One thing wrong with a template.

    Attributes:
        pointer: RFC 6901 pointer into the template.
        expression: the text between `${{` and `}}`; empty when the problem is not inside an expression.
        message: a phrase a person reads; names the column when the problem has one.
    """

    pointer: str
    expression: str
    message: str

    def __str__(self) -> str:
        where = f"{self.pointer or 'template'}: {self.message}"
        return f"{where} in ${{{{ {self.expression} }}}}" if self.expression else where


class SelectorInvalid(ValueError):  # noqa: N818 - the name other layers know it by
    """The template is refused; carries every problem found, in template order."""

    def __init__(self, problems: Sequence[SelectorProblem]) -> None:
        """Remember the problems, at least one."""
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class SelectorFailed(RuntimeError):  # noqa: N818 - the name other layers know it by
    """A leaf has no value for this run (step failure INPUT_SELECTOR_FAILED); never says what the data was."""

    def __init__(self, pointer: str, expression: str, message: str) -> None:
        """Remember the leaf and the reason.

        Args:
            pointer: RFC 6901 pointer into the step's input; empty for the input as a whole.
            expression: the leaf's expression; empty for the input as a whole.
            message: why there is no value.
        """
        where = f"{pointer or 'input'}: {message}"
        super().__init__(f"{where} in ${{{{ {expression} }}}}" if expression else where)
        self.pointer = pointer
        self.expression = expression
        self.message = message


class ExpressionInvalid(Exception):  # noqa: N818 - internal; becomes a SelectorProblem
    """The text is not an expression of the language."""

    def __init__(self, message: str, offset: int) -> None:
        """Remember what is wrong and where (0-based offset into the expression)."""
        super().__init__(f"column {offset + 1}: {message}")


class EvaluationFailed(Exception):  # noqa: N818 - internal; becomes a SelectorFailed
    """The expression has no value in this scope."""

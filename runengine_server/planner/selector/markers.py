"""Tell an expression from text in a template: `${{ expr }}` is one, `$${{` writes a literal `${{`."""

from dataclasses import dataclass
from typing import Final

_OPEN: Final = "${{"
_CLOSE: Final = "}}"
_ESCAPED_OPEN: Final = "$${{"


@dataclass(frozen=True, slots=True)
class Expression:
    """A string of the template that is an expression."""

    text: str


class MarkerInvalid(ValueError):  # noqa: N818 - internal; becomes a SelectorProblem
    """The string mixes text and expression, or does not close one."""


def read_string(text: str) -> Expression | str:
    """Return the expression a string leaf is, or the text it stands for.

    Raises:
        MarkerInvalid: an expression with text around it, or one that is not closed.
    """
    if text.startswith(_OPEN):
        if text.endswith(_CLOSE) and len(text) >= len(_OPEN) + len(_CLOSE):
            return Expression(text[len(_OPEN) : -len(_CLOSE)].strip())
        if _CLOSE not in text:
            raise MarkerInvalid("the expression is not closed by '}}'")
    if _OPEN in text:
        return _unescaped(
            text,
            "text around an expression is not allowed: join strings inside it, "
            "as in ${{ \"take \" + trigger.name }}, or write '$${{' for a literal '${{'",
        )
    return text


def read_key(text: str) -> str:
    """Return the member name a template key stands for.

    Raises:
        MarkerInvalid: an expression in a key.
    """
    if _OPEN not in text:
        return text
    return _unescaped(text, "a key cannot be an expression; build the object with ${{ {key: value} }}")


def _unescaped(text: str, refusal: str) -> str:
    if _OPEN in text.replace(_ESCAPED_OPEN, ""):
        raise MarkerInvalid(refusal)
    return text.replace(_ESCAPED_OPEN, _OPEN)

"""Split an expression into tokens; string and number literals leave here as values."""

import re
from dataclasses import dataclass

from runengine_server.domain.json_limits import is_representable
from runengine_server.planner.selector.errors import ExpressionInvalid

# The order matters: longer alternatives first. Source: CEL language definition, "Lexis".
_TOKEN = re.compile(
    r"""
      (?P<space>(?:[\t\n\f\r\ ]|//[^\n]*)+)
    | (?P<string>[rR]?(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}
        |"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*'))
    | (?P<double>(?:[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+))
    | (?P<int>0[xX][0-9a-fA-F]+|[0-9]+)
    | (?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
    | (?P<symbol>\.\?|\[\?|&&|\|\||<=|>=|==|!=|[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
_RAW_STRING = re.compile(r"""[rR](\"{3}|'{3}|"|')(.*)\1""", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\?\"'`])|[xX]([0-9a-fA-F]{2})|([0-3][0-7]{2})|u(.{4})|U(.{8})|(.?))", re.DOTALL)
_SIMPLE_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_HEX = re.compile(r"[0-9a-fA-F]+")
_INT_CHARS_MAX = 40


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its kind (`string`, `double`, `int`, `name`, `symbol`, `end`), its text and its value if literal."""

    kind: str
    text: str
    at: int
    value: str | int | float = ""


def tokenize(expression: str) -> list[Token]:
    """Return the tokens, closed by one of kind `end`.

    Raises:
        ExpressionInvalid: a character or literal that the language does not have.
    """
    tokens: list[Token] = []
    position = 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise ExpressionInvalid(_unknown(expression, position), position)
        kind, text = str(match.lastgroup), match[0]
        position = match.end()
        if kind != "space":
            tokens.append(Token(kind, text, match.start(), _literal(kind, text, match.start())))
        if kind in ("int", "double"):
            _refuse_suffix(expression, position)
        elif kind == "name" and text in ("b", "B", "br", "rb") and expression[position : position + 1] in ("'", '"'):
            raise ExpressionInvalid("bytes literals are not part of the language (JSON has no bytes)", match.start())
    tokens.append(Token("end", "", len(expression)))
    return tokens


def _refuse_suffix(expression: str, position: int) -> None:
    following = expression[position : position + 1]
    if following in ("u", "U"):
        raise ExpressionInvalid("unsigned literals are not part of the language (JSON has no unsigned)", position)
    if following == "_" or following.isalnum():
        raise ExpressionInvalid("a number is followed by a letter or digit", position)


def _unknown(expression: str, position: int) -> str:
    character = expression[position]
    if character in "\"'":
        return "the string is not closed"
    if character in "&|=":
        return f"unexpected '{character}' (did you mean '{character * 2}'?)"
    if character == "$":
        return "unexpected '$': one `${{ }}` holds one expression; join text with +"
    return f"unexpected character '{character}'" if character.isprintable() else "unexpected control character"


def _literal(kind: str, text: str, at: int) -> str | int | float:
    if kind == "string":
        return _unquoted(text, at)
    if kind == "int":
        if len(text) > _INT_CHARS_MAX:
            raise ExpressionInvalid("the number is beyond ±(2^53−1)", at)
        return _bounded(int(text, 16 if text[:2] in ("0x", "0X") else 10), at)
    if kind == "double":
        return _bounded(float(text), at)
    return ""


def _bounded(number: float, at: int) -> float:
    if not is_representable(number):
        raise ExpressionInvalid("the number is beyond ±(2^53−1)", at)
    return number


def _unquoted(text: str, at: int) -> str:
    raw = _RAW_STRING.fullmatch(text)
    if raw is not None:
        return raw[2]
    width = 3 if text[:3] in ('"""', "'''") and len(text) >= 6 else 1

    def unescape(match: re.Match[str]) -> str:
        simple, hexadecimal, octal, short, long, _ = match.groups()
        if simple is not None:
            return _SIMPLE_ESCAPES.get(simple, simple)
        digits = hexadecimal or short or long
        code = int(octal, 8) if octal else int(digits, 16) if digits and _HEX.fullmatch(digits) else -1
        if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise ExpressionInvalid(f"the escape '{match[0]}' stands for no character", at + width + match.start())
        return chr(code)

    return _ESCAPE.sub(unescape, text[width:-width])

"""Which steps an input selector reads, as far as its text tells without a parser; the server has the last word."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf import struct_pb2

_OPEN, _CLOSE = "${{", "}}"
_TEXT_OR_COMMENT = re.compile(
    r'[rR]?(?:"""(?:[^\\]|\\.)*?"""|'
    r"'''(?:[^\\]|\\.)*?'''|"
    r'"(?:[^"\\\n]|\\.)*"|'
    r"'(?:[^'\\\n]|\\.)*')|//[^\n]*",
    re.DOTALL,
)
_KEY = re.compile(r"""["']\w+["']""")
_DOT = re.compile(r"\s*\.\s*")
_STEP = re.compile(r"""(?<![\w.?"'])steps(?:\.(\w+)|\s*\[\s*["'](\w+)["']\s*\])""")
_RUN_ID = re.compile(r"""(?<![\w.?"'])run(?:\.id\b|\s*\[\s*["']id["']\s*\])""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One place of a template that reads another step, or the id of the run (`step_id` is empty)."""

    pointer: str
    step_id: str


def find_reads(selector: struct_pb2.Struct) -> Iterator[Read]:
    """Every read of a template, each with the pointer of its leaf."""
    for pointer, text in _leaves(selector, ""):
        if not (text.startswith(_OPEN) and text.endswith(_CLOSE)):
            continue
        code = _TEXT_OR_COMMENT.sub(_without_text, text[len(_OPEN) : -len(_CLOSE)])
        code = _DOT.sub(".", code)
        for step_id in dict.fromkeys(field or key for field, key in _STEP.findall(code)):
            yield Read(pointer=pointer, step_id=step_id)
        if _RUN_ID.search(code):
            yield Read(pointer=pointer, step_id="")


def _without_text(match: re.Match[str]) -> str:
    """Nothing in place of a text or a comment, but for a text that may be a key: `steps["plan"]`."""
    return match[0] if _KEY.fullmatch(match[0]) else "''"


def _leaves(value: struct_pb2.Struct | struct_pb2.ListValue | struct_pb2.Value, at: str) -> Iterator[tuple[str, str]]:
    match value:
        case struct_pb2.Struct():
            for key in value.fields:
                yield from _leaves(value.fields[key], f"{at}/{key.replace('~', '~0').replace('/', '~1')}")
        case struct_pb2.ListValue():
            for index, item in enumerate(value.values):
                yield from _leaves(item, f"{at}/{index}")
        case struct_pb2.Value():
            match value.WhichOneof("kind"):
                case "struct_value":
                    yield from _leaves(value.struct_value, at)
                case "list_value":
                    yield from _leaves(value.list_value, at)
                case "string_value":
                    yield at, value.string_value

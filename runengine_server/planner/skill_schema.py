"""Holds the inputs and outputs of skills to the schemas their runners declare; schemas are compiled once."""

import logging
from collections import OrderedDict
from typing import Final

from jsonschema.protocols import Validator

from runengine_server.domain.json_value import JsonObject
from runengine_server.planner.bounded_schema import bounded_validator, departures
from runengine_server.planner.payload_schema import SchemaProblem, schema_problems

INLINE_BYTES_MAX: Final = 16 * 1024
"""Checking takes up to 20 µs an item: what would hold the event loop for milliseconds goes to a thread."""

_COMPILED_MAX: Final = 2048
_SHOWN_MAX: Final = 10

_log = logging.getLogger(__name__)


class SkillSchemas:
    """Schemas compiled once each. A catalogue keeps its schemas while they stay equal, so they are told by identity."""

    def __init__(self) -> None:
        """Start with none compiled."""
        self._compiled: OrderedDict[int, tuple[JsonObject, Validator | None]] = OrderedDict()

    def problems(self, schema: JsonObject, value: JsonObject) -> list[SchemaProblem]:
        """Return where the value departs from a skill's schema; a schema that cannot be used refuses nothing."""
        validator = self._validator(schema)
        return [] if validator is None else departures(validator, value)

    def _validator(self, schema: JsonObject) -> Validator | None:
        key = id(schema)
        known = self._compiled.get(key)
        if known is not None:
            self._compiled.move_to_end(key)
            return known[1]
        wrong = schema_problems(schema)
        if wrong:
            _log.warning("Schema of a skill is not used: %s: %s", wrong[0].pointer or "its root", wrong[0].message)
        validator = None if wrong else bounded_validator(schema)
        self._compiled[key] = (schema, validator)  # the schema too: while it lives, no other has its id
        if len(self._compiled) > _COMPILED_MAX:
            self._compiled.popitem(last=False)
        return validator


def summary(problems: list[SchemaProblem]) -> str:
    """The first problem in words, and how many more there are."""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{problems[0].pointer or 'the whole'} {problems[0].message}{more}"


def details(problems: list[SchemaProblem]) -> JsonObject:
    """The first problem's pointer, and the first problems in full, for a program."""
    shown = problems[:_SHOWN_MAX]
    return {
        "pointer": problems[0].pointer,
        "violations": [{"pointer": problem.pointer, "problem": problem.message} for problem in shown],
    }

"""Reads and writes YAML whose plain scalars mean what they mean in JSON, with the place of everything that is wrong."""

import re
from collections.abc import Sequence

import yaml

from runengine_client.payload import JsonValue
from runengine_client.workflow.positions import (
    ParsedText,
    PlacedViolation,
    Segment,
    Spot,
    field_path,
    repeated_key,
    unreadable,
)

_LINE_WIDTH = 120

_SEQUENCE = "tag:yaml.org,2002:seq"
_MAPPING = "tag:yaml.org,2002:map"
_STRING = "tag:yaml.org,2002:str"


def parse_yaml(text: str) -> ParsedText:
    """What a YAML text says; where a key appears twice, the first one counts and the others are violations."""
    try:
        reading = _Reading(_JsonLikeLoader(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part) or "is not YAML"
        return unreadable(said, mark.line + 1, mark.column + 1) if mark else unreadable(said)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return unreadable(" ".join(str(error).split()))
    return ParsedText(document=reading.document, violations=reading.violations, spots=lambda: reading.root)


def format_yaml(document: JsonValue) -> str:
    """A YAML text that `parse_yaml`, and any other reader of YAML, takes as this document."""
    text: str = yaml.dump(document, Dumper=_JsonLikeDumper, sort_keys=False, allow_unicode=True, width=_LINE_WIDTH)
    return text


class _Reading:
    """One document as a value and as places. Aliases share both: what they expand to costs nothing here."""

    def __init__(self, loader: "_JsonLikeLoader") -> None:
        self._loader = loader
        self._done: dict[int, tuple[object, Spot]] = {}
        self.violations: list[PlacedViolation] = []
        node = loader.get_single_node()
        self.document, self.root = (None, Spot(1, 1)) if node is None else self._read(node, ())

    def _read(self, node: yaml.Node, path: tuple[Segment, ...]) -> tuple[object, Spot]:
        if id(node) not in self._done:
            spot = _spot(node)
            if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
                self._read_mapping(node, spot, path)
            elif isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
                self._read_sequence(node, spot, path)
            else:
                self._done[id(node)] = self._loader.construct_object(node), spot
        return self._done[id(node)]

    def _read_mapping(self, node: yaml.MappingNode, spot: Spot, path: tuple[Segment, ...]) -> None:
        found: dict[str, object] = {}
        self._done[id(node)] = found, spot
        for key_node, value_node in node.value:
            key, key_spot = self._key(key_node, path)
            if key in spot.keys:
                self.violations.append(repeated_key((*path, key), key_spot, spot.keys[key]))
                continue
            spot.keys[key] = key_spot
            found[key], spot.fields[key] = self._read(value_node, (*path, key))

    def _read_sequence(self, node: yaml.SequenceNode, spot: Spot, path: tuple[Segment, ...]) -> None:
        found: list[object] = []
        self._done[id(node)] = found, spot
        for index, item in enumerate(node.value):
            value, item_spot = self._read(item, (*path, index))
            found.append(value)
            spot.items.append(item_spot)

    def _key(self, node: yaml.Node, path: Sequence[Segment]) -> tuple[str, Spot]:
        spot = _spot(node)
        if isinstance(node, yaml.ScalarNode) and node.tag == _STRING:
            return node.value, spot
        written = repr(node.value) if isinstance(node, yaml.ScalarNode) else "of several values"
        self.violations.append(
            PlacedViolation(
                field=field_path(path),
                description=f"the key {written} must be a string; put it in quotes",
                line=spot.line,
                column=spot.column,
            )
        )
        return str(node.value) if isinstance(node, yaml.ScalarNode) else f"line {spot.line}", spot


def _spot(node: yaml.Node) -> Spot:
    return Spot(node.start_mark.line + 1, node.start_mark.column + 1)


class _JsonLikeLoader(yaml.SafeLoader):
    """YAML whose plain scalars mean what they mean in JSON: no `yes`, no octals, no dates, no merge keys."""

    # Own table: the base class's is shared by every loader of the process.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's protocol


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", ["n", "~", ""]),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", "-0123456789"),
):
    _JsonLikeLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


class _JsonLikeDumper(yaml.SafeDumper):
    """Quotes a text that either YAML 1.1 or `_JsonLikeLoader` would read as something else; writes no aliases."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's protocol
        first: [
            *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
            *_JsonLikeLoader.yaml_implicit_resolvers.get(first, []),
        ]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_JsonLikeLoader.yaml_implicit_resolvers}
    }

    def ignore_aliases(self, data: object) -> bool:
        """Equal parts are written out each time."""
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Escapes Unicode's own line breaks, which the other styles of quotes would fold."""
        style = '"' if any(each in text for each in "\x85\u2028\u2029\ufeff") else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_JsonLikeDumper.add_representer(str, _JsonLikeDumper.represent_text)

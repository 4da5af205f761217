"""Reads workflow files: YAML or JSON, strictly, with every error of every file reported at once."""

import json
import re
from collections.abc import Hashable
from pathlib import Path

import yaml

from runengine_client.errors import FieldViolation
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow.document import document_of, workflow_of
from runengine_client.workflow.reading import WorkflowDocumentError

SUFFIXES = (".yaml", ".yml", ".json")

BYTES_MAX = 3 * 1024 * 1024
"""The contract's limit of a definition; a larger file cannot be registered."""

_LINE_WIDTH = 120


def load_workflow(path: str | Path) -> workflow_pb2.Workflow:
    """The workflow in a YAML or JSON file.

    Raises:
        WorkflowDocumentError: the file is not readable as one; every error is listed with its field path.
        OSError: the file cannot be read.
    """
    path = Path(path)
    content = path.read_bytes()
    if len(content) > BYTES_MAX:
        raise _broken(str(path), f"is {len(content)} bytes, and a workflow may have {BYTES_MAX}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _broken(str(path), f"is not UTF-8 text: {error}") from None
    return read_workflow(text, str(path), is_json=path.suffix == ".json")


def read_workflow(text: str, source: str = "", *, is_json: bool = False) -> workflow_pb2.Workflow:
    """The workflow in a YAML or JSON text.

    Args:
        text: one document.
        source: where it comes from, for errors.
        is_json: read it as JSON only; YAML takes JSON too.

    Raises:
        WorkflowDocumentError: it cannot be read; every error is listed with its field path.
    """
    try:
        document = _parse_json(text) if is_json else yaml.load(text, Loader=_JsonLikeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _broken(source, " ".join(str(error).split())) from None
    return workflow_of(document, source)


def format_workflow(workflow: workflow_pb2.Workflow) -> str:
    """A YAML text that `read_workflow` reads as the same workflow, and that other readers of YAML take the same way."""
    text: str = yaml.dump(
        document_of(workflow), Dumper=_JsonLikeDumper, sort_keys=False, allow_unicode=True, width=_LINE_WIDTH
    )
    return text


def load_directory(path: str | Path) -> list[workflow_pb2.Workflow]:
    """The workflows of a directory's YAML and JSON files, by file name; folders in it are not entered.

    Raises:
        WorkflowDocumentError: files that cannot be read, or two with the same name and version; all of them at once.
        OSError: the directory cannot be read.
    """
    workflows: dict[tuple[str, str], tuple[str, workflow_pb2.Workflow]] = {}
    violations: list[FieldViolation] = []
    for file in sorted(Path(path).iterdir()):
        if file.suffix not in SUFFIXES or not file.is_file():
            continue
        try:
            workflow = load_workflow(file)
        except WorkflowDocumentError as error:
            violations.extend(
                FieldViolation(field=f"{file.name}: {each.field}", description=each.description)
                for each in error.violations
            )
            continue
        key = (workflow.name, workflow.version)
        if key in workflows:
            described = f"{workflow.name} {workflow.version} is already defined by {workflows[key][0]}"
            violations.append(FieldViolation(field=f"{file.name}: workflowName", description=described))
        else:
            workflows[key] = (file.name, workflow)
    if violations:
        raise WorkflowDocumentError(violations, str(path))
    return [workflow for _, workflow in workflows.values()]


def _broken(source: str, description: str) -> WorkflowDocumentError:
    return WorkflowDocumentError([FieldViolation(field="document", description=description)], source)


def _parse_json(text: str) -> object:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"the key {key!r} appears twice in one object")
            found[key] = value
        return found

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is not JSON")

    parsed: object = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    return parsed


class _JsonLikeLoader(yaml.SafeLoader):
    """YAML whose plain scalars mean what they mean in JSON: no `yes`, no octals, no dates, no merge keys."""

    # Own table: the base class's is shared by every loader of the process.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's protocol

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        """A dict with string keys; a key that appears twice is an error."""
        found: dict[Hashable, object] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} must be a string", key_node.start_mark
                )
            if key in found:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} appears twice", key_node.start_mark
                )
            found[key] = self.construct_object(value_node, deep=deep)
        return found


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

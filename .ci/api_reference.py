"""Writes docs/api.md, the reference of the wire contract, from the generated code and the protos' comments.

python .ci/api_reference.py            writes
python .ci/api_reference.py --check    writes nothing; ends with 1 where the page is not what would come out
"""

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
COMMENTS: dict[str, str] = json.loads((ROOT / "runengine_client" / "pb" / "comments.json").read_text(encoding="utf-8"))

# In the order in which a reader meets them.
FILES = ("run_engine", "run", "event", "workflow", "cache", "queue", "skill_runner", "error_reason")
SCALARS = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}
INTRODUCTION = """# API reference

Generated from [`protos/runengine/v1`](../protos/runengine/v1/run_engine.proto); `make protos` writes it anew. The
package is `runengine.v1`. gRPC serves it on port 50051, Connect and gRPC-Web on port 3001
([browsers.md](browsers.md)); how REST shows the same is in [http.md](http.md). Errors carry a reason of
[ErrorReason](#errorreason).

"""


def main() -> int:
    """The page is fresh, or with --check it is said whether it is."""
    files: list[FileDescriptor] = [
        import_module(f"runengine_client.pb.runengine.v1.{name}_pb2").DESCRIPTOR for name in FILES
    ]
    page = INTRODUCTION + "\n\n".join(line for file in files for line in sections(file)) + "\n"
    if "--check" not in sys.argv:
        PAGE.write_text(page, encoding="utf-8", newline="\n")
        return 0
    is_fresh = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page
    print("docs/api.md is fresh" if is_fresh else "docs/api.md is stale; run: make protos")  # noqa: T201
    return 0 if is_fresh else 1


def sections(file: FileDescriptor) -> Iterator[str]:
    """A file's services, messages and enums, each in Markdown."""
    yield f"## {Path(file.name).name}"
    for service in file.services_by_name.values():
        yield from service_sections(service)
    for message in file.message_types_by_name.values():
        yield from message_sections(message)
    for enum in file.enum_types_by_name.values():
        yield enum_section(enum)


def service_sections(service: ServiceDescriptor) -> Iterator[str]:
    """A service and its methods."""
    yield f"### {service.name}\n\n{paragraphs(service.full_name)}"
    for method in service.methods:
        yield f"#### {method.name}\n\n{signature(method)}\n\n{paragraphs(method.full_name)}"


def signature(method: MethodDescriptor) -> str:
    """What a method takes and gives, with links."""
    takes, gives = (
        f"stream of {link(kind)}" if is_stream else link(kind)
        for kind, is_stream in (
            (method.input_type, method.client_streaming),
            (method.output_type, method.server_streaming),
        )
    )
    is_read_only = method.GetOptions().idempotency_level == 1
    return f"{takes} → {gives}{', without side effects' if is_read_only else ''}"


def message_sections(message: Descriptor) -> Iterator[str]:
    """A message, then those that are declared inside it."""
    rows = "".join(
        f"| `{field.name}` = {field.number} | {type_of(field)} | {cell(field.full_name)} |\n"
        for field in message.fields
    )
    table = f"\n\n| field | type | meaning |\n|---|---|---|\n{rows}".rstrip("\n") if rows else ""
    yield f"### {heading(message)}\n\n{paragraphs(message.full_name)}{table}"
    for enum in message.enum_types:
        yield enum_section(enum)
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            yield from message_sections(nested)


def enum_section(enum: EnumDescriptor) -> str:
    """An enum and its values."""
    rows = "".join(
        f"| `{value.name}` = {value.number} | {cell(f'{enum.full_name}.{value.name}')} |\n" for value in enum.values
    )
    return f"### {heading(enum)}\n\n{paragraphs(enum.full_name)}\n\n| value | meaning |\n|---|---|\n{rows}".rstrip("\n")


def type_of(field: FieldDescriptor) -> str:
    """A field's type, with how many there may be of it, and of which choice it is part."""
    kind = field.message_type or field.enum_type
    if field.message_type and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        return f"map from {type_of(key)} to {type_of(value)}"
    name = link(kind) if kind else SCALARS[field.type]
    choice = field.containing_oneof
    if choice and not choice.name.startswith("_"):
        return f"{name}, one of `{choice.name}`"
    return f"{'repeated ' * field.is_repeated}{'optional ' * bool(choice)}{name}"


def link(kind: Descriptor | EnumDescriptor) -> str:
    """A type's name; of ours a link to its section."""
    if not kind.full_name.startswith("runengine."):
        return kind.name
    return f"[{heading(kind)}](#{heading(kind).lower().replace('.', '')})"


def heading(kind: Descriptor | EnumDescriptor) -> str:
    """Its name within the package."""
    return str(kind.full_name.removeprefix("runengine.v1."))


def paragraphs(name: str) -> str:
    """A declaration's comment; what it says of statuses and repetition stands by itself."""
    return re.sub(r" (?=(?:Statuses|Retry): )", "\n\n", escaped(COMMENTS.get(name, "")))


def cell(name: str) -> str:
    """A declaration's comment as it may stand in a table."""
    return escaped(COMMENTS.get(name, "")).replace("|", r"\|")


def escaped(text: str) -> str:
    """The text, of which nothing outside of code is taken for markup."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([<*\[\]])", r"\\\1", part) for part in parts)


if __name__ == "__main__":
    sys.exit(main())

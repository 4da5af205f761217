"""Writes the comments of a descriptor set as JSON: {"runengine.v1.Run.id": "…"}; runs in the generators' environment.

python .ci/proto_comments.py DESCRIPTOR_SET > comments.json
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

# Numbers of the fields of FileDescriptorProto, DescriptorProto, … that a location's path goes through.
MESSAGE, ENUM, SERVICE = 4, 5, 6
FIELD, NESTED, NESTED_ENUM, VALUE, METHOD = 2, 3, 4, 2, 2


def main() -> None:
    """The comments are on standard output."""
    files = FileDescriptorSet.FromString(Path(sys.argv[1]).read_bytes())
    found = {name: comment for file in files.file for name, comment in comments(file)}
    sys.stdout.write(json.dumps(dict(sorted(found.items())), indent=1, ensure_ascii=False) + "\n")


def comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Full names and comments, one line of text each, of what a file declares."""
    for location in file.source_code_info.location:
        text = " ".join(location.leading_comments.split())
        name = name_at(file, list(location.path)) if text else None
        if name:
            yield f"{file.package}.{name}", text


def name_at(file: FileDescriptorProto, path: list[int]) -> str | None:
    """The name at a path such as [4, 0, 2, 1], which is the second field of the first message."""
    at, names = file, []
    while len(path) >= 2:
        kind, index, *path = path
        children = {
            (FileDescriptorProto, MESSAGE): "message_type",
            (FileDescriptorProto, ENUM): "enum_type",
            (FileDescriptorProto, SERVICE): "service",
        }.get((type(at), kind)) or {
            ("DescriptorProto", FIELD): "field",
            ("DescriptorProto", NESTED): "nested_type",
            ("DescriptorProto", NESTED_ENUM): "enum_type",
            ("EnumDescriptorProto", VALUE): "value",
            ("ServiceDescriptorProto", METHOD): "method",
        }.get((type(at).__name__, kind))
        if children is None:
            return None
        at = getattr(at, children)[index]
        names.append(at.name)
    return None if path or not names else ".".join(names)


if __name__ == "__main__":
    main()

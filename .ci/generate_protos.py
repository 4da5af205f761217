#!/usr/bin/env python3
"""Generates runengine_client/pb from protos/, or with --check says whether the committed code is what would come out.

Stdlib only, so that any Python >= 3.11 can start it. The generators live in an environment of their own
(.tools/protoc-venv, made on demand): gencode of a newer grpcio-tools would raise the protobuf and grpcio versions that
every client needs. docs/adr/0001-generated-code.md says why it is done this way.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
OUTPUT = ROOT / "runengine_client" / "pb"
TOOLS = ROOT / ".tools" / "protoc-venv"

# grpcio-tools decides the runtime floor (protobuf 6.31.1, grpcio 1.76); the other pins keep the output reproducible.
PINS = ("grpcio-tools==1.76.0", "grpcio==1.76.0", "protobuf==6.33.6", "mypy-protobuf==5.1.0")

# protoc writes `from runengine.v1 import …`, which needs the output folder on sys.path; the package path does not.
# Only import lines are touched: descriptors keep their names, runengine/v1/*.proto.
OWN_IMPORT = re.compile(r"^from runengine\.", re.MULTILINE)
PACKAGE_DOCSTRINGS = {
    "": "Generated protobuf and gRPC code; only the client, rpc, http and the gRPC skill adapter import it.",
    "runengine": "Generated code of the protos under protos/runengine.",
    "runengine/v1": "Generated code of the package runengine.v1: the wire contract.",
}


def main() -> int:
    """Generates or checks; returns 0 if the committed code is fresh now."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; print a diff and exit 1 if it is stale")
    is_check = parser.parse_args().check
    python = tool_environment()
    with tempfile.TemporaryDirectory(prefix="runengine-pb-") as folder:
        generate(python, Path(folder))
        fresh = read_tree(Path(folder))
    committed = read_tree(OUTPUT)
    if is_check:
        return report(committed, fresh)
    write_tree(committed, fresh)
    return 0


def tool_environment() -> Path:
    """Returns the Python of an environment that has exactly PINS, made or remade if it has not."""
    python = TOOLS / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = TOOLS / "pins.txt"
    wanted = "\n".join(PINS)
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    sys.stderr.write(f"Making {TOOLS.relative_to(ROOT)} ({', '.join(PINS)})\n")
    venv.create(TOOLS, clear=True, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS], check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def generate(python: Path, output: Path) -> None:
    """Writes the complete content of OUTPUT below `output`; gRPC stubs only for the files that have a service."""
    files = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    with_service = [
        file for file in files if re.search(r"^service ", (PROTOS / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    run_protoc(python, files, [f"--python_out={output}", f"--mypy_out=quiet:{output}"])
    run_protoc(python, with_service, [f"--grpc_python_out={output}", f"--mypy_grpc_out=quiet:{output}"])
    descriptors = output / "descriptors.binpb"
    run_protoc(python, files, ["--include_source_info", f"--descriptor_set_out={descriptors}"])
    command = [str(python), str(ROOT / ".ci" / "proto_comments.py"), str(descriptors)]
    comments = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    (output / "comments.json").write_text(comments, encoding="utf-8", newline="\n")
    for path in output.rglob("*.py*"):
        text = path.read_text(encoding="utf-8")
        path.write_text(OWN_IMPORT.sub("from runengine_client.pb.runengine.", text), encoding="utf-8", newline="\n")
    for folder, docstring in PACKAGE_DOCSTRINGS.items():
        (output / folder / "__init__.py").write_text(f'"""{docstring}"""\n', encoding="utf-8", newline="\n")


def run_protoc(python: Path, files: list[str], outputs: list[str]) -> None:
    """Runs the pinned protoc with the pinned plugins over `files`, named relative to protos/ so no path leaks."""
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [str(python), "-m", "grpc_tools.protoc", "-I", ".", *outputs, *files]
    subprocess.run(command, check=True, cwd=PROTOS, env={**os.environ, "PATH": path})


def read_tree(folder: Path) -> dict[str, str]:
    """Returns the text of every generated file below `folder` by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".py", ".pyi", ".json"}
    }


def write_tree(committed: dict[str, str], fresh: dict[str, str]) -> None:
    """Makes OUTPUT equal to `fresh`, touching only the files that differ."""
    for name in committed.keys() - fresh.keys():
        (OUTPUT / name).unlink()
    for name, text in fresh.items():
        if committed.get(name) != text:
            (OUTPUT / name).parent.mkdir(parents=True, exist_ok=True)
            (OUTPUT / name).write_text(text, encoding="utf-8", newline="\n")


def report(committed: dict[str, str], fresh: dict[str, str]) -> int:
    """Prints how the committed code differs from the fresh one; returns 1 if it does."""
    stale = sorted(name for name in committed.keys() | fresh.keys() if committed.get(name) != fresh.get(name))
    for name in stale:
        before, after = (tree.get(name, "").splitlines(keepends=True) for tree in (committed, fresh))
        sys.stdout.writelines(difflib.unified_diff(before, after, f"committed/{name}", f"generated/{name}", n=1))
    if stale:
        sys.stdout.write(f"\n{len(stale)} generated files are stale; run: python .ci/generate_protos.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

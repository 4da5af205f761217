"""Lays out what the site is built from in build/site-source: the documents, and a page for each file they link to.

Paths stay those of the repository, so links that work there work on the site, too. Only links to source files and to
folders are turned: to a page that shows the file, and to the folder's README.md, which is a list where there is none.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
STAGED = ROOT / "build" / "site-source"
DOCUMENTS = re.compile(r"(\w+|(docs|examples|deploy)/.+)\.md")
# Shown or offered by a browser as they are.
AS_THEY_ARE = {".md", ".svg", ".png", ".jpg", ".webp"}
LANGUAGES = {".py": "python", ".sql": "sql", ".proto": "protobuf", ".ts": "ts", ".js": "js", ".json": "json"}
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")
CODE_PAGE = """---
title: {path}
search:
  exclude: true
---

# {path}

~~~~~~ {{ .{language} linenums="1" }}
{text}
~~~~~~
"""


def main() -> None:
    """build/site-source holds everything that mkdocs needs, and nothing else."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {path for path in listed.split("\0") if path and (ROOT / path).is_file()}
    shutil.rmtree(STAGED, ignore_errors=True)
    documents = {path for path in files if DOCUMENTS.fullmatch(path)}
    linked = {target for path in documents for target in stage_document(path, files)}
    for path in linked - documents:
        stage_file(path)


def stage_document(path: str, files: set[str]) -> set[str]:
    """The document is staged with its links turned; returns the files that it links to."""
    linked: set[str] = set()

    def turn(found: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(path), found[1]))  # noqa: PTH118, PTH120
        if below := sorted(file for file in files if file.startswith(f"{target}/")):
            linked.update(stage_folder(target, below))
            return f"{found[1].rstrip('/')}/README.md"
        if target not in files:
            return found[1]  # for mkdocs to complain of
        linked.add(target)
        return found[1] if is_shown_as_it_is(target) else f"{found[1]}.md"

    write(path, LINK.sub(turn, (ROOT / path).read_text(encoding="utf-8")))
    return linked


def stage_folder(path: str, below: list[str]) -> list[str]:
    """A list of the folder's files is staged, where it has no README.md; returns the files that are listed."""
    if f"{path}/README.md" in below:
        return []
    names = [file.removeprefix(f"{path}/") for file in below]
    rows = [f"* [{name}]({name}{'' if is_shown_as_it_is(name) else '.md'})\n" for name in names]
    write(f"{path}/README.md", f"# {path}\n\n{''.join(rows)}")
    return below


def is_shown_as_it_is(path: str) -> bool:
    """Whether a browser makes something of it."""
    return PurePosixPath(path).suffix in AS_THEY_ARE


def stage_file(path: str) -> None:
    """The file is staged, source code as a page that shows it."""
    if is_shown_as_it_is(path):
        (STAGED / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, STAGED / path)
        return
    language = LANGUAGES.get(PurePosixPath(path).suffix, "text")
    write(f"{path}.md", CODE_PAGE.format(path=path, language=language, text=(ROOT / path).read_text(encoding="utf-8")))


def write(path: str, text: str) -> None:
    """The file is there with this text."""
    (STAGED / path).parent.mkdir(parents=True, exist_ok=True)
    (STAGED / path).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

"""Documents, locks and the image say what the code says."""

import re
import tomllib
from enum import Enum
from pathlib import Path

import pytest

from runengine_server.config import Settings

from . import source

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    *PROJECT["dependencies"],
    *(each for extra in PROJECT["optional-dependencies"].values() for each in extra),
]


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def shown(default: object) -> str:
    if default is None or default == "":
        return "none"
    if isinstance(default, Enum):
        default = default.value
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_every_setting_is_documented() -> None:
    """docs/configuration.md has a row for every setting, with its default, and none for a setting that is not there."""
    text = (REPOSITORY / "docs" / "configuration.md").read_text()
    server_part = text.partition("Embedded databases")[0]
    documented = dict(re.findall(r"^\| `([A-Z_]+)` \| (\S+) \|", server_part, re.MULTILINE))
    expected = {
        str(field.validation_alias or f"RUNENGINE_{name.upper()}"): "required"
        if field.is_required()
        else shown(field.default)
        for name, field in Settings.model_fields.items()
    }
    assert documented == expected


def test_every_dependency_has_a_reason() -> None:
    """docs/dependencies.md has a line for each dependency of pyproject.toml, and for no other."""
    text = (REPOSITORY / "docs" / "dependencies.md").read_text().partition("## Web console")[0]
    documented = re.findall(r"^\| ([a-z0-9-]+) \| \S", text, re.MULTILINE)
    assert sorted(name for name in documented if name != "package") == sorted(map(name_of, REQUIREMENTS))


def test_architecture_names_files_that_exist() -> None:
    """Every file and folder that docs/architecture.md points to is there."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    roots = [REPOSITORY, REPOSITORY / "runengine_server", REPOSITORY / "runengine_server" / "adapters" / "postgres"]
    pointers = re.findall(r"`([a-z_0-9/]+(?:\.(?:py|sql)|/))`", text)
    assert len(pointers) > 15
    assert [name for name in pointers if not any((root / name).exists() for root in roots)] == []


def test_architecture_names_every_package() -> None:
    """Every folder with code of server and client has a row in docs/architecture.md, which says what it is for."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    documented = set(re.findall(r"^\| `([a-z_/]+)/` \| \S", text.partition("## Packages")[2], re.MULTILINE))
    folders = {
        str(Path(path).parent)
        for path in source.modules() + [path for path in source.tracked() if path.endswith(".sql")]
        if path.startswith(("runengine_server/", "runengine_client/"))
    }
    assert folders - documented == {"runengine_server", "runengine_server/adapters"}


@pytest.mark.parametrize("lock", ["server", "demo", "test"])
def test_locks_hold_what_is_declared(lock: str) -> None:
    """A lock pins every dependency it is for, each with hashes, and names no place to get it from."""
    text = (REPOSITORY / "deploy" / "locks" / f"{lock}.txt").read_text()
    extras = PROJECT["optional-dependencies"]
    chosen = {"server": ["server"], "demo": ["server", "embedded", "campaign"], "test": list(extras)}[lock]
    declared = {name_of(each) for each in PROJECT["dependencies"]} | {
        name_of(each) for extra in chosen for each in extras[extra]
    }
    pins = re.findall(
        r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)([^\n]*)\n((?: +--hash=sha256:[0-9a-f]{64}[^\n]*\n?)*)",
        text,
        re.MULTILINE,
    )
    assert declared <= {name_of(name) for name, *_ in pins}
    assert [name for name, _, _, hashes in pins if not hashes] == []
    assert "://" not in text


def test_locks_agree() -> None:
    """The locks pin the same versions, so that one environment can serve demo and tests."""
    lines = [
        set(re.findall(r"^\S+==[^\s;]+", (REPOSITORY / "deploy" / "locks" / f"{lock}.txt").read_text(), re.MULTILINE))
        for lock in ("test", "demo", "server")
    ]
    assert lines[2] <= lines[1] <= lines[0]


def test_image() -> None:
    """The image runs as a numeric user that is not root, from the lock with hashes, and copies only what is there."""
    text = (REPOSITORY / "deploy" / "Containerfile").read_text().replace("\\\n", " ")
    instructions = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    last_stage = instructions[max(index for index, (word, _) in enumerate(instructions) if word == "FROM") :]
    users = [rest for word, rest in last_stage if word == "USER"]
    assert users and all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users)
    assert {rest.split()[0] for word, rest in instructions if word == "FROM"} == {"python:3.11-slim"}
    assert any("--require-hashes" in rest and "server.txt" in rest for word, rest in instructions if word == "RUN")
    allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        name for word, rest in instructions if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]
    ]
    assert sorted(copied) == sorted(allowed)
    assert [name for name in copied if not (REPOSITORY / name).exists()] == []

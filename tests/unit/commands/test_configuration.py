"""`config check` names what is wrong by variable, says what to write, and never shows a secret."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from runengine_server.__main__ import cli
from runengine_server.commands.effective import effective_settings, shown, without_secrets
from runengine_server.config import ConfigurationError, Settings, read_settings, variable_of

SECRET = "hunter2-s3cret"
GOOD = {"DATABASE_URL": f"postgresql://ann:{SECRET}@db:5432/engine", "RUNENGINE_ANONYMOUS": "true"}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith("RUNENGINE_") or name in ("DATABASE_URL", "REDIS_URL"):
            monkeypatch.delenv(name)


def check(*arguments: str, **variables: str) -> Result:
    done = CliRunner().invoke(cli, ["config", "check", *arguments], env=variables)
    assert SECRET not in done.output
    return done


def findings(**variables: str) -> dict[str, dict[str, Any]]:
    """What is said of each variable; the first where there is more."""
    done = check("--output", "json", **variables)
    told = json.loads(done.stdout)
    assert done.exit_code == (0 if told["valid"] else 2)
    by_check: dict[str, dict[str, Any]] = {}
    for finding in told["findings"]:
        by_check.setdefault(finding["check"], finding)
    return by_check


def failures(**variables: str) -> dict[str, dict[str, Any]]:
    """What is wrong, on top of settings that are right."""
    return {name: each for name, each in findings(**{**GOOD, **variables}).items() if each["level"] == "failed"}


def test_good_configuration() -> None:
    """What can be used ends with 0 and shows every setting, with its source and without passwords."""
    done = check("--output", "json", **GOOD, RUNENGINE_LEASE_S="7")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    settings = {each["variable"]: each for each in told["settings"]}
    assert settings.keys() == {variable_of(name) for name in Settings.model_fields}
    assert settings["RUNENGINE_LEASE_S"] == {"variable": "RUNENGINE_LEASE_S", "value": "7.0", "source": "environment"}
    assert settings["RUNENGINE_POLL_S"]["source"] == "default"
    assert settings["DATABASE_URL"]["value"] == "postgresql://ann:***@db:5432/engine"
    assert yaml.safe_load(check("--output", "yaml", **GOOD, RUNENGINE_LEASE_S="7").stdout) == told
    table = check(**GOOD, RUNENGINE_LEASE_S="7").stdout
    assert "the configuration can be used" in table and "RUNENGINE_LEASE_S" in table


def test_secrets_in_files(tmp_path: Path) -> None:
    """A folder's files stand for variables, without blanks around; a variable wins; the source is told."""
    (tmp_path / "DATABASE_URL").write_text(f"{GOOD['DATABASE_URL']}\n")
    (tmp_path / "runengine_lease_s").write_text("7")
    (tmp_path / "RUNENGINE_POLL_S").write_text("1")
    done = check(
        "--output", "json", RUNENGINE_SECRETS_DIR=str(tmp_path), RUNENGINE_ANONYMOUS="true", RUNENGINE_POLL_S="2"
    )
    assert done.exit_code == 0
    settings = {each["variable"]: (each.get("value"), each["source"]) for each in json.loads(done.stdout)["settings"]}
    assert settings["DATABASE_URL"] == ("postgresql://ann:***@db:5432/engine", "secrets")
    assert settings["RUNENGINE_LEASE_S"] == ("7.0", "secrets")
    assert settings["RUNENGINE_POLL_S"] == ("2.0", "environment")


def test_folder_of_secrets_that_is_none(tmp_path: Path) -> None:
    """A folder that is not there is explained, and not taken for an empty one."""
    assert failures(RUNENGINE_SECRETS_DIR=str(tmp_path / "none")).keys() == {"RUNENGINE_SECRETS_DIR"}


def test_everything_wrong_at_once() -> None:
    """Values of the wrong kind, conflicts between settings and files that are not there are told in one go."""
    found = failures(
        RUNENGINE_LEASE_S="soon",
        RUNENGINE_TLS_CERT="/nowhere.pem",
        RUNENGINE_WORKFLOW_DIR="/nowhere",
        RUNENGINE_SKILLS="images",
        RUNENGINE_ARTIFACT_ROOTS="ftp://x",
        RUNENGINE_HTTP_ADDRESS="3001",
        REDIS_URL="http://cache",
    )
    assert found.keys() == {
        "RUNENGINE_LEASE_S",
        "RUNENGINE_TLS_CERT",
        "RUNENGINE_WORKFLOW_DIR",
        "RUNENGINE_SKILLS",
        "RUNENGINE_ARTIFACT_ROOTS",
        "RUNENGINE_HTTP_ADDRESS",
        "REDIS_URL",
    }
    assert "'soon'" in found["RUNENGINE_LEASE_S"]["found"]
    assert "default 10.0" in found["RUNENGINE_LEASE_S"]["advice"]
    assert all(each["advice"] for each in found.values())


def test_nothing_is_set() -> None:
    """An empty environment is told what it needs at least."""
    found = findings()
    assert found["DATABASE_URL"]["found"] == "is not set"
    assert "RUNENGINE_ANONYMOUS=true" in found["RUNENGINE_TOKENS_FILE"]["advice"]


@pytest.mark.parametrize(
    ("variable", "meant"),
    [("RUNENGINE_LEASES", "RUNENGINE_LEASE_S"), ("RUNENGINE_TOKEN_FILE", "RUNENGINE_TOKENS_FILE")],
)
def test_misspelt_variable(variable: str, meant: str) -> None:
    """A name that is nearly a setting's is an error that names the setting."""
    assert failures(**{variable: "1"})[variable]["advice"] == f"did you mean {meant}?"


def test_foreign_variable() -> None:
    """A name like no setting's, such as an orchestrator makes, is a warning; the client's are known."""
    found = findings(**GOOD, RUNENGINE_SERVICE_HOST="10.0.0.1", RUNENGINE_URL="http://x", RUNENGINE_TARGET="x:1")
    assert found["RUNENGINE_SERVICE_HOST"]["level"] == "warning"
    assert not found.keys() & {"RUNENGINE_URL", "RUNENGINE_TARGET"}


@pytest.mark.parametrize(
    ("http", "ops", "clashes"),
    [
        ("127.0.0.1:50051", "127.0.0.1:3002", True),
        ("0.0.0.0:50051", "127.0.0.1:3002", True),
        ("localhost:50051", "127.0.0.1:3002", True),
        ("127.0.0.2:50051", "127.0.0.1:3002", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_addresses_that_clash(http: str, ops: str, clashes: bool) -> None:
    """Two addresses with the same port on the same interface are refused; port 0 never clashes."""
    found = failures(RUNENGINE_HTTP_ADDRESS=http, RUNENGINE_OPS_ADDRESS=ops, RUNENGINE_INSECURE_PLAINTEXT="true")
    said = found.get("RUNENGINE_HTTP_ADDRESS", {"found": ""})["found"]
    assert ("clashes with RUNENGINE_GRPC_ADDRESS=127.0.0.1:50051" in said) is clashes


@pytest.mark.parametrize("name", ["grpc_address", "http_address", "ops_address"])
@pytest.mark.parametrize(
    "address", ["3001", "127.0.0.1", "127.0.0.1:http", ":3001", "::1:3001", "127.0.0.1:65536", "unix:"]
)
def test_address_that_is_none(name: str, address: str) -> None:
    """Under every setting, what is no host:port is told what one looks like; by the server, too."""
    said = "Input should be host:port, such as 127.0.0.1:3001"
    assert failures(**{variable_of(name): address})[variable_of(name)]["found"].startswith(f"'{address}': {said}")
    with pytest.raises(ConfigurationError, match=f"^{variable_of(name)}: {said}"):
        read_settings(DATABASE_URL="postgresql://db/engine", **{name: address})


@pytest.mark.parametrize("address", ["[::1]:3001", "0.0.0.0:0", "engine.example:65535"])
def test_address(address: str) -> None:
    """Names, IPv4 and IPv6 with a port are addresses, and for gRPC sockets."""
    given = dict.fromkeys(("grpc_address", "http_address", "ops_address"), address)
    assert read_settings(DATABASE_URL="postgresql://db/engine", **given).ops_address == address
    given["grpc_address"] = "unix:/run/engine.sock"
    assert read_settings(DATABASE_URL="postgresql://db/engine", **given).grpc_address == "unix:/run/engine.sock"


def test_exposed_addresses(tmp_path: Path) -> None:
    """Reachable from outside without TLS is an error, operations there are a warning."""
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(f"- {{token: {SECRET}, principal: p, tenant: t, scopes: [run:read]}}")
    given = {"DATABASE_URL": GOOD["DATABASE_URL"], "RUNENGINE_TOKENS_FILE": str(tokens)}
    found = findings(**given, RUNENGINE_GRPC_ADDRESS="0.0.0.0:50051", RUNENGINE_OPS_ADDRESS="0.0.0.0:3002")
    assert found["RUNENGINE_GRPC_ADDRESS"]["level"] == "failed"
    assert "RUNENGINE_TLS_CERT" in found["RUNENGINE_GRPC_ADDRESS"]["advice"]
    assert found["RUNENGINE_OPS_ADDRESS"]["level"] == "warning"


def test_tokens_file(tmp_path: Path) -> None:
    """Each mistake in a tokens file is a finding; no token is shown."""
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(f"- {{token: {SECRET}, principal: p, tenant: '?', scopes: [run:raed]}}")
    done = check("--output", "json", DATABASE_URL=GOOD["DATABASE_URL"], RUNENGINE_TOKENS_FILE=str(tokens))
    said = [each["found"] for each in json.loads(done.stdout)["findings"] if each["level"] == "failed"]
    assert [text.removeprefix(f"{tokens}: ").split(":")[0] for text in said] == ["[0].tenant", "[0].scopes[0]"]
    gone = failures(RUNENGINE_ANONYMOUS="false", RUNENGINE_TOKENS_FILE=str(tmp_path / "gone.yaml"))
    assert "No such file" in gone["RUNENGINE_TOKENS_FILE"]["found"]


def test_certificate_that_is_none(tmp_path: Path) -> None:
    """Files that hold no certificate and key are named."""
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("nothing")
    found = failures(RUNENGINE_TLS_CERT=str(tmp_path / "cert.pem"), RUNENGINE_TLS_KEY=str(tmp_path / "key.pem"))
    assert str(tmp_path / "cert.pem") in found["RUNENGINE_TLS_CERT"]["found"]


@pytest.mark.parametrize("origin", ["https://app.example/", "app.example", "https://app.example/page"])
def test_origin_that_is_none(origin: str) -> None:
    """What no browser would send as an origin is refused, not ignored."""
    assert repr(origin) in failures(RUNENGINE_CORS_ORIGINS=origin)["RUNENGINE_CORS_ORIGINS"]["found"]
    assert failures(RUNENGINE_CORS_ORIGINS="https://app.example, http://localhost:5173") == {}


JWT = {
    "RUNENGINE_ANONYMOUS": "false",
    "RUNENGINE_JWT_JWKS_URL": "https://issuer.example/jwks.json",
    "RUNENGINE_JWT_ISSUER": "https://issuer.example/",
    "RUNENGINE_JWT_AUDIENCE": "runengine",
}


def test_issuer_of_tokens() -> None:
    """An issuer is enough to let callers in, also beyond loopback; it is set as a whole, and without anonymity."""
    assert failures(**JWT) == {}
    assert failures(**JWT, RUNENGINE_GRPC_ADDRESS="0.0.0.0:1", RUNENGINE_INSECURE_PLAINTEXT="true") == {}
    for left_out in ("JWKS_URL", "ISSUER", "AUDIENCE"):
        some = {name: value for name, value in JWT.items() if name != f"RUNENGINE_JWT_{left_out}"}
        ((_, found),) = failures(**some).items()
        assert "belong together" in found["found"]
    both = failures(**{**JWT, "RUNENGINE_ANONYMOUS": "true"})
    assert [each["found"] for each in both.values()] == ["RUNENGINE_ANONYMOUS lets everybody in"]
    plain = failures(**{**JWT, "RUNENGINE_JWT_JWKS_URL": f"http://ann:{SECRET}@issuer.example/"})
    assert plain.keys() == {"RUNENGINE_JWT_JWKS_URL"}


def test_skill_tokens() -> None:
    """A token that could never be sent, or that no target uses, is named by number."""
    skills = "image.*=grpc://127.0.0.1:7001"
    found = failures(RUNENGINE_SKILLS=skills, RUNENGINE_SKILL_TOKENS=f"grpc://far.example:1={SECRET}")
    assert "plaintext" in found["RUNENGINE_SKILL_TOKENS"]["found"]
    found = failures(RUNENGINE_SKILLS=skills, RUNENGINE_SKILL_TOKENS=f"grpc://127.0.0.1:7002={SECRET}")
    assert "no pattern uses" in found["RUNENGINE_SKILL_TOKENS"]["found"]


def test_callback_url() -> None:
    """Skills over HTTP on another machine need a URL to call back to, unless the server is reachable by itself."""
    skills = "image.*=https://images.example/skills"
    assert "call back" in failures(RUNENGINE_SKILLS=skills)["RUNENGINE_CALLBACK_URL"]["found"]
    given = {"RUNENGINE_SKILLS": skills, "RUNENGINE_CALLBACK_URL": "https://engine.example"}
    assert failures(**given) == {}
    assert failures(RUNENGINE_SKILLS="image.*=http://127.0.0.1:7001") == {}


def test_artifact_store(tmp_path: Path) -> None:
    """A store that is none is told what one looks like; a folder that is not there is a warning."""
    assert "s3://bucket" in failures(RUNENGINE_ARTIFACT_STORE="gs://x")["RUNENGINE_ARTIFACT_STORE"]["advice"]
    found = findings(**GOOD, RUNENGINE_ARTIFACT_STORE=f"file://{tmp_path}/gone")
    assert found["RUNENGINE_ARTIFACT_STORE"]["level"] == "warning"


def test_workflow_files(tmp_path: Path) -> None:
    """Each mistake in the directory's workflows is a finding with its file and line."""
    (tmp_path / "a.yaml").write_text("workflowName: a\nversion: 1\nsteps:\n  - {stepId: x, skilId: y}\n")
    found = failures(RUNENGINE_WORKFLOW_DIR=str(tmp_path))
    assert "a.yaml:2: version" in found["RUNENGINE_WORKFLOW_DIR"]["found"]


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ann:{SECRET}@h/d",
        f"postgresql://ann:{SECRET}/x@h/d",
        f"postgresql://ann:p@{SECRET}@h/d",
        f"redis://:{SECRET}@h",
        f"postgresql://h/d?user=a&password={SECRET}",
    ],
)
def test_passwords_of_urls(url: str) -> None:
    """A password in a URL is hidden, however it is written."""
    assert SECRET not in without_secrets(url)


def test_secret_settings() -> None:
    """Settings that are secrets are hidden as a whole; files of secrets are named."""
    assert shown("skill_tokens", f"grpc://127.0.0.1:1={SECRET}") == "***"
    assert shown("tokens_file", Path("/etc/tokens.yaml")) == "/etc/tokens.yaml"
    settings = Settings(**GOOD, skill_tokens=SECRET)  # type: ignore[arg-type]
    assert SECRET not in repr(effective_settings(settings, {}))


def test_imports_wait() -> None:
    """The command line imports no grpc: `dev` starts databases first, and grpc does not like forks beside it."""
    program = "import sys, runengine_server.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "grpc" not in done.stdout.split()

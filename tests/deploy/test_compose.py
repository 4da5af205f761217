"""The compose file describes an installation that is closed, bounded, and configured as the engine understands it."""

import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runengine_server.adapters.tokens.tokens_file import read_tokens_file
from runengine_server.config import Settings

from ..support.deploy_tools import DEPLOY, asked, load_yaml

COMPOSE = DEPLOY / "compose"
FILE = load_yaml(COMPOSE / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
BUILT = {"runengine": DEPLOY / "Containerfile", "runengine-campaign": COMPOSE / "campaign.Containerfile"}

_VALIDATE = """
import compose_spec, json, sys
compose_spec.PyCompose.from_yaml(json.load(sys.stdin)).validate()
print("null")
"""


@pytest.fixture
def secrets(tmp_path: Path) -> Iterator[Path]:
    """The folder that make-secrets.sh made, and what it printed in `printed`."""
    script = shutil.copy(COMPOSE / "make-secrets.sh", tmp_path)
    done = subprocess.run([script], capture_output=True, text=True, check=True)
    (tmp_path / "printed").write_text(done.stdout)
    yield tmp_path / "secrets"


def test_compose_file() -> None:
    """It keeps to the Compose specification, and everything it refers to is declared."""
    plain = {name: value for name, value in FILE.items() if not name.startswith("x-")}
    asked(_VALIDATE, "compose_spec", yaml.safe_dump(plain))


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_contained(name: str) -> None:
    """No service writes to its root, gains rights or takes all of the machine; each is asked for its health."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    is_built = service["image"] in BUILT and "HEALTHCHECK" in BUILT[service["image"]].read_text()
    assert "healthcheck" in service or is_built
    assert ":" in service["image"] or service["image"] in BUILT, "a version is pinned"


def test_secrets_are_files() -> None:
    """No variable holds a secret: those about passwords and tokens say in which file it is."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|DATABASE_URL|REDIS_URL", variable):
                assert str(value).startswith("/run/secrets/"), f"{name}: {variable}"


def test_ports() -> None:
    """Databases, skills and engines cannot be reached from outside; what can listens on this machine only."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"envoy", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert FILE["networks"]["backend"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "edge" in service["networks"]} == published.keys()


def test_mounted_files_exist() -> None:
    """Every file that is mounted or built from is in the repository, and read only."""
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source, _, target = volume.partition(":")
            if source.startswith("."):
                assert (COMPOSE / source).exists(), f"{name}: {source}"
                assert target.endswith(":ro"), f"{name}: {volume}"
            else:
                assert source in FILE["volumes"], f"{name}: {source}"
        if "build" in service:
            assert (COMPOSE / service["build"]["context"] / service["build"]["dockerfile"]).exists()


def test_secrets(secrets: Path) -> None:
    """Every declared secret is made, in a folder for its owner alone; the token is printed, and only its hash kept."""
    declared = {Path(each["file"]).name for each in FILE["secrets"].values()}
    assert {path.name for path in secrets.iterdir()} == declared
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    [token] = re.findall(r"^export TOKEN=([0-9a-f]{48})$", (secrets.parent / "printed").read_text(), re.MULTILINE)
    assert token not in (secrets / "tokens.yaml").read_text()
    assert read_tokens_file(secrets / "tokens.yaml")
    values = [path.read_text() for path in secrets.glob("*_password")]
    assert len(set(values)) == len(values)


def test_secrets_are_made_once(secrets: Path) -> None:
    """A second call changes nothing and says so."""
    before = {path: path.read_text() for path in secrets.iterdir()}
    done = subprocess.run([secrets.parent / "make-secrets.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "there already" in done.stderr
    assert {path: path.read_text() for path in secrets.iterdir()} == before


@pytest.mark.parametrize(("name", "role"), [("engine", "runengine_app"), ("migrate", "runengine_migrator")])
def test_engines_understand_their_settings(
    name: str, role: str, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the service's variables and the secrets as it sees them, the server reads what is meant."""
    mounted = tmp_path / "run-secrets"
    mounted.mkdir()
    for secret in SERVICES[name]["secrets"]:
        source, target = (secret, secret) if isinstance(secret, str) else (secret["source"], secret["target"])
        shutil.copy(secrets / Path(FILE["secrets"][source]["file"]).name, mounted / target)
    for variable, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(variable, str(value).replace("/run/secrets", str(mounted)))
    settings = Settings()  # type: ignore[call-arg]
    assert settings.database_url.startswith(f"postgresql://{role}:")
    assert (settings.redis_url is not None) == (name == "engine")
    assert settings.tokens_file == mounted / "tokens.yaml"
    [target] = re.findall(r"grpc://([a-z]+):7001", settings.skills)
    assert target in SERVICES


def test_order() -> None:
    """Two engines start once the schema is there, on a role that cannot change it."""
    engine = SERVICES["engine"]
    assert engine["deploy"]["replicas"] == 2
    assert engine["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert SERVICES["migrate"]["restart"] == "no"
    grace_s = int(re.sub(r"\D", "", engine["stop_grace_period"]))
    assert grace_s >= Settings.model_fields["drain_s"].default + 5


def test_grafana_finds_what_is_provisioned() -> None:
    """The dashboard's folder and the data source's address are those of this compose file."""
    provisioning = DEPLOY / "grafana" / "provisioning"
    [provider] = load_yaml(provisioning / "dashboards" / "runengine.yaml")["providers"]
    targets = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/dashboard.json" in targets
    [source] = load_yaml(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in SERVICES
    [scraped] = load_yaml(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]
    assert scraped["dns_sd_configs"][0]["names"] == ["engine"]

"""The images, step by step without a builder: what their Containerfiles make serves, on a root that is read only."""

import subprocess
from pathlib import Path

import httpx
import pytest

from ..support.deploy_tools import DEPLOY
from ..support.engine_process import TOKENS, EngineSettings
from ..support.image_folder import ImageFolder, can_isolate
from ..support.processes import ManagedProcess, clean_environment

ANY_PORT = "0.0.0.0:0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    """The server's image."""
    return ImageFolder.build(DEPLOY / "Containerfile", tmp_path_factory.mktemp("server-image"))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    """The image of the example's skills."""
    path = DEPLOY / "compose" / "campaign.Containerfile"
    return ImageFolder.build(path, tmp_path_factory.mktemp("campaign-image"))


def is_healthy(image: ImageFolder, default_port: int, address: str) -> bool:
    """What the image's HEALTHCHECK finds, with the port that was free in place of its own."""
    argv = [part.replace(f"127.0.0.1:{default_port}", address) for part in image.file.argv("HEALTHCHECK")]
    environment = {**clean_environment(), **image.environment}
    done = subprocess.run(image.command(argv), env=environment, timeout=30, check=False, capture_output=True)
    return done.returncode == 0


def test_nothing_can_be_written(server: ImageFolder) -> None:
    """The check is one: as the image's user and on its root, a file can be made in /tmp and nowhere else."""
    if not can_isolate():
        pytest.skip("not root, or no namespaces")
    where = "import os, tempfile; tempfile.TemporaryFile(); print(os.getuid()); open(os.environ['AT'] + '/new', 'w')"
    for folder in (server.folder, Path("/var/tmp"), Path("/")):
        environment = {**clean_environment(), **server.environment, "AT": str(folder)}
        done = subprocess.run(
            server.command(["python", "-c", where]), env=environment, check=False, capture_output=True, text=True
        )
        assert done.returncode == 1 and ("Read-only" in done.stderr or "Permission" in done.stderr), done.stderr


def test_server(server: ImageFolder, engine_settings: EngineSettings, tmp_path: Path) -> None:
    """It migrates, serves all three ports and the console, is healthy while it does, and ends well on SIGTERM."""
    tokens = TOKENS.write(tmp_path / "tokens.json")
    environment = {
        **server.environment,
        "DATABASE_URL": engine_settings.database_url,
        "RUNENGINE_TOKENS_FILE": str(tokens),
        "RUNENGINE_INSECURE_PLAINTEXT": "true",
        **{f"RUNENGINE_{name}_ADDRESS": ANY_PORT for name in ("GRPC", "HTTP", "OPS")},
    }
    assert server.file.argv("ENTRYPOINT") == ["runengine-server"] and server.file.argv("CMD") == ["serve"]
    migrate = subprocess.run(
        server.command(["runengine-server", "migrate"]),
        env={**clean_environment(), **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert migrate.returncode == 0, migrate.stderr
    argv = [*server.file.argv("ENTRYPOINT"), *server.file.argv("CMD")]
    with ManagedProcess(server.command(argv), log_path=tmp_path / "image.log", environment=environment) as process:
        web, ops = (
            process.wait_for_line(line).replace("0.0.0.0", "127.0.0.1")
            for line in ("HTTP and console on ", "Health and metrics on ")
        )
        assert is_healthy(server, 3002, ops.removeprefix("http://")), process.log
        assert httpx.get(f"{ops}/health/ready").status_code == 200
        page = httpx.get(f"{web}/")
        assert page.status_code == 200 and "<script" in page.text, "the console's assets are in the image"
        assert httpx.get(f"{web}/api/v1/runs").status_code == 401
        process.terminate()
        assert process.process.wait(20) == 0, process.log
    assert not is_healthy(server, 3002, ops.removeprefix("http://"))


def test_campaign_skills(campaign: ImageFolder, tmp_path: Path) -> None:
    """The example's skills serve from its lock alone, and their HEALTHCHECK tells."""
    argv = campaign.file.argv("ENTRYPOINT") + campaign.file.argv("CMD")
    replaced = {"0.0.0.0:7001": ANY_PORT, "/srv/artifacts": str(campaign.folder / "tmp" / "artifacts")}
    command = campaign.command([replaced.get(part, part) for part in argv])
    with ManagedProcess(command, log_path=tmp_path / "skills.log", environment=campaign.environment) as process:
        address = process.wait_for_line("campaign skills listening on ").replace("0.0.0.0", "127.0.0.1")
        assert is_healthy(campaign, 7001, address), process.log
    assert not is_healthy(campaign, 7001, address)

"""The artifact store as operators meet it: in a bucket from skill to page, and cleared by a command."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from runengine_client.skills import ArtifactFolder, AsyncSkillContext, SkillServer, skill

from ..support.bucket_server import BUCKET, bucket_environment, bucket_server, use_bucket_server
from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.processes import clean_environment
from .workflows import single

pytestmark = pytest.mark.anyio


@pytest.fixture
def bucket_url() -> Iterator[str]:
    with bucket_server() as url:
        yield url


async def test_from_a_skill_to_a_page_through_a_bucket(
    bucket_url: str, engine_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a skill publishes into a bucket is listed with its s3 URI, and the engine serves its bytes, in ranges."""
    store = use_bucket_server(bucket_url, monkeypatch)

    @skill("s.draw", version="1.0.0")
    async def draw(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        stored = await context.publish(b"0123456789", filename="ten digits.txt", media_type="text/plain")
        assert await context.read(stored) == b"0123456789"
        return {"uri": stored.uri}

    async with SkillServer([draw], address="127.0.0.1:0", artifact_store=store) as skills:
        with EngineProcess(
            engine_settings,
            "s3",
            RUNENGINE_SKILLS=f"s.*=grpc://{skills.address}",
            RUNENGINE_ARTIFACT_STORE=store,
            **bucket_environment(bucket_url),
        ) as engine:
            async with engine.client() as client, httpx.AsyncClient(base_url=engine.http_url) as http:
                await client.register_workflow(single("drawn", skill="s.draw", input={}))
                run = await client.start("drawn", {})
                assert (await run.wait()).status == "completed"
                [artifact] = await run.artifacts()
                assert artifact.uri.startswith(f"s3://{BUCKET}/some/prefix/sha256/")
                headers = {"authorization": f"Bearer {TOKENS.reader}"}
                url = f"/api/v1/artifacts/{artifact.id}/content"
                whole = await http.get(url, headers=headers)
                assert (whole.status_code, whole.content) == (200, b"0123456789")
                part = await http.get(url, headers={**headers, "range": "bytes=2-4"})
                assert (part.status_code, part.content) == (206, b"234")


async def test_clearing_by_hand(engine_settings: EngineSettings, tmp_path: Path) -> None:
    """`artifacts clean` says what could go, marks it, and an hour later removes it."""
    folder = ArtifactFolder(tmp_path)
    stored = folder.store(uuid.uuid4().bytes, filename="left over.bin")
    path = next((tmp_path / "sha256").rglob("left over.bin"))
    long_ago = datetime.now(UTC).timestamp() - 9 * 24 * 3600
    os.utime(path, (long_ago, long_ago))
    settings = {"DATABASE_URL": engine_settings.database_url, "RUNENGINE_ARTIFACT_STORE": tmp_path.as_uri()}

    assert "1 contents are older than 7 days" in _clean(settings, "--dry-run")
    assert "0 contents are older than 30 days" in _clean(settings, "--dry-run", "--age-days", "30")
    assert "removed 0 contents, 0 bytes; marked 1" in _clean(settings)
    assert "removed 0 contents, 0 bytes; marked 0" in _clean(settings)
    connection = await asyncpg.connect(engine_settings.database_url)
    try:
        await connection.execute("UPDATE artifact_marks SET marked_at = marked_at - interval '1 hour'")
    finally:
        await connection.close()
    assert "removed 1 contents, 16 bytes; marked 0" in _clean(settings)
    assert not path.exists()
    assert stored.size_bytes == 16


def test_nothing_to_clear(engine_settings: EngineSettings, tmp_path: Path) -> None:
    """Without a store, or with what is none, the command says what to set and ends with 2."""
    settings = {"DATABASE_URL": engine_settings.database_url}
    assert "RUNENGINE_ARTIFACT_STORE is not set" in _clean(settings, status=2)
    assert "no artifact store" in _clean({**settings, "RUNENGINE_ARTIFACT_STORE": "gs://x"}, status=2)
    (tmp_path / "owner").write_text("another database")
    assert "another database" in _clean({**settings, "RUNENGINE_ARTIFACT_STORE": tmp_path.as_uri()}, status=2)


def _clean(settings: dict[str, str], *options: str, status: int = 0) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "runengine_server", "artifacts", "clean", *options],
        env={**clean_environment(), **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == status, run.stderr
    return run.stdout + run.stderr

"""Opening artifacts over HTTP: whole, in parts, by whoever may read the run, and harmless in a browser."""

import hashlib
import os
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio
import httpx
import pytest

from runengine_client import RunEngineClient
from runengine_client.types import Artifact
from runengine_client.workflow import expression

from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.skill_server_process import SkillServerProcess
from .workflows import single

pytestmark = pytest.mark.anyio

NAME = "published"
CORS = "https://pages.example"


@pytest.fixture(scope="module")
def engine(engine_settings: EngineSettings, skills: SkillServerProcess) -> Iterator[EngineProcess]:
    """The module's server: its store is the folder of the skills."""
    store = skills.artifact_dir.as_uri()
    with EngineProcess(engine_settings, RUNENGINE_ARTIFACT_STORE=store, RUNENGINE_CORS_ORIGINS=CORS) as process:
        yield process


@pytest.fixture
async def http(engine: EngineProcess) -> AsyncIterator[httpx.AsyncClient]:
    """A reader of the tenant."""
    async with httpx.AsyncClient(
        base_url=f"{engine.http_url}/api/v1", headers={"authorization": f"Bearer {TOKENS.reader}"}
    ) as connected:
        yield connected


async def published(client: RunEngineClient, **given: str) -> Artifact:
    """An artifact of a run of its own; the same `given` again makes one that reuses it."""
    leaves = {name: expression(f"trigger.{name}") for name in ("text", "filename", "mediaType")}
    await client.register_workflow(single(NAME, skill="t.publish", input=leaves))
    file = {"text": uuid.uuid4().hex, "filename": "note.txt", "mediaType": "text/plain", **given}
    handle = await client.start(NAME, file)
    assert (await handle.wait()).status == "completed"
    [artifact] = await handle.artifacts()
    return artifact


def file_of(artifact: Artifact) -> Path:
    return Path(unquote(urlsplit(artifact.uri).path))


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_whole(client: RunEngineClient, http: httpx.AsyncClient) -> None:
    """The bytes as they were published, with their type, name and hash; HEAD the same without them."""
    artifact = await published(client, text="grüß dich", filename="hallo wélt.txt")
    answer = await http.get(f"/artifacts/{artifact.id}/content")
    assert (answer.status_code, answer.content) == (200, "grüß dich".encode())
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    assert answer.headers["content-disposition"] == (
        "inline; filename=\"hallo w_lt.txt\"; filename*=UTF-8''hallo%20w%C3%A9lt.txt"
    )
    assert answer.headers["accept-ranges"] == "bytes"
    head = await http.head(f"/artifacts/{artifact.id}/content")
    assert (head.status_code, head.content) == (200, b"")
    without_date = ({**dict(each.headers), "date": ""} for each in (head, answer))
    assert next(without_date) == next(without_date)


async def test_described(client: RunEngineClient, http: httpx.AsyncClient) -> None:
    """Without `/content` it is the artifact as lists show it."""
    artifact = await published(client)
    answer = await http.get(f"/artifacts/{artifact.id}")
    listed = await http.get(f"/runs/{artifact.run_id}/artifacts")
    assert answer.status_code == 200
    assert [answer.json()] == listed.json()["artifacts"]


async def test_parts(client: RunEngineClient, http: httpx.AsyncClient) -> None:
    """One range is answered with that part, one behind the end with 416, anything else with everything."""
    artifact = await published(client, text="0123456789")
    url = f"/artifacts/{artifact.id}/content"
    for asked, part, told in [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-100", b"89", "bytes 8-9/10"),
        ("bytes=-100", b"0123456789", "bytes 0-9/10"),
    ]:
        answer = await http.get(url, headers={"range": asked})
        assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, part, told), asked
    for asked in ("bytes=10-", "bytes=-0"):
        answer = await http.get(url, headers={"range": asked})
        assert code_of(answer) == (416, "RANGE_NOT_SATISFIABLE")
        assert answer.headers["content-range"] == "bytes */10"
    for asked in ("bytes=0-1,4-5", "lines=1-2", "bytes=5-2", "bytes=-"):
        answer = await http.get(url, headers={"range": asked})
        assert (answer.status_code, answer.content) == (200, b"0123456789"), asked


async def test_what_a_reader_has(client: RunEngineClient, http: httpx.AsyncClient) -> None:
    """Known bytes are not sent again; a part of other bytes is not what was wanted, so everything comes."""
    artifact = await published(client)
    url, etag = f"/artifacts/{artifact.id}/content", f'"{artifact.content_hash}"'
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = await http.get(url, headers={"if-none-match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert (await http.get(url, headers={"if-none-match": '"other"'})).status_code == 200
    for seen, status in ((etag, 206), ('"other"', 200)):
        assert (await http.get(url, headers={"range": "bytes=0-1", "if-range": seen})).status_code == status


async def test_a_page_cannot_run(client: RunEngineClient, http: httpx.AsyncClient) -> None:
    """What a skill made is shown in a sandbox without scripts, but for films; what cannot be shown is a download."""
    for media_type, shown in [
        ("text/html", "inline"),
        ("image/svg+xml", "inline"),
        ("application/json", "inline"),
        ("model/gltf-binary", "inline"),
        ("video/mp4", "inline"),
        ("application/zip", "attachment"),
        ("application/xhtml+xml", "attachment"),
        ("application/javascript", "attachment"),
    ]:
        artifact = await published(client, mediaType=media_type, filename="a\";'%.x")
        answer = await http.get(f"/artifacts/{artifact.id}/content")
        policy = answer.headers["content-security-policy"]
        assert ("sandbox" in policy) is (media_type != "video/mp4")
        assert "allow-" not in policy
        assert "default-src 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith(f'{shown}; filename="a____.x"; '), media_type
        assert answer.headers["content-type"].partition(";")[0] == media_type


async def test_who_may(client: RunEngineClient, engine: EngineProcess, http: httpx.AsyncClient) -> None:
    """Without a token nobody, with one the tenant; to another tenant there is no such artifact."""
    artifact = await published(client)
    for path in (f"/artifacts/{artifact.id}", f"/artifacts/{artifact.id}/content"):
        assert code_of(await http.get(path, headers={"authorization": ""})) == (401, "TOKEN_MISSING")
        stranger = {"authorization": f"Bearer {TOKENS.stranger}"}
        assert code_of(await http.get(path, headers=stranger)) == (404, "ARTIFACT_NOT_FOUND")
        assert (await http.get(path)).status_code == 200
    for unknown in (uuid.uuid4(), "nonsense"):
        assert code_of(await http.get(f"/artifacts/{unknown}/content")) == (404, "ARTIFACT_NOT_FOUND")


async def test_queries_that_say_nothing(client: RunEngineClient, http: httpx.AsyncClient) -> None:
    """A parameter that these paths do not have is refused, as on every other path, once the caller is known."""
    artifact = await published(client)
    for path in (f"/artifacts/{artifact.id}", f"/artifacts/{artifact.id}/content"):
        refused = await http.get(path, params={"download": "1"})
        assert code_of(refused) == (400, "VALIDATION_FAILED")
        assert [each["field"] for each in refused.json()["error"]["details"]["violations"]] == ["download"]
        nobody = await http.get(path, params={"download": "1"}, headers={"authorization": "Bearer wrong"})
        assert code_of(nobody) == (401, "TOKEN_INVALID")


async def test_a_watch_token_opens_what_its_run_shows(client: RunEngineClient, engine: EngineProcess) -> None:
    """`?access_token=` opens the artifacts that the run lists, reused ones too, and those of no other run."""
    text = uuid.uuid4().hex
    made = await published(client, text=text)
    reusing = await client.start(NAME, {"text": text, "filename": "note.txt", "mediaType": "text/plain"})
    await reusing.wait()
    [reused] = await reusing.artifacts()
    assert reused.id == made.id
    other = await published(client)
    token = (await client.create_watch_token(reusing.id)).token
    async with httpx.AsyncClient(base_url=f"{engine.http_url}/api/v1", params={"access_token": token}) as page:
        for path in (f"/artifacts/{made.id}", f"/artifacts/{made.id}/content"):
            assert (await page.get(path)).status_code == 200
        for path in (f"/artifacts/{other.id}", f"/artifacts/{other.id}/content"):
            assert code_of(await page.get(path)) == (404, "ARTIFACT_NOT_FOUND")


async def test_gone(client: RunEngineClient, http: httpx.AsyncClient) -> None:
    """Bytes that were removed, or that others replaced, are gone, and the answer names the artifact."""
    artifact = await published(client)
    file = file_of(artifact)
    file.write_bytes(b"something longer than what was published before")
    url = f"/artifacts/{artifact.id}/content"
    assert code_of(await http.get(url)) == (404, "ARTIFACT_GONE")
    file.unlink()
    answer = await http.get(url)
    assert code_of(answer) == (404, "ARTIFACT_GONE")
    assert answer.json()["error"]["details"] == {"artifactId": artifact.id}
    assert (await http.head(url)).status_code == 404


async def test_nothing_outside_of_the_store(client: RunEngineClient, http: httpx.AsyncClient, tmp_path: Path) -> None:
    """A link that leads out of the store, or a pipe in it, is not served, whoever put it there."""
    outside = tmp_path / "secret"
    for place in ("file", "folder"):
        artifact = await published(client)
        file = file_of(artifact)
        outside.write_bytes(file.read_bytes())
        file.unlink()
        if place == "file":
            file.symlink_to(outside)
        else:
            outside.rename(tmp_path / file.name)
            file.parent.rmdir()
            file.parent.symlink_to(tmp_path)
        assert code_of(await http.get(f"/artifacts/{artifact.id}/content")) == (404, "ARTIFACT_OUT_OF_REACH"), place
    artifact = await published(client)
    file_of(artifact).unlink()
    os.mkfifo(file_of(artifact))
    assert code_of(await http.get(f"/artifacts/{artifact.id}/content")) == (404, "ARTIFACT_OUT_OF_REACH")


async def test_another_origin_reads_ranges(client: RunEngineClient, http: httpx.AsyncClient) -> None:
    """A page of an allowed origin sees what a player needs to know."""
    artifact = await published(client)
    answer = await http.get(f"/artifacts/{artifact.id}/content", headers={"origin": CORS, "range": "bytes=0-0"})
    assert answer.headers["access-control-allow-origin"] == CORS
    assert {"content-range", "etag"} <= set(answer.headers["access-control-expose-headers"].lower().split(", "))


async def test_large(client: RunEngineClient, http: httpx.AsyncClient, skills: SkillServerProcess) -> None:
    """Many chunks arrive in order; a reader that leaves in the middle leaves nothing open."""
    text = "".join(f"{number:09d}\n" for number in range(90_000))
    artifact = await published(client, text=text)
    url = f"/artifacts/{artifact.id}/content"
    assert (await http.get(url)).text == text
    for _ in range(3):
        async with http.stream("GET", url) as answer:
            assert (await anext(answer.aiter_raw(10))) == b"000000000\n"
    assert (await http.get(url, headers={"range": "bytes=899990-"})).text == "000089999\n"


async def test_the_documents_commands(client: RunEngineClient, engine: EngineProcess, tmp_path: Path) -> None:
    """Every curl command of docs/artifacts.md does what it says, in the order of the document."""
    artifact = await published(client)
    text = (Path(__file__).parents[2] / "docs" / "artifacts.md").read_text()
    blocks = [block for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "curl" in block]
    assert len(blocks) == 3
    variables = {
        "RUNENGINE_URL": engine.http_url,
        "TOKEN": TOKENS.reader,
        "RUN": artifact.run_id,
        "ARTIFACT": artifact.id,
        "PATH": os.environ["PATH"],
    }
    ran = await anyio.run_process(["bash", "-eu", "-c", "".join(blocks)], env=variables, cwd=tmp_path)
    assert hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest() == artifact.content_hash
    assert (tmp_path / "part").read_bytes() == (tmp_path / "file").read_bytes()[:100]
    assert b'"token":' in ran.stdout
    assert b"event: end" in ran.stdout

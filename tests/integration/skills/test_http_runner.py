"""Calling skills over HTTP: what is sent, and what every answer means."""

import json
import shutil
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.abc
import pytest
from starlette.responses import JSONResponse

from runengine_server.adapters.embedded.port import free_port
from runengine_server.adapters.memory.skill_calls import MemorySkillCalls
from runengine_server.adapters.skills.http_callbacks import HttpCallbacks
from runengine_server.adapters.skills.http_runner import HttpSkillRunner
from runengine_server.adapters.skills.targets import parse_endpoint
from runengine_server.domain.ids import SkillId
from runengine_server.http.server import HttpServer
from runengine_server.ports.skill_runner import Failed, Succeeded
from runengine_server.rpc.settings import TlsFiles

from ...support.http_runner import serving
from ...support.http_script import OUTPUT, Attempt, engine_for, failure, run, says
from .conftest import CallFactory

pytestmark = pytest.mark.anyio


async def test_the_request_carries_the_attempt(make_call: CallFactory) -> None:
    """Body and headers are what the contract says; the token is in the header only."""
    script = says(200, OUTPUT)
    call = make_call({"é": 1.5}, attempt=2, fencing_token=7)
    async with engine_for(script, token="s3cret", call_metadata=lambda _: [("traceparent", "00-ab-cd-01")]) as runner:
        assert isinstance(await run(runner, call), Succeeded)
    (order,), (headers,) = script.orders, script.headers
    deadline, timeout_ms, callback = order.pop("deadline"), order.pop("timeoutMs"), order.pop("callback")
    assert order == {
        "skillId": "t.work",
        "idempotencyKey": call.idempotency_key,
        "runId": "run",
        "stepId": "step",
        "attempt": 2,
        "fencingToken": 7,
        "input": {"é": 1.5},
        "inputHash": call.input_hash,
        "heartbeatIntervalMs": 200,
        "workflowName": "w.v1",
        "tenant": "acme",
    }
    assert deadline.endswith("Z") and 19_000 < timeout_ms <= 20_000
    assert callback["url"].startswith("http://127.0.0.1:") and len(callback["token"]) >= 40
    assert headers["authorization"] == "Bearer s3cret"
    assert headers["idempotency-key"] == call.idempotency_key
    assert headers["traceparent"] == "00-ab-cd-01"
    assert "s3cret" not in json.dumps(script.orders)


@pytest.mark.parametrize(
    ("status", "document", "headers", "code", "is_retryable", "retry_after_s"),
    [
        (422, {"error": {"code": "QUOTA", "message": "m"}}, {}, "QUOTA", False, None),
        (422, {"error": {"code": "QUOTA", "retryable": True, "retryAfterMs": 1500}}, {}, "QUOTA", True, 1.5),
        (500, {"error": {"code": "BROKEN", "message": "m"}}, {}, "BROKEN", True, None),
        (500, {"error": {"code": "BROKEN", "retryable": False}}, {}, "BROKEN", False, None),
        (500, {"error": {"code": "not a code"}}, {}, "SKILL_FAILED", True, None),
        (200, {"error": {"code": "QUOTA", "message": "m"}}, {}, "QUOTA", False, None),
        (429, b"slow down", {"retry_after": "7"}, "SKILL_UNAVAILABLE", True, 7.0),
        (503, b"", {"retry_after": "3"}, "SKILL_UNAVAILABLE", True, 3.0),
        (503, {"error": {"code": "FULL", "retryAfterMs": 250}}, {"retry_after": "3"}, "FULL", True, 0.25),
        (502, b"<html>", {}, "SKILL_UNAVAILABLE", True, None),
        (500, {"statusCode": 500, "message": "Internal server error"}, {}, "SKILL_FAILED", True, None),
        (404, {"statusCode": 404, "error": "Not Found"}, {}, "SKILL_UNAVAILABLE", False, None),
        (401, b"", {}, "SKILL_UNAVAILABLE", False, None),
        (400, b"", {}, "SKILL_FAILED", False, None),
        (200, b"{not json", {}, "SKILL_PROTOCOL_ERROR", True, None),
        (200, [], {}, "SKILL_PROTOCOL_ERROR", True, None),
        (200, {"result": {}}, {}, "SKILL_PROTOCOL_ERROR", True, None),
        (200, b'{"output": {}, "output": {}}', {}, "OUTPUT_INVALID", False, None),
        (200, b'{"output": {"x": NaN}}', {}, "OUTPUT_INVALID", False, None),
        (200, b'{"output": {"x": 1e400}}', {}, "OUTPUT_INVALID", False, None),
        (200, {"output": {}, "artifacts": [{"type": "text/plain"}]}, {}, "SKILL_PROTOCOL_ERROR", True, None),
        (200, {"output": {}, "artifacts": {}}, {}, "SKILL_PROTOCOL_ERROR", True, None),
        (200, {"output": {}, "skillVersion": 3}, {}, "SKILL_PROTOCOL_ERROR", True, None),
        (200, {"output": {"x": "y" * (1 << 20)}}, {}, "OUTPUT_TOO_LARGE", False, None),
        (200, {"output": {"x": "y" * (4 << 20)}}, {}, "OUTPUT_TOO_LARGE", False, None),
        (202, {"workerId": 3}, {}, "SKILL_PROTOCOL_ERROR", True, None),
        (204, b"", {}, "SKILL_PROTOCOL_ERROR", True, None),
        (307, b"", {"location": "http://127.0.0.1:1/elsewhere"}, "SKILL_PROTOCOL_ERROR", True, None),
    ],
)
async def test_what_answers_mean(
    make_call: CallFactory, status: int, document: object, headers: dict[str, str], code: str, is_retryable: bool,
    retry_after_s: float | None,
) -> None:  # fmt: skip
    """Every status and body becomes the outcome that the contract says; nobody follows a redirect."""
    script = says(status, document, **headers)
    async with engine_for(script) as runner:
        outcome = await run(runner, make_call())
    told = failure(outcome)
    assert (told.code, told.retryable) == (code, is_retryable), told
    assert isinstance(outcome, Failed) and outcome.retry_after_s == retry_after_s
    assert len(script.orders) == 1


async def test_an_answer_may_name_artifacts_and_versions(make_call: CallFactory) -> None:
    """What a 200 says beside the output arrives."""
    artifact = {"type": "text/plain", "uri": "s3://b/1", "contentHash": "a" * 64, "sizeBytes": 3, "unknown": 1}
    script = says(
        200, {**OUTPUT, "artifacts": [artifact], "doNotCache": True, "skillVersion": "2", "cacheVersion": "c"}
    )
    script.listed = JSONResponse({"skills": [{"skillId": "t.work", "version": "2", "cacheVersion": "c"}]})
    async with engine_for(script) as runner:
        outcome = await run(runner, make_call())
    assert isinstance(outcome, Succeeded)
    assert json.loads(outcome.output_json) == {"x": 1}
    assert (outcome.do_not_cache, outcome.skill_version, outcome.cache_version) == (True, "2", "c")
    assert [(each.uri, each.size_bytes) for each in outcome.artifacts] == [("s3://b/1", 3)]


async def test_a_service_without_a_list_has_any_skill(make_call: CallFactory) -> None:
    """Where nothing lists skills each is taken to exist in one version, whatever answers say of versions."""
    async with engine_for(says(200, {**OUTPUT, "cacheVersion": "7"})) as runner:
        known = runner.availability(SkillId("t.anything"))
        outcome = await run(runner, make_call())
    assert known.is_catalogue_known and known.cache_version == ""
    assert isinstance(outcome, Succeeded) and outcome.cache_version == ""


async def test_a_list_that_cannot_be_read_is_no_list(make_call: CallFactory) -> None:
    """A runner whose list is broken is not known, as one that is away; its calls are made."""
    script = says(200, OUTPUT)
    script.listed = JSONResponse({"skills": [{"skillId": 5}]})
    async with engine_for(script) as runner:
        assert not runner.availability(SkillId("t.work")).is_catalogue_known
        assert isinstance(await run(runner, make_call()), Succeeded)


async def test_a_runner_that_starts_late_is_waited_for(make_call: CallFactory) -> None:
    """A connection that is refused is tried again for a while; nothing was sent, so nothing runs twice."""
    script, port = says(200, OUTPUT), free_port()
    async with AsyncExitStack() as stack:
        callbacks = HttpCallbacks(MemorySkillCalls(), base_url="http://127.0.0.1:1")
        endpoint = parse_endpoint(f"http://127.0.0.1:{port}/skills-of")
        runner = await stack.enter_async_context(HttpSkillRunner(endpoint, callbacks=callbacks))
        attempt = Attempt()
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(attempt.execute, runner, make_call())
        await runner.wait_until_asked()
        await stack.enter_async_context(serving(script.app(), port))
        assert isinstance(await attempt.result(), Succeeded)
    assert len(script.orders) == 1


async def test_a_runner_that_is_away_is_not_available(make_call: CallFactory) -> None:
    """After its time the attempt fails, to be tried again."""
    callbacks = HttpCallbacks(MemorySkillCalls(), base_url="http://127.0.0.1:1")
    endpoint = parse_endpoint(f"http://127.0.0.1:{free_port()}")
    async with HttpSkillRunner(endpoint, callbacks=callbacks, connected_within_s=0.3) as runner:
        told = failure(await run(runner, make_call()))
    assert (told.code, told.retryable) == ("SKILL_UNAVAILABLE", True)


async def test_a_runner_that_breaks_off_is_not_available(make_call: CallFactory) -> None:
    """A connection that ends without an answer fails the attempt, to be tried again."""

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()

    callbacks = HttpCallbacks(MemorySkillCalls(), base_url="http://127.0.0.1:1")
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        async with HttpSkillRunner(parse_endpoint(f"http://127.0.0.1:{port}"), callbacks=callbacks) as runner:
            told = failure(await run(runner, make_call()))
        tasks.cancel_scope.cancel()
    assert (told.code, told.retryable) == ("SKILL_UNAVAILABLE", True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_https_trusts_who_is_known(
    make_call: CallFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runner with a certificate of a known authority is called; one with an unknown one is not sent anything."""
    files = TlsFiles(certificate_chain=tmp_path / "cert.pem", private_key=tmp_path / "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", files.private_key, "-out", files.certificate_chain]
    await anyio.run_process([*command.split(), *names])
    script, callbacks = says(200, OUTPUT), HttpCallbacks(MemorySkillCalls(), base_url="http://127.0.0.1:1")
    server = HttpServer(script.app(), "127.0.0.1:0", tls=files)
    await server.start()
    endpoint = parse_endpoint(f"https://localhost:{server.port}/skills-of")
    async with HttpSkillRunner(endpoint, callbacks=callbacks, token="s3cret", connected_within_s=0.3) as runner:
        assert failure(await run(runner, make_call())).code == "SKILL_UNAVAILABLE"
    assert script.orders == []
    monkeypatch.setenv("SSL_CERT_FILE", str(files.certificate_chain))
    async with HttpSkillRunner(endpoint, callbacks=callbacks, token="s3cret") as runner:
        assert isinstance(await run(runner, make_call()), Succeeded)
    await server.stop(0.1)
    assert script.headers[0]["authorization"] == "Bearer s3cret"


def test_a_token_never_travels_in_plaintext() -> None:
    """A token for http:// beyond this machine is refused."""
    endpoint = parse_endpoint("http://10.0.0.1:7005/skills")
    with pytest.raises(ValueError, match="plaintext"):
        HttpSkillRunner(endpoint, callbacks=HttpCallbacks(MemorySkillCalls()), token="s3cret")
    local = replace(endpoint, address="http://127.0.0.1:7005/skills")
    HttpSkillRunner(local, callbacks=HttpCallbacks(MemorySkillCalls()), token="s3cret")

"""Binding, TLS, keepalive and draining."""

import asyncio
import shutil
import socket

import anyio
import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_client.pb.runengine.v1 import run_engine_pb2_grpc
from runengine_server.rpc.bind import BindRefusedError
from runengine_server.rpc.server import RpcServer
from runengine_server.rpc.settings import RpcSettings, TlsFiles
from runengine_server.service.messages import WatchBookmark, WatchEnd

from .conftest import NOW, RUN, RUN_ID, FakeAuthenticator, FakeMeter, FakeServices
from .refusals import refused
from .test_watch import Script, message, within

pytestmark = pytest.mark.anyio


async def test_draining_ends_streams_refuses_calls_and_lets_work_finish(served):
    """Drain: streams end with the last sequence, new calls get DRAINING, health says so, a call in work answers."""
    served.services.watch = Script(message(9, WatchBookmark(server_time=NOW)))
    engine = await served.engine()
    await served.server.set_serving(is_serving=True)
    watch = engine.WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    await watch.read()
    started, finish = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        started.set()
        await finish.wait()

    served.services.before_answer = hold
    working = asyncio.ensure_future(engine.GetRun(pb.GetRunRequest(run_id=RUN_ID)))
    await within(started.wait())
    draining = asyncio.ensure_future(served.server.drain(10))

    error, details = await within(refused(watch.read()))
    assert (error.code(), details["ErrorInfo"].reason) == (StatusCode.UNAVAILABLE, "DRAINING")
    assert details["ErrorInfo"].metadata["lastSequence"] == "9"
    error, details = await refused(engine.GetRun(pb.GetRunRequest(run_id=RUN_ID)))
    assert (error.code(), details["ErrorInfo"].reason) == (StatusCode.UNAVAILABLE, "DRAINING")
    assert details["RetryInfo"].retry_delay.seconds == 1
    error, _ = await refused(engine.WatchRun(pb.WatchRunRequest(run_id=RUN_ID)).read())
    assert error.code() is StatusCode.UNAVAILABLE
    health = health_pb2_grpc.HealthStub(await served.channel())
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.NOT_SERVING

    assert not draining.done()
    finish.set()
    assert (await working).run.id == RUN_ID
    await within(draining)


async def test_draining_is_bounded_by_its_grace(served):
    """What does not finish within the grace is cut off."""
    started = asyncio.Event()

    async def hold() -> None:
        started.set()
        await asyncio.Event().wait()

    served.services.before_answer = hold
    call = asyncio.ensure_future((await served.engine()).GetRun(pb.GetRunRequest(run_id=RUN_ID)))
    await within(started.wait())
    await within(served.server.drain(0.1))
    with pytest.raises(grpc.aio.AioRpcError):
        await within(call)


def make(**settings) -> RpcServer:
    return RpcServer(
        services=FakeServices(), authenticator=FakeAuthenticator(), settings=RpcSettings(**settings), meter=FakeMeter()
    )


async def test_a_taken_port_is_refused(served):
    """Two servers never share a port silently."""
    with pytest.raises(BindRefusedError, match="another server"):
        make(address=f"127.0.0.1:{served.server.port}")


async def test_a_missing_certificate_is_named(tmp_path):
    """A TLS file that cannot be read is a configuration error with its path."""
    files = TlsFiles(certificate_chain=tmp_path / "cert.pem", private_key=tmp_path / "key.pem")
    with pytest.raises(BindRefusedError, match=r"key\.pem"):
        make(address="127.0.0.1:0", tls=files)


async def test_a_network_address_needs_protection():
    """The server itself refuses what check_bind refuses."""
    with pytest.raises(BindRefusedError, match="clear text"):
        make(address="0.0.0.0:0")


async def test_a_unix_socket_serves(tmp_path, serve):
    """A Unix socket is an address like any other."""
    server = make(address=f"unix:{tmp_path}/rpc.sock")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/rpc.sock") as channel:
            stub = run_engine_pb2_grpc.RunEngineStub(channel)
            answer = await stub.GetRun(pb.GetRunRequest(run_id="x"), metadata=(("authorization", "Bearer all"),))
            assert answer.run.id == RUN_ID
    finally:
        await server.drain(0)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_tls_serves_and_plaintext_does_not_get_through(tmp_path):
    """With a certificate the server speaks TLS, and only that."""
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {tmp_path}/key.pem -out {tmp_path}/cert.pem"
    )
    await anyio.run_process(command.split())
    chain = (tmp_path / "cert.pem").read_bytes()
    files = TlsFiles(certificate_chain=tmp_path / "cert.pem", private_key=tmp_path / "key.pem")
    server = make(address="localhost:0", tls=files)
    await server.start()
    metadata = (("authorization", "Bearer all"),)
    try:
        target = f"localhost:{server.port}"
        async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(chain)) as channel:
            stub = run_engine_pb2_grpc.RunEngineStub(channel)
            assert (await stub.GetRun(pb.GetRunRequest(run_id="x"), metadata=metadata)).run.id == RUN_ID
        async with grpc.aio.insecure_channel(target) as channel:
            stub = run_engine_pb2_grpc.RunEngineStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetRun(pb.GetRunRequest(run_id="x"), metadata=metadata, timeout=5)
            assert caught.value.code() is StatusCode.UNAVAILABLE
    finally:
        await server.drain(0)


class BlackHole:
    """A TCP proxy that can stop forwarding without closing anything, as a frozen machine does."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._frozen = False
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, family=socket.AF_INET)
        return self._server.sockets[0].getsockname()[1]

    def freeze(self) -> None:
        self._frozen = True

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, back]
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if not self._frozen:
                    writer.write(data)
        except OSError:
            return


async def test_a_frozen_client_is_noticed(serve):
    """A client that answers no ping loses its watch within keepalive and its timeout, not after a minute."""
    served = await serve(keepalive_s=0.3, keepalive_timeout_s=0.3)
    served.services.watch = script = Script(message(1, WatchBookmark(server_time=NOW)))
    proxy = BlackHole(served.server.port)
    port = await proxy.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = run_engine_pb2_grpc.RunEngineStub(channel).WatchRun(
            pb.WatchRunRequest(run_id=RUN_ID), metadata=(("authorization", "Bearer all"),)
        )
        await within(call.read())
        assert served.server.watches.open_count == 1
        proxy.freeze()
        await within(script.closed.wait(), seconds=10)
        await served.until_watches(0)
        call.cancel()
    await proxy.stop()


async def test_clients_may_ping_as_often_as_set(serve):
    """A client that pings more often than allowed is disconnected (too_many_pings), another stays.

    Clients ping once a second at most, and the third ping too many disconnects.
    """

    async def watch_while_pinging(interval_s_min: float) -> tuple[grpc.aio.UnaryStreamCall, asyncio.Task]:
        served = await serve(client_ping_interval_s_min=interval_s_min)
        served.services.watch = Script(message(1, WatchBookmark(server_time=NOW)))
        options = {"grpc.keepalive_time_ms": 100, "grpc.http2.max_pings_without_data": 0}
        channel = await served.channel("all", **options)
        call = run_engine_pb2_grpc.RunEngineStub(channel).WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
        await call.read()
        return call, asyncio.ensure_future(call.read())

    patient, patient_read = await watch_while_pinging(0.05)
    _, strict_read = await watch_while_pinging(600.0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await within(strict_read, seconds=10)
    assert caught.value.code() is StatusCode.UNAVAILABLE
    done, _ = await asyncio.wait({patient_read}, timeout=1.5)
    assert not done
    patient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await patient_read


async def test_every_call_is_metered_with_its_status(served):
    """Answers and refusals, streams that end and that are left, health, and what is not served; once each."""
    engine, stranger = await served.engine(), await served.engine(None)
    await engine.GetRun(pb.GetRunRequest(run_id=RUN_ID))
    await refused(stranger.GetRun(pb.GetRunRequest(run_id=RUN_ID)))
    await refused(stranger.WatchRun(pb.WatchRunRequest(run_id=RUN_ID)).read())
    served.services.watch = Script(message(1, WatchEnd(run=RUN)))
    assert len([each async for each in engine.WatchRun(pb.WatchRunRequest(run_id=RUN_ID))]) == 1
    served.services.watch = Script(message(1, WatchBookmark(server_time=NOW)))
    left = engine.WatchRun(pb.WatchRunRequest(run_id=RUN_ID))
    await left.read()
    left.cancel()
    await served.until_watches(0)
    channel = await served.channel()
    await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    with pytest.raises(grpc.aio.AioRpcError):
        await channel.unary_unary("/runengine.v1.RunEngine/Nothing")(b"")
    assert served.meter.answered == [
        ("GetRun", "OK", True),
        ("GetRun", "UNAUTHENTICATED", True),
        ("WatchRun", "UNAUTHENTICATED", False),
        ("WatchRun", "OK", False),
        ("WatchRun", "CANCELLED", False),
        ("Check", "OK", True),
        ("unknown", "UNIMPLEMENTED", False),
    ]

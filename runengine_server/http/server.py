"""Serves an ASGI application on an address of its own, in the process's event loop."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from runengine_server.rpc.bind import BindRefusedError
from runengine_server.rpc.settings import TlsFiles

_BACKLOG = 2048
_STARTED_POLL_S = 0.002


class HttpServer:
    """An HTTP/1.1 server; bound when constructed, so that a port in use is known before anything else starts."""

    def __init__(self, app: ASGIApp, address: str, *, tls: TlsFiles | None = None) -> None:
        """Bind the address; nothing is served before `start`.

        Args:
            app: what answers.
            address: `host:port`; port 0 takes a free one.
            tls: the server's certificate; None serves plaintext.

        Raises:
            BindRefusedError: the address cannot be bound, or the certificate cannot be read.
        """
        self._socket = _bind(address)
        host, self.port = self._socket.getsockname()[:2]
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"
        config = uvicorn.Config(
            app,
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_certfile=tls.certificate_chain if tls else None,
            ssl_keyfile=tls.private_key if tls else None,
        )
        try:
            config.load()
        except OSError as error:
            self._socket.close()
            raise BindRefusedError(f"cannot read the TLS files: {error.strerror or error}") from error
        self._config = config
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Requests are answered."""
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._serving.done():
                await self._serving
            await asyncio.sleep(_STARTED_POLL_S)

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more; what is being answered may finish within the grace period, in seconds."""
        if self._serving is None:
            self._socket.close()
            return
        self._config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        await self._serving


_CUT_OFF = "ASGI callable returned without completing response."
"""What uvicorn takes for a defect is how a stream ends whose reader takes nothing more."""

logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # it tells of its start and end, as the engine does
logging.getLogger("uvicorn.error").addFilter(lambda record: record.getMessage() != _CUT_OFF)


class _Server(uvicorn.Server):
    """Leaves signals to the process, which drains every surface in its order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, ValueError) as error:
        raise BindRefusedError(f"{address!r} is not an address: write host:port") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise BindRefusedError(f"cannot bind {address}: {error.strerror}; is another server using it?") from error
    return listener

"""Stands between engines and PostgreSQL: cuts connections, swallows replies, leads to a server that has moved."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_CHUNK = 64 * 1024


class SocketProxy:
    """A Unix socket in `folder` that looks like PostgreSQL's; `url` leads there, whatever stands behind it."""

    def __init__(self, folder: Path, upstream_url: str) -> None:
        """Forward to the server of `upstream_url`, one by Unix socket."""
        parts = urlsplit(upstream_url)
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path}?host={folder}&port=5432"
        self._path = folder / ".s.PGSQL.5432"
        self._upstream = _socket_of(upstream_url)
        self._writers: set[asyncio.StreamWriter] = set()
        self.is_swallowing = False
        self.swallowed_bytes = 0
        self.refused = 0
        self.cuts = 0

    def lead_to(self, upstream_url: str | None) -> None:
        """New connections go to this server, or are refused where there is none."""
        self._upstream = None if upstream_url is None else _socket_of(upstream_url)

    def cut(self) -> None:
        """Every connection is reset."""
        for writer in self._writers:
            if writer.transport is not None:
                writer.transport.abort()
                self.cuts += 1
        self._writers.clear()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["SocketProxy"]:
        """Connections are accepted inside the block."""
        server = await asyncio.start_unix_server(self._serve, path=str(self._path))
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._upstream is None:
                raise ConnectionRefusedError
            server_reader, server_writer = await asyncio.open_unix_connection(str(self._upstream))
        except OSError:
            self.refused += 1
            writer.transport.abort()
            return
        self._writers |= {writer, server_writer}
        try:
            await asyncio.gather(
                self._copy(reader, server_writer, is_reply=False), self._copy(server_reader, writer, is_reply=True)
            )
        finally:
            for each in (writer, server_writer):
                self._writers.discard(each)
                each.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(_CHUNK):
                if is_reply and self.is_swallowing:
                    self.swallowed_bytes += len(data)
                    continue
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


def _socket_of(url: str) -> Path:
    query = parse_qs(urlsplit(url).query)
    return Path(query["host"][0]) / f".s.PGSQL.{query['port'][0]}"

"""Probes artifacts by looking at files and asking servers with HEAD; bounded, and silent about what it cannot tell."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import SplitResult

import anyio
import anyio.to_thread

from runengine_server.adapters.artifacts.roots import ArtifactRoot, split_uri
from runengine_server.adapters.breaker import CircuitBreaker
from runengine_server.domain.errors import UnavailableError
from runengine_server.ports.clock import Clock

if TYPE_CHECKING:
    from runengine_server.adapters.artifacts.bucket import BucketStore

_log = logging.getLogger("runengine.artifacts")

_GONE = frozenset({404, 410})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """Bounds: steps wait for their probes.

    Attributes:
        timeout_s: of one probe.
        batch_s_max: of all probes of one batch of look-ups; what has not answered by then counts as there.
        probes_max: at the same time.
        failures_max: in a row, before a root is left alone.
        open_s: how long it is left alone before one probe tries again.
    """

    timeout_s: float = 1.0
    batch_s_max: float = 2.0
    probes_max: int = 16
    failures_max: int = 3
    open_s: float = 10.0


class RootedArtifactProbe:
    """ArtifactProbe below the operator's roots; every other URI, and whatever answers unclearly, counts as there.

    A file is gone when its root is there and it is not. A server says so with 404 or 410; redirects are not followed.
    """

    def __init__(
        self,
        roots: Sequence[ArtifactRoot],
        clock: Clock,
        settings: ProbeSettings | None = None,
        bucket: "BucketStore | None" = None,
    ) -> None:
        """Probe below `roots` and in the bucket only."""
        self._settings = settings or ProbeSettings()
        self._roots = [(root, self._breaker(clock)) for root in roots]
        self._bucket = None if bucket is None else (bucket, self._breaker(clock))
        self._slots = anyio.Semaphore(self._settings.probes_max)
        self._threads = anyio.CapacityLimiter(self._settings.probes_max)

    async def gone(self, uris: Collection[str]) -> frozenset[str]:
        """See the port."""
        found: set[str] = set()
        with anyio.move_on_after(self._settings.batch_s_max):
            async with anyio.create_task_group() as probes:
                for text in dict.fromkeys(uris):
                    place = self._place(text)
                    if place is not None:
                        probes.start_soon(self._probe, text, *place, found)
        return frozenset(found)

    def _breaker(self, clock: Clock) -> CircuitBreaker:
        return CircuitBreaker(clock, failures_max=self._settings.failures_max, open_s=self._settings.open_s)

    def _place(self, text: str) -> tuple[Callable[[], bool], CircuitBreaker, str] | None:
        """How to ask whether it is gone, the breaker of where it lies, and that place's name; None for elsewhere."""
        if self._bucket is not None and self._bucket[0].holds(text):
            bucket, breaker = self._bucket
            return partial(bucket.is_gone, text), breaker, "the artifact store"
        uri = split_uri(text)
        for root, breaker in self._roots:
            if uri is not None and root.holds(uri):
                return self._question(root, uri), breaker, f"{root.scheme}://{root.host}{root.path}"
        return None

    async def _probe(
        self, text: str, question: Callable[[], bool], breaker: CircuitBreaker, place: str, found: set[str]
    ) -> None:
        async with self._slots:
            if not breaker.admits():
                return
            is_told = False
            try:
                with anyio.fail_after(self._settings.timeout_s):
                    is_gone = await anyio.to_thread.run_sync(question, abandon_on_cancel=True, limiter=self._threads)
                is_told = True
                if is_gone:
                    found.add(text)
            except (OSError, HTTPException, UnavailableError, ValueError) as error:  # TimeoutError is an OSError
                _log.debug("[RunEngine] Artifact probe failed: error=%s", type(error).__name__)
            finally:
                if is_told:
                    breaker.succeeded()
                elif breaker.failed():
                    _log.warning("[RunEngine] Artifact probes stopped: root=%s", place)

    def _question(self, root: ArtifactRoot, uri: SplitResult) -> Callable[[], bool]:
        if root.scheme == "file":
            return partial(_is_file_gone, root, uri)
        return partial(_is_resource_gone, root, uri, self._settings.timeout_s)


def _is_file_gone(root: ArtifactRoot, uri: SplitResult) -> bool:
    file = root.file_of(uri)
    if file is None:
        return False
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    return False


def _is_resource_gone(root: ArtifactRoot, uri: SplitResult, timeout_s: float) -> bool:
    kind = HTTPSConnection if root.scheme == "https" else HTTPConnection
    connection = kind(root.host, root.port, timeout=timeout_s)
    try:
        connection.request("HEAD", (uri.path or "/") + (f"?{uri.query}" if uri.query else ""))
        return connection.getresponse().status in _GONE
    finally:
        connection.close()

"""Where artifacts' bytes lie: opening them, and clearing away those of the store that nothing refers to."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesElsewhere:
    """The bytes are for the reader to fetch from a server of their own."""

    url: str


class ArtifactBytes(Protocol):
    """Bytes that were there a moment ago; nothing is held open until they are read."""

    @property
    def size_bytes(self) -> int:
        """How many there are."""

    def chunks(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to `end`, exclusive, in pieces of some hundred KiB.

        Raises:
            NotFoundError: ARTIFACT_GONE, when they went since.
            UnavailableError: ARTIFACT_STORE_UNAVAILABLE.
        """


class ArtifactReader(Protocol):
    """Opens artifacts where an operator allowed it, and nowhere else."""

    async def find(self, uri: str) -> ArtifactBytes | BytesElsewhere | None:
        """The bytes that a URI names; None when it leads nowhere any more.

        Raises:
            NotFoundError: ARTIFACT_OUT_OF_REACH, the URI lies below none of the operator's roots.
            UnavailableError: ARTIFACT_STORE_UNAVAILABLE.
        """


class ArtifactStore(Protocol):
    """The folder or bucket where skills publish, each content once: `sha256/ab/cdef…/<name>`.

    `before` is a moment by the store's clock. Who publishes content that is there already makes it young again, so that
    what is old is content that nobody is about to refer to.
    """

    def old_contents(self, before: datetime) -> AsyncIterator[Sequence[str]]:
        """The hashes of all content that was last published before a moment, in bounded batches.

        Raises:
            UnavailableError: ARTIFACT_STORE_UNAVAILABLE.
        """

    async def remove(self, content_hash: str, before: datetime) -> int | None:
        """The content is gone unless it was published since `before`; how many bytes that freed, None if it stays.

        Idempotent by: content. Safe beside whoever publishes it meanwhile: they find it gone and store it again, or it
        stays.

        Raises:
            UnavailableError: ARTIFACT_STORE_UNAVAILABLE.
        """

    async def remove_unfinished(self, before: datetime) -> int:
        """What publishing or removing left behind half-done before a moment is gone; how many files that were.

        Raises:
            UnavailableError: ARTIFACT_STORE_UNAVAILABLE.
        """

    async def owner(self, claimant: str) -> str:
        """Who may clear the store: whoever asked first.

        Raises:
            UnavailableError: ARTIFACT_STORE_UNAVAILABLE.
        """


class ArtifactReferences(Protocol):
    """What the database says about content: whether an artifact names it, and since when none was seen to."""

    async def begin_pass(self, interval_s: float) -> bool:
        """True for whoever may pass over the store now; nobody else may for so long."""

    async def mark_unreferenced(self, contents: Sequence[str]) -> int:
        """Content that no artifact names is marked, unless it is already; marks of content that one names go.

        Returns how many were marked newly.
        """

    async def marked(self, *, for_s: float, after: str, limit: int) -> Sequence[str]:
        """Content that has been marked for so long, in order of its hash, behind `after` (empty: from the first)."""

    async def release(self, content_hash: str, remove: Callable[[], Awaitable[int | None]]) -> int | None:
        """Calls `remove` if no artifact names the content even now, and returns what that did; the mark is gone then.

        Atomic with: the look for references; only one caller at a time gets a content's turn.
        """

    async def count_unreferenced(self, contents: Sequence[str]) -> int:
        """How many of them no artifact names; changes nothing."""

"""Clear the artifact store of what no artifact names: left by attempts that never committed, or by runs long removed.

Two passes, at least an hour apart, have to find the same: content is old, and no artifact names it. Then it is removed,
in a transaction that looks for references once more, by a store that looks at its age once more. A reference can only
appear by an attempt that published the content, and publishing makes it young: so nothing is removed that somebody is
about to refer to, as long as attempts take less time than content must be old.
"""

import logging
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import anyio

from runengine_server.domain.errors import PreconditionError, UnavailableError
from runengine_server.ports.artifact_store import ArtifactReferences, ArtifactStore
from runengine_server.ports.clock import Clock

MARKED_S = 3600.0
"""So long content must have been without references between two looks."""

AGE_S_MIN = 2 * 3600.0
"""Publishers do not make content younger that is less than an hour old; clocks may differ by the other hour."""

INTERVAL_S = 2 * 3600.0

_BATCH = 1_000

_log = logging.getLogger("runengine.artifacts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """What a pass did.

    Attributes:
        marked: content that was found old and without references for the first time; a later pass removes it.
        removed: content that was removed, and how many bytes that freed.
        kept: content that had been marked and was referred to, or published, again.
        unfinished: files that publishing had left half-done.
    """

    marked: int = 0
    removed: int = 0
    freed_bytes: int = 0
    kept: int = 0
    unfinished: int = 0

    def __str__(self) -> str:
        """The counts, as log lines have them."""
        return (
            f"marked={self.marked}, removed={self.removed}, freedBytes={self.freed_bytes}, kept={self.kept}, "
            f"unfinished={self.unfinished}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanArtifacts:
    """What it takes to clear a store; `installation_id` names the database whose references count."""

    store: ArtifactStore
    references: ArtifactReferences
    clock: Clock
    installation_id: str
    age_s: float


async def count_removable(cleaner: CleanArtifacts) -> int:
    """How much content is old and without references; changes nothing."""
    count = 0
    async for contents in cleaner.store.old_contents(cleaner.clock.now() - timedelta(seconds=cleaner.age_s)):
        count += await cleaner.references.count_unreferenced(contents)
    return count


async def clean_artifacts(cleaner: CleanArtifacts, *, marked_s: float = MARKED_S) -> Cleaning:
    """One pass over the store: mark, and remove what was marked so long ago.

    Idempotent by: what is there. Safe to be cut short at any point, and beside another pass.

    Raises:
        PreconditionError: the store is cleared for another database.
        UnavailableError: the database or the store does not answer; the next pass goes on.
    """
    owner = await cleaner.store.owner(cleaner.installation_id)
    if owner != cleaner.installation_id:
        raise PreconditionError(
            "ARTIFACT_STORE_SHARED",
            f"the artifact store is cleared for another database, installation {owner}: what that one refers to is not "
            "known here; give each a store, or a prefix, of its own",
        )
    before = cleaner.clock.now() - timedelta(seconds=cleaner.age_s)
    marked = removed = freed = kept = 0
    async for contents in cleaner.store.old_contents(before):
        marked += await cleaner.references.mark_unreferenced(contents)
    after = ""
    while contents := await cleaner.references.marked(for_s=marked_s, after=after, limit=_BATCH):
        for content_hash in contents:
            size = await cleaner.references.release(content_hash, partial(cleaner.store.remove, content_hash, before))
            removed += size is not None
            kept += size is None
            freed += size or 0
        after = contents[-1]
    unfinished = await cleaner.store.remove_unfinished(before)
    return Cleaning(marked=marked, removed=removed, freed_bytes=freed, kept=kept, unfinished=unfinished)


async def keep_clean(cleaner: CleanArtifacts, *, interval_s: float = INTERVAL_S) -> None:
    """Pass over the store at intervals, until cancelled; whichever engine comes first does each pass."""
    while True:
        await anyio.sleep(interval_s)
        try:
            # Shorter by a little than the interval, or an engine would find its own last pass too recent.
            if await cleaner.references.begin_pass(interval_s * 0.9):
                _log.info("[RunEngine] Artifact store cleaned: %s", await clean_artifacts(cleaner))
        except PreconditionError as error:
            _log.error("[RunEngine] Artifact store not cleaned: %s", error.message)
        except UnavailableError as error:
            _log.warning("[RunEngine] Artifact store not cleaned: %s", error.message)
        except Exception as error:  # a pass that cannot be made must not end the engine
            _log.error("[RunEngine] Artifact store not cleaned", exc_info=error)

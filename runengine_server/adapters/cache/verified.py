"""Makes a miss of a hit whose artifacts are gone, for steps that ask for it."""

from collections.abc import Sequence

from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheHit, CacheMiss, CacheQuery
from runengine_server.domain.states import MissReason
from runengine_server.ports.artifact_probe import ArtifactProbe
from runengine_server.ports.output_cache import OutputCache


class VerifiedOutputCache:
    """OutputCache that probes the artifacts of hits where the query says so; what cannot be told counts as there."""

    def __init__(self, inner: OutputCache, probe: ArtifactProbe) -> None:
        """Look up in `inner`."""
        self._inner = inner
        self._probe = probe

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port; a batch without such hits costs nothing more."""
        answers = await self._inner.lookup(queries)
        uris = {
            artifact.uri
            for query, answer in zip(queries, answers, strict=True)
            if query.verify_artifacts and isinstance(answer, CacheHit)
            for artifact in answer.entry.artifacts
        }
        if not uris:
            return answers
        gone = await self._probe.gone(uris)
        return [
            _without(gone, answer) if query.verify_artifacts else answer
            for query, answer in zip(queries, answers, strict=True)
        ]

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """See the port."""
        await self._inner.store(entries)


def _without(gone: frozenset[str], answer: CacheAnswer) -> CacheAnswer:
    if isinstance(answer, CacheHit) and any(artifact.uri in gone for artifact in answer.entry.artifacts):
        entry = answer.entry
        return CacheMiss(reason=MissReason.ARTIFACT_GONE, generation=entry.generation, outdated_at=entry.created_at)
    return answer

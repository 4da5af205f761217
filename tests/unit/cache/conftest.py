"""Entries to cache."""

import hashlib
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.cache import CacheEntry, CacheKey, Fingerprint, Producer
from runengine_server.domain.ids import RunId, RunKey, StepId, StepNo, Tenant

MakeEntry = Callable[..., CacheEntry]


@pytest.fixture
def make_entry() -> MakeEntry:
    """Makes an entry; `name` is what differs between keys."""

    def make(name: str = "a", output: bytes = b'{"a":1}', cache_version: str = "1") -> CacheEntry:
        return CacheEntry(
            key=CacheKey(
                tenant=Tenant("acme"),
                workflow_name="campaign.build.v1",
                step_id=StepId("generate_bgm_track"),
                input_hash=hashlib.sha256(name.encode()).hexdigest(),
            ),
            fingerprint=Fingerprint(skill_id="audio.bgm", cache_version=cache_version, cache_epoch="e1"),
            producer=Producer(
                run=RunKey(7), step=StepNo(3), run_id=RunId(str(uuid.uuid4())), step_id=StepId("generate_bgm_track")
            ),
            output=output,
            output_hash=hashlib.sha256(output).hexdigest(),
            artifacts=(
                ProducedArtifact(
                    media_type="audio/wav",
                    uri="file:///a.wav",
                    content_hash="ab" * 32,
                    size_bytes=12,
                    filename="a.wav",
                    metadata={"bpm": 120},
                    made_from=("x", "y"),
                ),
            ),
            created_at=datetime(2026, 11, 22, 10, 0, 0, 123456, UTC),
        )

    return make

"""Text that no database can hold is refused as such, and harms nothing around it."""

from uuid import uuid4

import pytest

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.errors import InvalidError
from runengine_server.domain.ids import RunId, Tenant

from ...contract.queue_subject import postgres_subject
from ...contract.queue_values import TENANT

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=["NUL", "lone surrogate"])
async def test_text_that_cannot_be_stored_is_invalid(database_url: str, text: str) -> None:
    """A reason, a tenant or a file name with U+0000 or half a surrogate pair is a VALIDATION_FAILED, not an outage."""
    async with postgres_subject(database_url) as subject:
        run = await subject.create({0: ()})
        (lease,) = (await subject.tick()).leases
        nasty = ProducedArtifact(media_type="x", uri="y", content_hash="ab" * 32, size_bytes=1, filename=text)
        with pytest.raises(InvalidError, match="Unicode"):
            await subject.store.cancel(TENANT, subject.ids[run], "ann", text)
        with pytest.raises(InvalidError, match="Unicode"):
            await subject.store.base(Tenant(text), RunId(str(uuid4())))
        with pytest.raises(InvalidError, match="Unicode"):
            await subject.tick(subject.executed(lease, nasty))
        assert (await subject.tick(subject.executed(lease))).ended

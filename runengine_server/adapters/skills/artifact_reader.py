"""Reads one artifact that a runner announces, and holds it to the contract's limits."""

import re
from typing import Final

from runengine_client.pb.runengine.v1 import skill_runner_pb2
from runengine_server.adapters.skills.struct_values import object_of
from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.canonical_json import canonical_bytes
from runengine_server.domain.json_value import JsonObject, JsonProblem

# Together well below the 64 KiB an artifact's event may have.
METADATA_BYTES_MAX: Final = 32 * 1024
MEDIA_TYPE_CHARACTERS_MAX: Final = 255
URI_CHARACTERS_MAX: Final = 2048
FILENAME_CHARACTERS_MAX: Final = 255
SOURCES_MAX: Final = 64
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")


class ProtocolError(Exception):
    """The runner broke the contract; the message says how."""


def read_artifact(artifact: skill_runner_pb2.ProducedArtifact) -> ProducedArtifact:
    """The artifact as the engine keeps it.

    Raises:
        ProtocolError: something is missing, beyond its limit or of the wrong form.
    """
    if not artifact.type or not artifact.uri or artifact.size_bytes < 0:
        raise ProtocolError("The runner sent an artifact without type, uri or size")
    require_text("an artifact's type", artifact.type, MEDIA_TYPE_CHARACTERS_MAX)
    require_text("an artifact's uri", artifact.uri, URI_CHARACTERS_MAX)
    require_text("an artifact's filename", artifact.filename, FILENAME_CHARACTERS_MAX)
    if not _SHA256.match(artifact.content_hash):
        raise ProtocolError("The runner sent an artifact whose content_hash is no SHA-256")
    if len(artifact.made_from) > SOURCES_MAX:
        raise ProtocolError(f"The runner sent an artifact made from more than {SOURCES_MAX} others")
    if not all(map(_SHA256.match, artifact.made_from)):
        raise ProtocolError("The runner sent an artifact whose made_from has an entry that is no SHA-256")
    return ProducedArtifact(
        media_type=artifact.type,
        uri=artifact.uri,
        content_hash=artifact.content_hash,
        size_bytes=artifact.size_bytes,
        filename=artifact.filename,
        metadata=_metadata(artifact),
        made_from=tuple(artifact.made_from),
    )


def require_text(what: str, text: str, characters_max: int) -> None:
    """Return when the text can be stored and is within its limit.

    Raises:
        ProtocolError: it has U+0000, or is longer.
    """
    if "\0" in text:
        raise ProtocolError(f"The runner sent {what} with U+0000")
    if len(text) > characters_max:
        raise ProtocolError(f"The runner sent {what} of more than {characters_max} characters")


def _metadata(artifact: skill_runner_pb2.ProducedArtifact) -> JsonObject:
    # A Struct takes at most 11 bytes where JSON takes 2: what is far beyond the limit is not even converted.
    if artifact.metadata.ByteSize() > 8 * METADATA_BYTES_MAX:
        raise ProtocolError(_METADATA_TOO_LARGE)
    try:
        metadata = object_of(artifact.metadata)
        is_too_large = len(canonical_bytes(metadata)) > METADATA_BYTES_MAX
    except JsonProblem as problem:
        raise ProtocolError(
            f"The runner sent an artifact whose metadata{problem.pointer} cannot be kept: {problem.problem}"
        ) from None
    if is_too_large:
        raise ProtocolError(_METADATA_TOO_LARGE)
    return metadata


_METADATA_TOO_LARGE: Final = f"The runner sent an artifact with more than {METADATA_BYTES_MAX // 1024} KiB of metadata"

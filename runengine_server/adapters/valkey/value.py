"""What stands in the hot cache under a key: a header, the output's bytes and a SHA-256 over everything.

    magic and version (4 bytes) | header length (4, big endian) | header (JSON) | output | SHA-256 (32)

The header repeats the whole key, so a value filed under a wrong key is found out, too.
"""

import hashlib
from datetime import datetime
from typing import Any

import orjson

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.cache import CacheEntry, CacheKey, Fingerprint, Producer
from runengine_server.domain.ids import RunId, RunKey, StepNo

# The last byte counts versions of the layout: a value of another version is not ours to read.
_MAGIC = b"REc\x01"
_HEADER_AT = 8
_DIGEST_BYTES = 32


class PoisonedValue(Exception):  # noqa: N818 - names the thing, and is always caught
    """The bytes are not a value that we wrote for this key."""


def encode_value(entry: CacheEntry) -> bytes:
    """The bytes to store for an entry.

    Raises:
        TypeError: artifact metadata that JSON cannot hold.
    """
    key, fingerprint, producer = entry.key, entry.fingerprint, entry.producer
    header = orjson.dumps(
        {
            "key": [key.tenant, key.workflow_name, key.step_id, key.input_hash],
            "fingerprint": [fingerprint.skill_id, fingerprint.cache_version, fingerprint.cache_epoch],
            "producer": [producer.run, producer.step, producer.run_id],
            "outputHash": entry.output_hash,
            "createdAt": entry.created_at.isoformat(),
            "generation": entry.generation,
            "artifacts": [_artifact_fields(artifact) for artifact in entry.artifacts],
        }
    )
    content = b"".join((_MAGIC, len(header).to_bytes(4, "big"), header, entry.output))
    return content + hashlib.sha256(content).digest()


def decode_value(value: bytes, key: CacheKey) -> CacheEntry:
    """The entry that was stored under the key.

    Raises:
        PoisonedValue: damaged, of another layout, or of another key.
    """
    content = memoryview(value)[:-_DIGEST_BYTES]
    if value[:4] != _MAGIC or hashlib.sha256(content).digest() != value[-_DIGEST_BYTES:]:
        raise PoisonedValue
    output_at = _HEADER_AT + int.from_bytes(value[4:_HEADER_AT], "big")
    try:
        header = orjson.loads(content[_HEADER_AT:output_at])
        return _entry(header, key, bytes(content[output_at:]))
    except (KeyError, TypeError, ValueError) as error:
        raise PoisonedValue from error


def _entry(header: dict[str, Any], key: CacheKey, output: bytes) -> CacheEntry:
    if header["key"] != [key.tenant, key.workflow_name, key.step_id, key.input_hash]:
        raise PoisonedValue
    skill_id, cache_version, cache_epoch = header["fingerprint"]
    run, step, run_id = header["producer"]
    return CacheEntry(
        key=key,
        fingerprint=Fingerprint(skill_id=skill_id, cache_version=cache_version, cache_epoch=cache_epoch),
        producer=Producer(run=RunKey(run), step=StepNo(step), run_id=RunId(run_id), step_id=key.step_id),
        output=output,
        output_hash=header["outputHash"],
        artifacts=tuple(_artifact(fields) for fields in header["artifacts"]),
        created_at=datetime.fromisoformat(header["createdAt"]),
        generation=header.get("generation"),
    )


def _artifact_fields(artifact: ProducedArtifact) -> list[object]:
    return [
        artifact.media_type, artifact.uri, artifact.content_hash, artifact.size_bytes, artifact.filename,
        artifact.metadata, artifact.made_from,
    ]  # fmt: skip


def _artifact(fields: list[Any]) -> ProducedArtifact:
    media_type, uri, content_hash, size_bytes, filename, metadata, made_from = fields
    return ProducedArtifact(
        media_type=media_type,
        uri=uri,
        content_hash=content_hash,
        size_bytes=size_bytes,
        filename=filename,
        metadata=metadata,
        made_from=tuple(made_from),
    )

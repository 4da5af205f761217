"""What a step leaves behind when it is completed, written by hand: in memory, and as rows of PostgreSQL."""

from collections.abc import Sequence
from dataclasses import replace

import orjson

from runengine_server.adapters.memory.tables import MemoryTables, RunRecord, StepResult
from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.encoding import encode_body
from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.cache import CacheEntry
from runengine_server.domain.states import StepStatus

from .queue_values import new_run


def file_completed(tables: MemoryTables, entries: Sequence[CacheEntry]) -> None:
    """Keep what completing these steps leaves behind."""
    for entry in entries:
        key, (run, step) = entry.key, (entry.producer.run, entry.producer.step)
        new = replace(new_run({0: ()}), id=entry.producer.run_id)
        tables.runs[run] = RunRecord(key=run, new=new, created_at=0.0, deadline_at=None, waiting_for=[], remaining=0)
        tables.results[run, step] = StepResult(
            status=StepStatus.COMPLETED,
            attempt=1,
            lease_losses=0,
            ended_at=entry.created_at.timestamp(),
            output_hash=entry.output_hash,
        )
        tables.outputs[run, step], tables.artifacts[run, step] = entry.output, entry.artifacts
        place = key.tenant, key.workflow_name, key.step_id, key.input_hash
        tables.removed.discard(place)
        tables.filed[place] = entry.fingerprint, (run, step)


async def commit_completed(database: Database, entries: Sequence[CacheEntry]) -> None:
    """Write the rows that completing these steps leaves behind."""
    async with database.connection() as connection:
        await connection.executemany(_RUN, [_run_row(entry) for entry in entries])
        await connection.executemany(
            "INSERT INTO outputs (run, step, body, is_compressed) VALUES ($1, $2, $3, $4)",
            [(entry.producer.run, entry.producer.step, *encode_body(entry.output)) for entry in entries],
        )
        await connection.executemany(
            _ARTIFACT,
            [_artifact_row(entry, at, made) for entry in entries for at, made in enumerate(entry.artifacts)],
        )
        await connection.executemany(_ENTRY, [_entry_row(entry) for entry in entries])


_RUN = """
INSERT INTO runs (run, id, tenant, workflow_name, workflow_version, workflow_digest, steps_total, trigger_type,
                  cache_mode, priority, failure_policy, payload, root_run, plan, labels, request_id, principal)
VALUES ($1, $2, $3, $4, '1.0.0', '', 1, 1, 1, 0, 1, '{}', $1, '\\x11', '{}', '', '')
"""
_ARTIFACT = """
INSERT INTO artifacts (run, step, ordinal, tenant, media_type, uri, content_hash, size_bytes, filename, metadata,
                       made_from, skill_id, skill_version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '', '')
"""
_ENTRY = """
INSERT INTO step_cache (tenant, workflow_name, step_id, input_hash, skill_id, cache_version, cache_epoch, run, step,
                        output_hash, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (tenant, workflow_name, step_id, input_hash) DO UPDATE
SET skill_id = excluded.skill_id, cache_version = excluded.cache_version, cache_epoch = excluded.cache_epoch,
    run = excluded.run, step = excluded.step, output_hash = excluded.output_hash, created_at = excluded.created_at
"""


def _run_row(entry: CacheEntry) -> tuple[object, ...]:
    return entry.producer.run, entry.producer.run_id, entry.key.tenant, entry.key.workflow_name


def _artifact_row(entry: CacheEntry, ordinal: int, made: ProducedArtifact) -> tuple[object, ...]:
    return (
        entry.producer.run, entry.producer.step, ordinal, entry.key.tenant, made.media_type, made.uri,
        bytes.fromhex(made.content_hash), made.size_bytes, made.filename, orjson.dumps(made.metadata),
        orjson.dumps(made.made_from),
    )  # fmt: skip


def _entry_row(entry: CacheEntry) -> tuple[object, ...]:
    key, fingerprint = entry.key, entry.fingerprint
    return (
        key.tenant, key.workflow_name, key.step_id, bytes.fromhex(key.input_hash), fingerprint.skill_id,
        fingerprint.cache_version, fingerprint.cache_epoch, entry.producer.run, entry.producer.step,
        bytes.fromhex(entry.output_hash), entry.created_at,
    )  # fmt: skip

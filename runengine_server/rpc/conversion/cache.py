"""Cache entries and their selectors on the wire."""

import orjson

from runengine_client.pb.runengine.v1 import cache_pb2 as pb
from runengine_server.ports.cache_admin import FiledEntry
from runengine_server.rpc.conversion.json_struct import struct_of_any
from runengine_server.rpc.conversion.problems import Problems
from runengine_server.rpc.conversion.scalar import read_timestamp, timestamp_of
from runengine_server.service.messages import CacheStats, InvalidateCacheRequest


def read_invalidate_cache(proto: pb.InvalidateCacheRequest) -> InvalidateCacheRequest:
    """An InvalidateCache request.

    Raises:
        InvalidError: VALIDATION_FAILED with everything that cannot be read.
    """
    problems = Problems()
    selector = proto.selector
    request = InvalidateCacheRequest(
        key=selector.key,
        workflow_name=selector.workflow_name,
        step_id=selector.step_id,
        source_run_id=selector.source_run_id,
        skill_id=selector.skill_id,
        cache_version=selector.cache_version,
        created_before=read_timestamp(selector, "created_before", "selector.created_before", problems),
        validate_only=proto.validate_only,
        reason=proto.reason,
    )
    problems.raise_if_any()
    return request


def cache_entry_to_proto(entry: FiledEntry) -> pb.CacheEntry:
    """A cache entry, with its output where that was read."""
    return pb.CacheEntry(
        key=entry.key,
        source_run_id=entry.source_run_id,
        source_step_id=entry.source_step_id,
        skill_id=entry.fingerprint.skill_id,
        cache_version=entry.fingerprint.cache_version,
        cache_epoch=entry.fingerprint.cache_epoch,
        created_at=timestamp_of(entry.position.created_at),
        size_bytes=entry.size_bytes,
        output=None if entry.output is None else struct_of_any(orjson.loads(entry.output)),
    )


def cache_stats_to_proto(stats: CacheStats) -> pb.CacheStats:
    """How the cache served a step."""
    return pb.CacheStats(
        workflow_name=stats.workflow_name,
        step_id=stats.step_id,
        hot_hits=stats.hot_hits,
        cold_hits=stats.cold_hits,
        misses=stats.misses,
        joined=stats.joined,
        hit_rate=stats.hit_rate,
    )

"""The step cache as an administrator sees it: its values, and how they correspond to the contract."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from runengine_client.conversion import time_of
from runengine_client.keywords import refuse_unknown
from runengine_client.payload import JsonObject, from_struct
from runengine_client.pb.runengine.v1 import cache_pb2
from runengine_client.requests import timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One output the cache holds; `output` only where it was asked for."""

    key: str
    source_run_id: str
    source_step_id: str
    skill_id: str
    cache_version: str = ""
    cache_epoch: str = ""
    created_at: datetime | None = None
    size_bytes: int = 0
    output: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalidated:
    """How many cache entries were, or would be, removed, and the keys of at most 20 of them, newest first."""

    count: int
    sample_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """How the cache served one step of one workflow, over the steps of retained runs."""

    workflow_name: str
    step_id: str
    hot_hits: int = 0
    cold_hits: int = 0
    misses: int = 0
    joined: int = 0
    hit_rate: float = 0.0


class CacheFilter(TypedDict, total=False):
    """Which cache entries to list; every condition that is given must hold."""

    workflow_name: str
    step_id: str


class CacheSelector(TypedDict, total=False):
    """Which cache entries to remove: those that match every condition that is given, of which there must be one.

    Keys:
        key: the entry's exact key.
        workflow_name: its workflow.
        step_id: its step.
        source_run_id: the run that produced it.
        skill_id: the skill that produced it.
        cache_version: the skill's cache version that produced it.
        created_before: only entries filed before this moment, with a time zone.
    """

    key: str
    workflow_name: str
    step_id: str
    source_run_id: str
    skill_id: str
    cache_version: str
    created_before: datetime


def invalidate_request(selector: CacheSelector, *, dry_run: bool, reason: str) -> cache_pb2.InvalidateCacheRequest:
    """The request that removes, or only counts, entries."""
    refuse_unknown(selector, CacheSelector)
    return cache_pb2.InvalidateCacheRequest(
        selector=cache_pb2.CacheSelector(
            key=selector.get("key", ""),
            workflow_name=selector.get("workflow_name", ""),
            step_id=selector.get("step_id", ""),
            source_run_id=selector.get("source_run_id", ""),
            skill_id=selector.get("skill_id", ""),
            cache_version=selector.get("cache_version", ""),
            created_before=timestamp("created_before", selector.get("created_before")),
        ),
        validate_only=dry_run,
        reason=reason,
    )


def entry_of(message: cache_pb2.CacheEntry) -> CacheEntry:
    """A cache entry."""
    return CacheEntry(
        key=message.key,
        source_run_id=message.source_run_id,
        source_step_id=message.source_step_id,
        skill_id=message.skill_id,
        cache_version=message.cache_version,
        cache_epoch=message.cache_epoch,
        created_at=time_of(message, "created_at"),
        size_bytes=message.size_bytes,
        output=from_struct(message.output) if message.HasField("output") else None,
    )


def stats_of(message: cache_pb2.CacheStats) -> CacheStats:
    """How the cache served a step."""
    return CacheStats(
        workflow_name=message.workflow_name,
        step_id=message.step_id,
        hot_hits=message.hot_hits,
        cold_hits=message.cold_hits,
        misses=message.misses,
        joined=message.joined,
        hit_rate=message.hit_rate,
    )

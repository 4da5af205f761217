"""The CacheAdminService."""

# ruff: noqa: N802 - the contract names the methods

from typing import Any

import anyio.to_thread
import grpc

from runengine_client.pb.runengine.v1 import cache_pb2 as pb
from runengine_client.pb.runengine.v1 import cache_pb2_grpc
from runengine_server.rpc.caller import current_caller
from runengine_server.rpc.conversion.cache import cache_entry_to_proto, cache_stats_to_proto, read_invalidate_cache
from runengine_server.service.messages import ListCacheEntriesRequest
from runengine_server.service.services import Services

Context = grpc.aio.ServicerContext[Any, Any]


class CacheAdminServicer(cache_pb2_grpc.CacheAdminServiceServicer):
    """The step cache over gRPC."""

    def __init__(self, services: Services) -> None:
        """Serve these use cases."""
        self._services = services

    async def GetCacheEntry(self, request: pb.GetCacheEntryRequest, context: Context) -> pb.GetCacheEntryResponse:
        """Read one cache entry."""
        entry = await self._services.get_cache_entry(
            current_caller(), request.key, include_output=request.include_output
        )
        return pb.GetCacheEntryResponse(entry=await anyio.to_thread.run_sync(cache_entry_to_proto, entry))

    async def ListCacheEntries(
        self, request: pb.ListCacheEntriesRequest, context: Context
    ) -> pb.ListCacheEntriesResponse:
        """Read cache entries, newest first."""
        page = await self._services.list_cache_entries(
            current_caller(),
            ListCacheEntriesRequest(
                page_size=request.page_size,
                page_token=request.page_token,
                workflow_name=request.workflow_name,
                step_id=request.step_id,
            ),
        )
        return pb.ListCacheEntriesResponse(
            entries=[cache_entry_to_proto(entry) for entry in page.entries], next_page_token=page.next_page_token
        )

    async def InvalidateCache(self, request: pb.InvalidateCacheRequest, context: Context) -> pb.InvalidateCacheResponse:
        """Remove cache entries, or count what would go."""
        done = await self._services.invalidate_cache(current_caller(), read_invalidate_cache(request))
        return pb.InvalidateCacheResponse(invalidated_count=done.count, sample_keys=done.sample_keys)

    async def GetCacheStats(self, request: pb.GetCacheStatsRequest, context: Context) -> pb.GetCacheStatsResponse:
        """Count how the cache served."""
        stats = await self._services.get_cache_stats(current_caller(), request.workflow_name)
        return pb.GetCacheStatsResponse(stats=[cache_stats_to_proto(row) for row in stats])

"""Decorators over the OutputCache port: tiers, and what is told of every answer."""

from runengine_server.adapters.cache.observed import ObservedOutputCache
from runengine_server.adapters.cache.tiered import TieredOutputCache

__all__ = ["ObservedOutputCache", "TieredOutputCache"]

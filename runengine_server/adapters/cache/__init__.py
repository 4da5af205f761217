"""Decorators over the OutputCache port: tiers, artifacts that must still be there, what is told of every answer."""

from runengine_server.adapters.cache.observed import ObservedOutputCache
from runengine_server.adapters.cache.tiered import TieredOutputCache
from runengine_server.adapters.cache.verified import VerifiedOutputCache

__all__ = ["ObservedOutputCache", "TieredOutputCache", "VerifiedOutputCache"]
